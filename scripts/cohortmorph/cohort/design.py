"""The pair design: which images are registered to which, by the configuration's `pairs`."""

from dataclasses import dataclass, field
from typing import Any

from cohortmorph.cohort.configuration import listed, nearest
from cohortmorph.cohort.pairs import Image, Pair, image_id, pair_id
from cohortmorph.cohort.problems import KeyPath, Problems
from cohortmorph.cohort.table import CohortTable, Row, read_rows


@dataclass
class Design:
    """Makes the pairs of a checked table, and notes what stands in the way.

    Attributes
    ----------
    chosen : dict
        The configuration's `pairs`, with defaults.
    table : CohortTable
    problems : Problems
    reference : Image or None
        Of the designs to-reference and between-subjects.
    pairs_are_known : bool
        Whether all pairs could be made, so that lacking ones can be complained of.
    """

    chosen: dict[str, Any]
    table: CohortTable
    problems: Problems
    reference: Image | None = None
    pairs_are_known: bool = field(default=True)

    def pairs(self) -> list[Pair]:
        """Return the pairs of the design."""
        makers = {
            "within-subject": self._within_subject,
            "to-reference": self._to_reference,
            "between-subjects": self._between_subjects,
            "table": self._listed_pairs,
        }
        return makers[self.chosen["design"]]()

    def images_to_draw_from(self) -> list[Image]:
        """Return the train images of which training draws its pairs (between-subjects), none for other designs."""
        if self.chosen["design"] != "between-subjects":
            return []
        return [image for image in self.table.named(self.chosen["image"]) if image.split == "train"]

    def check_harmonized(self, fixed: str) -> None:
        """Note every subject without the image to which harmonizing turns its others."""
        known = self._known_image(("harmonize", "fixed"), fixed)
        # The design within-subject asks for the same image, and says so.
        if known and (self.chosen["design"] != "within-subject" or self.chosen["fixed"] != fixed):
            self._each_subject_has("harmonize.fixed", [fixed], fixed)

    def _known_image(self, key: KeyPath, name: str) -> bool:
        """Say whether any subject has an image of this name; if none, note it at the configuration's key."""
        known = self.table.names
        if name in known:
            return True
        self.pairs_are_known = False
        text = f"found {name!r}, an image that no subject has; known: {listed(known)}{nearest(name, known)}"
        self.problems.in_config(key, text)
        return False

    def _each_subject_has(self, key: str, names: list[str], wanted: str) -> None:
        """Note every subject that has none of the images `names`."""
        for subject, images in self.table.by_subject().items():
            has = [image.name for image in images]
            if not set(names) & set(has) and subject not in self.table.unclear_subjects:
                text = f"no image {wanted} ({key}), only {listed(has)}; add its row, or start the subject's lines with "
                self.table.in_row(images[0], "image", text + "#")

    def _within_subject(self) -> list[Pair]:
        fixed, moving = self.chosen["fixed"], self.chosen["moving"]
        if fixed in moving:
            text = f"found {fixed!r}, which is the fixed image too"
            self.problems.in_config(("pairs", "moving", moving.index(fixed)), text)
        known = self._known_image(("pairs", "fixed"), fixed)
        known_moving = [name for n, name in enumerate(moving) if self._known_image(("pairs", "moving", n), name)]
        if not known:
            return []
        self._each_subject_has("pairs.fixed", [fixed], fixed)
        if known_moving:
            self._each_subject_has("pairs.moving", known_moving, " or ".join(moving))
        pairs = []
        for images in self.table.by_subject().values():
            by_name = {image.name: image for image in images}
            if fixed in by_name:
                frame = by_name[fixed]
                others = [by_name[name] for name in known_moving if name in by_name and name != fixed]
                pairs += [Pair(frame, other, frame, images[0].split) for other in others]
        return pairs

    def _reference_and_images(self) -> list[Image]:
        """Find the reference, and return the images of its name in table order."""
        name, subject = self.chosen["image"], self.chosen["reference"]
        if subject not in self.table.subjects:
            self.pairs_are_known = False
            text = f"found {subject!r}, which is no subject of the table; known: {listed(self.table.subjects)}"
            self.problems.in_config(("pairs", "reference"), text + nearest(subject, self.table.subjects))
        if not self._known_image(("pairs", "image"), name):
            return []
        self._each_subject_has("pairs.image", [name], name)
        self.reference = self.table.images.get(image_id(subject, name))
        if self.reference and self.reference.split not in ("train", ""):
            text = (
                f"found {subject!r}, a {self.reference.split} subject; expected a train subject, as it shapes every "
                "registration"
            )
            self.problems.in_config(("pairs", "reference"), text)
        return self.table.named(name)

    def _to_reference(self) -> list[Pair]:
        images, reference = self._reference_and_images(), self.reference
        if reference is None:
            return []
        return [Pair(reference, image, reference, image.split) for image in images if image != reference]

    def _between_subjects(self) -> list[Pair]:
        images, count = self._reference_and_images(), self.chosen["moving_per_fixed"]
        pairs = []
        for split in ("validation", "test"):
            judged = [image for image in images if image.split == split]
            if 0 < len(judged) <= count:
                self.pairs_are_known &= split != "validation"
                found = "1 subject" if len(judged) == 1 else f"{len(judged)} subjects"
                text = f"column split: {split} has {found} with image {self.chosen['image']}; "
                self.table.in_header(text + f"pairs.moving_per_fixed {count} needs at least {count + 1}")
                continue
            # Groups that share no subject, as statistics count groups; the last one takes those left over.
            groups = max(1, len(judged) // (count + 1))
            for n in range(groups):
                group = judged[n * (count + 1) : (n + 1) * (count + 1) if n < groups - 1 else None]
                for place, fixed in enumerate(group):
                    moving = [group[(place + step) % len(group)] for step in range(1, count + 1)]
                    pairs += [Pair(fixed, image, self.reference or fixed, split) for image in moving]
        return pairs

    def _listed_pairs(self) -> list[Pair]:
        path = self.chosen["table"]
        read = read_rows(path, "pairs", ("pairs", "table"), self.problems)
        self.pairs_are_known = read is not None and all(all(row.cells.values()) for row in read.rows)
        seen: dict[str, int] = {}
        pairs = []
        for row in read.rows if read else ():
            fixed, moving = self._listed_image(row, "fixed"), self._listed_image(row, "moving")
            if not fixed or not moving:
                continue
            name = pair_id(moving.id, fixed.id)
            if fixed == moving:
                text = f"column moving_image: {moving.id} would be registered to itself"
                self.problems.in_file(path, row.line, text)
            elif name in seen:
                text = f"column moving_image: {name} stands already in line {seen[name]}"
                self.problems.in_file(path, row.line, text)
            elif fixed.split and moving.split and fixed.split not in (moving.split, "train"):
                text = (
                    f"column fixed_subject: {fixed.id} is {fixed.split}, {moving.id} is {moving.split}; expected one "
                    "split for both, or a train subject as the fixed one"
                )
                self.problems.in_file(path, row.line, text)
            else:
                pairs.append(Pair(fixed, moving, fixed, moving.split))
            seen.setdefault(name, row.line)
        return pairs

    def _listed_image(self, row: Row, role: str) -> Image | None:
        """Return the image that a row of the pairs table names, or None (noted) if the cohort has it not."""
        subject, name = row[f"{role}_subject"], row[f"{role}_image"]
        if not subject or not name:
            return None
        if image := self.table.images.get(image_id(subject, name)):
            return image
        self.pairs_are_known = False
        images = [image.name for image in self.table.by_subject().get(subject, [])]
        if images:
            text = f"column {role}_image: found {name!r}; subject {subject} has {listed(images)}{nearest(name, images)}"
        else:
            near = nearest(subject, self.table.subjects)
            text = f"column {role}_subject: found {subject!r}, which is no subject of the cohort table{near}"
        self.problems.in_file(self.chosen["table"], row.line, text)
        return None
