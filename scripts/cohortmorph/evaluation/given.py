"""What the user gave to measure and to show a pair by: label maps, a mask, landmarks. Whoever needs some reads it here.

A file that cannot be read is a result, as a registration that fails is one: it is logged, counted (the metric
``unreadable``) and costs what needs it, of its own pairs. All others go on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.cohort.pairs import given_for, in_words
from cohortmorph.cohort.sources import in_the_list
from cohortmorph.evaluation.measures import UNREADABLE, Row, row
from cohortmorph.run.files import StrPath
from cohortmorph.run.logs import log
from cohortmorph.spatial import labels, landmarks
from cohortmorph.spatial.geometry import Grid

Points = tuple[np.ndarray, np.ndarray]


@dataclass
class Given:
    """Reads what is given for a pair, and knows what could not be read.

    Attributes
    ----------
    pair : str
        Its id.
    unreadable : list of str
        Roles: ``fixed_labels``, ``moving_labels``, ``fixed_landmarks``, ``moving_landmarks``, ``fixed_mask``.
    """

    pair: str
    unreadable: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """A row for each that cannot be read."""
        return [row(UNREADABLE.metric, role, 1) for role in self.unreadable]

    def labels(self, role: str, path: StrPath, grid: Grid) -> sitk.Image | None:
        """Return the label map, or mask, of an image on its `grid`; None if it cannot be read."""
        try:
            return labels.read(path, grid)
        except UserError as error:
            self._note(role, error, {role: path})
            return None

    def landmarks(self, fixed: StrPath, moving: StrPath) -> Points | None:
        """Return the landmarks of both images, LPS mm, each of shape (n, 3); None if they cannot be read or matched."""
        files = {"fixed_landmarks": fixed, "moving_landmarks": moving}
        try:
            tables = landmarks.read_pair(fixed, moving)
        except UserError as error:
            of_one = {role: said for role, path in files.items() if (said := _refusal(path))}
            for role, said in (of_one or dict.fromkeys(files, error)).items():
                self._note(role, said, files)
            return None
        return landmarks.points_lps_mm(tables[0]), landmarks.points_lps_mm(tables[1])

    def _note(self, role: str, error: UserError, files: Mapping[str, StrPath]) -> None:
        """Log what a reader said of a file, which is called by its image: hospitals name folders after patients."""
        self.unreadable.append(role)
        image, column = given_for(self.pair, role)
        calls = {str(path): in_words(given_for(self.pair, other)[0]) for other, path in files.items()}
        said = in_the_list(str(error), {path: calls[path] for path in sorted(calls, key=len, reverse=True)})
        log.error("%s, column %s: %s", in_words(image), column, said)
        log.error("%s: whatever needs these %s is left out, for every method alike", self.pair, column)


def _refusal(path: StrPath) -> UserError | None:
    """Return why one file of landmarks cannot be read; None if it can."""
    try:
        landmarks.read(path)
    except UserError as error:
        return error
    return None
