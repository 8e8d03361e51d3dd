"""The paths of the cohort table: expanded, and checked that something lies there or is made by the workflow."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cohortmorph.cohort.configuration import VARIABLE, listed
from cohortmorph.cohort.layout import ENDINGS, MADE_HERE, PHANTOM, PHANTOM_IMAGES, SYNTHETIC, SYNTHETIC_ENDINGS
from cohortmorph.cohort.on_disk import OnDisk
from cohortmorph.cohort.pairs import ID, Image
from cohortmorph.cohort.problems import Problems
from cohortmorph.cohort.same_file import check_same_files
from cohortmorph.cohort.table import PATH_COLUMNS, CohortTable

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")


@dataclass(frozen=True)
class Paths:
    """Expands and checks the paths of a table.

    Attributes
    ----------
    config : dict
        With defaults.
    files_are_here : bool
        Whether the files of the table are looked at.
    """

    config: dict[str, Any]
    files_are_here: bool
    problems: Problems

    def check(self, table: CohortTable) -> OnDisk:
        """Expand the paths of the table in place, note what is wrong with them, and return what lies there."""
        folder = self._data_folder(table)
        typed_images = dict(table.images)
        for column in PATH_COLUMNS:
            for image in list(table.images.values()):
                typed = getattr(image, column)
                if typed.startswith(PHANTOM):
                    self._phantom_path(table, image, column, typed)
                elif typed.startswith(SYNTHETIC):
                    self._synthetic_path(table, image, column, typed)
                elif typed and (folder is not None or Path(typed).is_absolute()):
                    path = Path(folder or ".", typed)
                    table.change(image, **{column: str(path)})
                    if self.files_are_here and (text := _path_problem(column, path)):
                        table.in_row(image, column, f"found {typed!r}, {text}")
        on_disk = OnDisk()
        if self.files_are_here:
            paths = [getattr(image, column) for image in table.images.values() for column in PATH_COLUMNS]
            on_disk.look_at(path for path in paths if path and not path.startswith(MADE_HERE))
        check_same_files(table, typed_images, on_disk if self.files_are_here else None)
        return on_disk

    def _data_folder(self, table: CohortTable) -> str | None:
        """Return the expanded data folder, or None if it is no folder (which is noted)."""
        if not self.problems.sound("data_folder"):
            return None
        typed = self.config["data_folder"]
        folder = str(Path(os.path.expandvars(typed)).expanduser())
        if unset := VARIABLE.findall(folder):
            text = f"found {typed!r}, but the environment has no variable {listed(unset)}; export it first"
            self.problems.in_config(("data_folder",), text)
            return None
        paths = [getattr(image, column) for image in table.images.values() for column in PATH_COLUMNS]
        relative = [path for path in paths if path and not path.startswith(MADE_HERE) and not Path(path).is_absolute()]
        if self.files_are_here and relative and not Path(folder).is_dir():
            self.problems.in_config(("data_folder",), f"found {typed!r}, which is no folder ({folder})")
            return None
        return folder

    def _phantom_path(self, table: CohortTable, image: Image, column: str, typed: str) -> None:
        if self.config["phantom"] is None:
            text = f"found {typed!r}, but the configuration has no `phantom` that would make it"
            table.in_row(image, column, text)
        ending = "" if column == "source" else ENDINGS.get(column)
        *others, last = PHANTOM_IMAGES
        made = f"{PHANTOM}{{subject}}/{{{', '.join(others)} or {last}}}{ending}"
        pattern = f"{re.escape(PHANTOM)}{ID}/({'|'.join(PHANTOM_IMAGES)}){re.escape(ending or '')}"
        if ending is None:
            text = f"found {typed!r}, but the phantom makes no {column}; leave the cell empty"
            table.in_row(image, column, text)
        elif not re.fullmatch(pattern, typed):
            table.in_row(image, column, f"found {typed!r}, but of this kind the phantom makes {made} only")

    def _synthetic_path(self, table: CohortTable, image: Image, column: str, typed: str) -> None:
        chosen = self.config["synthetic"].get(image.subject)
        ending = SYNTHETIC_ENDINGS.get(column)
        made = [f"{SYNTHETIC}{image.subject}/{role}{ending}" for role in ("fixed", "moving")]
        if chosen is None:
            text = f"found {typed!r}, but `synthetic` in the configuration does not have subject {image.subject}"
            table.in_row(image, column, text)
        elif ending is None:
            text = f"found {typed!r}, but synthetic pairs have no {column}; leave the cell empty"
            table.in_row(image, column, text)
        elif typed not in made:
            table.in_row(image, column, f"found {typed!r}, but of this kind only {listed(made)} are made")
        elif chosen["image"] not in table.images:
            text = f"found {chosen['image']!r}, which is no image of the cohort table; expected {{subject}}-{{image}}"
            self.problems.in_config(("synthetic", image.subject, "image"), text)


def _path_problem(column: str, path: Path) -> str | None:
    """Return what is wrong with an existing or missing path of the table, or None."""
    if not path.exists():
        return f"which does not exist ({path})"
    if column != "source":
        return None if path.is_file() else "which is a folder; expected a file"
    if path.is_dir():
        return None if any(path.iterdir()) else "which is an empty folder; expected DICOM slices in it"
    if not path.name.lower().endswith(IMAGE_SUFFIXES):
        return f"which is neither a folder of DICOM slices nor a file ending in {', '.join(IMAGE_SUFFIXES)}"
    return None
