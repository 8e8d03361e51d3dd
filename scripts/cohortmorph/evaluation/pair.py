"""Everything that is measured of a displacement of one pair, for all who measure one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from cohortmorph.cohort.layout import MADE_HERE
from cohortmorph.evaluation import metrics, plausibility, reported, surfaces
from cohortmorph.evaluation.given import Given, Points
from cohortmorph.evaluation.measures import DICE, FOLDING, SIMILARITIES, TRE, Measure, Row, row, shown_in
from cohortmorph.run.files import StrPath, read_json
from cohortmorph.run.logs import log
from cohortmorph.spatial import displacement, geometry, intensity, landmarks
from cohortmorph.spatial.geometry import Grid, to_array
from cohortmorph.spatial.ncc import LocalNcc


@dataclass(frozen=True)
class PairFiles:
    """Where a pair's data lie; "" for what it does not have.

    Attributes
    ----------
    fixed, moving : path
        Images.
    affine : path
        Transform (fixed → moving) that the methods start from.
    fixed_labels, moving_labels, fixed_landmarks, moving_landmarks : path
        Each on, or in the world of, its own image.
    fixed_mask : path
        Where to look, on the fixed image's grid.
    true_displacement : path
        In mm, LPS, on the fixed image's grid.
    """

    fixed: StrPath
    moving: StrPath
    affine: StrPath = ""
    fixed_labels: StrPath = ""
    moving_labels: StrPath = ""
    fixed_landmarks: StrPath = ""
    moving_landmarks: StrPath = ""
    fixed_mask: StrPath = ""
    true_displacement: StrPath = ""

    @classmethod
    def of(cls, files: Any) -> "PairFiles":
        """Take them from a mapping, such as a job's named inputs, which may hold others and lack some."""
        return cls(**{field.name: files.get(field.name) or "" for field in fields(cls)})

    @property
    def has_landmarks(self) -> bool:
        """Whether both images have landmarks."""
        return bool(self.fixed_landmarks and self.moving_landmarks)

    @property
    def has_labels(self) -> bool:
        """Whether both images have labels."""
        return bool(self.fixed_labels and self.moving_labels)


class PairEvaluation:
    """A pair that displacements are measured on. Its files are read once, when something first needs them.

    What is given and cannot be read is counted, and what needs it has no rows, whatever the method.

    Parameters
    ----------
    pair : str
        Id, for messages.
    files : PairFiles
    intensities : sequence of two dicts
        How the fixed and the moving image are prepared, see :func:`cohortmorph.spatial.intensity.prepare`. Similarity
        is measured on what every method saw: a CT in Hounsfield units is mostly air and bone.
    settings : dict
        ``near_landmarks_mm`` and ``surface_tolerance_mm``; :meth:`row_of` needs neither.
    """

    def __init__(
        self,
        pair: str,
        files: PairFiles,
        intensities: Sequence[Mapping[str, Any]],
        settings: Mapping[str, float] | None = None,
    ) -> None:
        self.pair, self.files, self.settings = pair, files, settings or {}
        self.given = Given(pair)
        self.fixed_intensity, self.moving_intensity = intensities

    def of_methods(
        self, displacements: Mapping[str, StrPath], reverse_displacements: Mapping[str, StrPath] | None = None
    ) -> dict[str, list[Row]]:
        """Return the rows of every method, and of what its registration reports.

        Parameters
        ----------
        displacements : dict of method to path
            Beside each lies its registration.json.
        reverse_displacements : dict of method to path, optional
            Of the pair with its images exchanged, on the moving image's grid.

        Returns
        -------
        dict of method to list of Row
            A method whose registration failed has the rows of the others, without values. What cannot be read is
            counted in the rows of each.
        """
        reverse, rows, failed = reverse_displacements or {}, {}, {}
        for method, path in displacements.items():
            registration = read_json(Path(path).parent / "registration.json")
            field = displacement.read_unless_failed(path, self.fixed_grid)
            if field is None or "failed" in registration:
                failed[method] = registration
                log.warning("%s: failed, no values: %s", method, registration.get("failed", "it has no displacement"))
                continue
            rows[method] = self.rows(field, reverse.get(method, "")) + reported.rows_of(registration)
            _say(method, rows[method])
        # Which rows a pair has can be seen from any displacement, if all its registrations failed.
        examples = list(rows.values())
        if failed and not examples:
            still = displacement.sample(sitk.Transform(3, sitk.sitkIdentity), self.fixed_grid)
            examples = [self.rows(still, next(iter(reverse.values()), ""))]
        rows |= {method: reported.rows_of_failed(registration, examples) for method, registration in failed.items()}
        return {method: rows[method] + self.given.rows for method in displacements}

    def rows(self, field: sitk.Image, reverse: StrPath = "") -> list[Row]:
        """Return all that can be measured of one displacement.

        Parameters
        ----------
        field : SimpleITK vector image
            In mm, LPS, on the fixed image's grid.
        reverse : path, optional
            The same method's displacement of the pair with its images exchanged, on the moving image's grid.
        """
        rows = self._of_landmarks(field)
        if self.files.true_displacement and self.knows_where:
            rows += metrics.field_error(field, self.true_displacement, self.mask)
        if self.maps:
            moved_map, spacing_mm = self._moved_map(field), self.fixed_grid.spacing_mm
            rows += metrics.overlap(self.maps[0], moved_map, self.structures)
            tolerance_mm = self.settings["surface_tolerance_mm"]
            compared = surfaces.compare_maps(self.fixed_surfaces, moved_map, spacing_mm, tolerance_mm)
            rows += metrics.surface_agreement(compared)
        if self.knows_where:
            moved = self._moved(field)
            rows += metrics.similarity(self.fixed_values, moved, self.mask, self.fixed_windows)
            rows += metrics.coverage(self.fixed_values, self.moving_values, moved, self.mask)
        rows += metrics.motion(field, self.affine)
        determinant = displacement.jacobian_determinant(field)
        rows += self._regularity(determinant)
        if self.fixed_map is not None:
            rows += plausibility.volume_changes(determinant, self.fixed_map)
        if self.knows_where:
            rows += plausibility.folded_volume(displacement.non_diffeomorphic_volume(field), self.mask)
            rows += self._consistency(field, reverse) if reverse else []
        return rows

    def row_of(self, measure: Measure, field: sitk.Image) -> Row | None:
        """Return what :meth:`rows` has of one measure, without the rest: of those to select by, and of folding."""
        families: dict[str, Callable[[sitk.Image], list[Row]]] = {
            TRE.metric: self._of_landmarks,
            DICE.metric: self._overlap,
            FOLDING.metric: lambda field: self._regularity(displacement.jacobian_determinant(field)),
        } | {one.metric: self._similarity for one in SIMILARITIES}
        return next((one for one in families[measure.metric](field) if one.key == measure.key), None)

    @cached_property
    def fixed(self) -> sitk.Image:
        """The fixed image, prepared."""
        image = geometry.read_image(self.files.fixed)
        return intensity.prepare_or_blank(image, self.fixed_intensity, name=f"{self.pair}, fixed image")

    @cached_property
    def moving(self) -> sitk.Image:
        """The moving image, prepared."""
        image = geometry.read_image(self.files.moving)
        return intensity.prepare_or_blank(image, self.moving_intensity, name=f"{self.pair}, moving image")

    @cached_property
    def fixed_values(self) -> np.ndarray:
        """The fixed image's intensities, shape of its grid."""
        return to_array(self.fixed)

    @cached_property
    def moving_values(self) -> np.ndarray:
        """The moving image's intensities, shape of its grid."""
        return to_array(self.moving)

    @cached_property
    def fixed_windows(self) -> LocalNcc:
        """The local windows of the fixed image."""
        return LocalNcc(self.fixed_values, metrics.LOCAL_WINDOW)

    @cached_property
    def fixed_grid(self) -> Grid:
        """The fixed image's grid."""
        return Grid.of(self.fixed)

    @cached_property
    def moving_grid(self) -> Grid:
        """The moving image's grid."""
        return Grid.of(self.moving)

    @cached_property
    def mask(self) -> np.ndarray | None:
        """Where to look, shape of the fixed grid; None: everywhere, if :attr:`knows_where`."""
        given = self._map("fixed_mask", self.fixed_grid)
        return None if given is None else to_array(given) > 0

    @property
    def knows_where(self) -> bool:
        """Whether it is known where to look: the whole image in place of a mask would give other numbers."""
        return not self.files.fixed_mask or self.mask is not None

    @cached_property
    def affine(self) -> sitk.Transform:
        """The affine transform, fixed → moving."""
        return geometry.read_affine(self.files.affine)

    @cached_property
    def true_displacement(self) -> sitk.Image:
        """The known displacement, on the fixed grid."""
        return displacement.read(self.files.true_displacement, self.fixed_grid)

    @cached_property
    def fixed_map(self) -> np.ndarray | None:
        """The fixed image's labels, shape of its grid."""
        given = self._map("fixed_labels", self.fixed_grid)
        return None if given is None else to_array(given)

    @cached_property
    def maps(self) -> tuple[np.ndarray, sitk.Image] | None:
        """The labels of both images, the fixed one's as its grid's values; None unless there are both."""
        if not self.files.has_labels:
            return None
        fixed, moving = self.fixed_map, self._map("moving_labels", self.moving_grid)
        return None if fixed is None or moving is None else (fixed, moving)

    def _map(self, role: str, grid: Grid) -> sitk.Image | None:
        """Return the label map or mask that is given in a role."""
        path = getattr(self.files, role)
        return self.given.labels(role, path, grid) if path else None

    @cached_property
    def structures(self) -> list[int]:
        """The labels that both images have; what only one has is logged."""
        assert self.maps
        shared, others = metrics.shared_structures(self.maps[0], to_array(self.maps[1]))
        if others:
            names = ", ".join(map(str, others))
            log.warning("labels in one of the two images only, which cannot be compared: %s", names)
        if not shared:
            log.warning("the two images share no label, so there is no overlap to measure")
        return shared

    @cached_property
    def fixed_surfaces(self) -> dict[int, surfaces.Surface | None]:
        """The surfaces of the fixed image's structures."""
        assert self.maps
        return surfaces.of_structures(self.maps[0], self.structures, self.fixed_grid.spacing_mm)

    @cached_property
    def points(self) -> Points | None:
        """The landmarks in the fixed and the moving image, LPS mm, each of shape (n, 3); None unless both have some."""
        if not self.files.has_landmarks:
            return None
        return self.given.landmarks(self.files.fixed_landmarks, self.files.moving_landmarks)

    @cached_property
    def near(self) -> np.ndarray:
        """Which landmarks count for TRE′, shape (n,)."""
        assert self.points
        if not self.files.affine:
            return np.zeros(len(self.points[0]), bool)
        return metrics.near_landmarks(*self.points, self.affine, self.settings["near_landmarks_mm"])

    @cached_property
    def rounding_mm(self) -> float:
        """The mean TRE that rounding of the moving landmarks explains at most; 0: nothing says that they were."""
        assert self.points
        # Those that the workflow planted are exact wherever they lie.
        planted = str(self.files.moving_landmarks).startswith(MADE_HERE)
        return 0.0 if planted else landmarks.tre_of_rounding_mm(self.points[1], self.moving_grid)

    def _moved(self, field: sitk.Image) -> np.ndarray:
        """Return the moved image; NaN, not the background that moved.nii.gz has, where the moving one ends."""
        return to_array(displacement.warp(self.moving, field, outside=np.nan))

    def _similarity(self, field: sitk.Image) -> list[Row]:
        """Return the rows of how alike the fixed and the moved image look."""
        if not self.knows_where:
            return []
        return metrics.similarity(self.fixed_values, self._moved(field), self.mask, self.fixed_windows)

    def _moved_map(self, field: sitk.Image) -> np.ndarray:
        """Return the moved labels."""
        assert self.maps
        return to_array(displacement.warp_labels(self.maps[1], field))

    def _overlap(self, field: sitk.Image) -> list[Row]:
        """Return the rows of how far the labels overlap."""
        return metrics.overlap(self.maps[0], self._moved_map(field), self.structures) if self.maps else []

    def _regularity(self, determinant: np.ndarray) -> list[Row]:
        """Return the rows of the Jacobian determinant."""
        return plausibility.regularity(determinant, self.mask) if self.knows_where else []

    def _of_landmarks(self, field: sitk.Image) -> list[Row]:
        """Return the rows of the landmarks."""
        if not self.points:
            return []
        errors_mm = metrics.landmark_errors_mm(*self.points, field)
        rows = metrics.target_registration_error(errors_mm, self.near) + metrics.robustness(*self.points, errors_mm)
        return rows + ([row("tre_of_rounding", "total", self.rounding_mm)] if self.rounding_mm else [])

    def _consistency(self, field: sitk.Image, reverse: StrPath) -> list[Row]:
        """Return the rows that compare a displacement with that of the way back."""
        back = displacement.read_unless_failed(reverse, self.moving_grid)
        errors_mm = (
            np.full(self.fixed_grid.size, np.nan) if back is None else displacement.inverse_error_mm(field, back)
        )
        return plausibility.inverse_consistency(errors_mm, self.mask)


def _say(method: str, rows: Sequence[Row]) -> None:
    """Log the figures that a reader of the log looks for."""
    values = {one.key: one.value for one in rows}
    wanted = [measure for measure in shown_in("log") if measure.key in values]
    log.info("%s: %s", method, ", ".join(f"{measure.metric} {values[measure.key]:.4g}" for measure in wanted))
    outside = values.get(("landmarks_outside", "total"))
    if outside:
        log.warning("%s: %d landmarks lie outside of the fixed image's grid", method, outside)
