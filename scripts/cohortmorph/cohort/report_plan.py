"""What is shown of a run: fused images, pictures, pages, viewer and report, and which files they are made of."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cohortmorph import UserError
from cohortmorph.cohort.pairs import Image, Pair
from cohortmorph.cohort.plan import Files, Plan


@dataclass(frozen=True, eq=False)
class ReportPlan:
    """The part of a plan that comes after the measuring."""

    plan: Plan

    # ---- fused images

    @property
    def fusion(self) -> dict[str, Any]:
        """The configuration's `fusion`, empty for none."""
        return self.plan.config["fusion"] or {}

    @cached_property
    def _fused_pairs(self) -> dict[str, list[str]]:
        """The pairs to fuse, every evaluated one of one subject's images, by the fixed image's id."""
        found: dict[str, list[str]] = {}
        for id in self.plan.evaluated if self.fusion else ():
            pair = self.plan.cohort.pair(id)
            if pair.within_subject:
                found.setdefault(pair.fixed.id, []).append(id)
        return found

    @cached_property
    def fused(self) -> list[str]:
        """The folders of the fused images."""
        images = map(self.plan.cohort.image, self._fused_pairs)
        return [self.plan.results.fused(image.subject, image.name) for image in images]

    @cached_property
    def methods_to_fuse(self) -> list[str]:
        """The method whose moved images are fused, or all networks, of which the best selected one is taken then."""
        chosen = self.fusion.get("method", "affine")
        if chosen in self.plan.skipped:
            raise UserError(f"fusion.method: {chosen} is skipped, as its tool is not installed; choose another.")
        if chosen != "selected":
            return [chosen]
        return [method.id for method in self.plan.learned] or list(self.plan.baselines)[:1] or ["affine"]

    @property
    def fuses_the_selected(self) -> bool:
        """Whether the best of the selected networks is fused."""
        return len(self.plan.learned) > 0 and self.methods_to_fuse == [method.id for method in self.plan.learned]

    def to_fuse(self, subject: str, image: str) -> Files:
        """Return the fixed image and what each method to fuse made of its subject's others."""
        results, methods = self.plan.results, self.methods_to_fuse
        pairs = self._fused_pairs[self._id(subject, image)]
        moving = [self.plan.cohort.pair(pair).moving for pair in pairs]
        return {
            "fixed": results.image(subject, image),
            "moved": [results.moved(pair, method) for pair in pairs for method in methods],
            "registrations": [results.registration(pair, method) for pair in pairs for method in methods],
            "sidecars": [results.sidecar(of.subject, of.name) for of in moving],
            "selected": self.plan.selected if self.fuses_the_selected else [],
        }

    def images_to_fuse(self, subject: str, image: str) -> list[dict[str, Any]]:
        """Return of each moving image: name, modality, intensity, sidecar, and by method moved and registration."""
        results, methods, found = self.plan.results, self.methods_to_fuse, []
        for pair in self._fused_pairs[self._id(subject, image)]:
            moving = self.plan.cohort.pair(pair).moving
            found.append(
                {
                    "name": moving.name,
                    "modality": moving.modality,
                    "intensity": self.plan.intensity_of(moving),
                    "sidecar": results.sidecar(moving.subject, moving.name),
                    "moved": {method: results.moved(pair, method) for method in methods},
                    "registration": {method: results.registration(pair, method) for method in methods},
                }
            )
        return found

    def intensity(self, subject: str, image: str) -> dict[str, Any]:
        """Return how the intensities of an image are prepared."""
        return self.plan.intensity_of(self.plan.cohort.image(self._id(subject, image)))

    def _id(self, subject: str, image: str) -> str:
        return Image(subject, image).id

    # ---- pages and pictures

    def to_draw(self, pair: str) -> Files:
        """Return what a pair's pictures are drawn from."""
        of, results, methods = self.plan.cohort.pair(pair), self.plan.results, self.plan.methods
        return {
            "fixed": self.plan.file_of(of.fixed),
            "moving": self.plan.file_of(of.moving),
            "moved": [results.moved(pair, method) for method in methods],
            "displacements": results.displacements(pair, methods),
            "affine": results.affine(pair),
            "fixed_landmarks": of.fixed.landmarks or None,
            "moving_landmarks": of.moving.landmarks or None,
            "selected": self.plan.selected,
        }

    @cached_property
    def harmonized_subjects(self) -> list[str]:
        """The subjects whose harmonizing is drawn."""
        return self.plan.cohort.subjects if self.plan.harmonizes else []

    def to_report(self) -> Files:
        """Return the pictures and pages that the report shows or links to."""
        results = self.plan.results
        figures = {name: results.figure(f"{name}.png") for name in ("methods", "runtime", "structures", "folding")}
        of_networks = {
            name: [results.figure(f"{network}/{name}.png") for network in self.plan.networks]
            for name in ("training", "selection", "weights")
        }
        return {
            **figures,
            **of_networks,
            "reviews": [results.review(f"{pair}.html") for pair in self.plan.evaluated],
            "pair_pictures": [results.figure(f"pairs/{pair}.png") for pair in self.plan.evaluated],
            "harmonize_pictures": [results.figure(f"harmonize/{of}.png") for of in self.harmonized_subjects],
            "parameter_files": self.plan.parameter_files,
        }

    # ---- the viewer

    def to_view(self) -> Files:
        """Return the images that the viewer links to, and the landmarks that it shows.

        All moved images of a pair are written by one job, so the first one stands for them: the viewer reads none.
        """
        pairs = self.pairs_to_view
        return {
            "images": sorted({pair[role]["file"] for pair in pairs for role in ("fixed", "moving")}),
            "moved": [self.plan.results.moved(pair["pair"], self.plan.methods[0]) for pair in pairs],
            "landmarks": sorted({path for pair in pairs for path in pair["landmarks"] or ()}),
        }

    @cached_property
    def pairs_to_view(self) -> list[dict[str, Any]]:
        """Of each evaluated pair: pair, split, fixed and moving (name, file, intensity), moved by method, landmarks."""
        found = []
        for id in self.plan.evaluated:
            pair = self.plan.cohort.pair(id)
            images = {
                role: {"name": of.id, "file": self.plan.file_of(of), "intensity": self.plan.intensity_of(of)}
                for role, of in (("fixed", pair.fixed), ("moving", pair.moving))
            }
            found.append(
                {
                    "pair": id,
                    "split": pair.split,
                    **images,
                    "moved": {method: self.plan.results.moved(id, method) for method in self.plan.methods},
                    "landmarks": self._landmarks(pair),
                }
            )
        return found

    @staticmethod
    def _landmarks(pair: Pair) -> list[str] | None:
        """Return the landmark files of the fixed and the moving image, None unless both have some."""
        files = [pair.fixed.landmarks, pair.moving.landmarks]
        return files if all(files) else None

    # ---- RegNet's table

    def to_tabulate(self) -> Files:
        """Return what RegNet's table is made of."""
        pairs = self.pairs_to_tabulate
        return {
            "displacements": [path for pair in pairs for path in pair["displacements"].values()],
            "affines": [pair["affine"] for pair in pairs],
            "landmarks": sorted({path for pair in pairs for path in pair["landmarks"] or ()}),
        }

    @cached_property
    def pairs_to_tabulate(self) -> list[dict[str, Any]]:
        """Of each test pair: pair, synthetic, displacements by method, affine, landmarks (fixed, moving)."""
        cohort, results = self.plan.cohort, self.plan.results
        synthetic = set(cohort.synthetic_pairs("test"))
        return [
            {
                "pair": id,
                "synthetic": id in synthetic,
                "displacements": {method: results.displacement(id, method) for method in self.plan.methods},
                "affine": results.affine(id),
                "landmarks": self._landmarks(cohort.pair(id)),
            }
            for id in cohort.pairs_in("test")
        ]
