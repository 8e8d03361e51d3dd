"""Images and pairs: the nouns that the rest of the house speaks of, and the only place that spells their ids.

Subjects and images are called as the user calls them: letters, digits, hyphens, underscores and dots. An image's id is
``{subject}-{image}`` or, where one of them has a hyphen of its own, ``{subject}~{image}``; a pair's
``{moving}_to_{fixed}``, of image ids. No user's id has a ``~`` or gives rise to a ``_to_``, so that every id can be
taken apart again.
"""

from collections.abc import Iterable
from dataclasses import dataclass

# What a user may call a subject or an image, and the ids made of it, as regular expressions; the table's and the
# configuration's schemas say it in full.
ID = "[A-Za-z0-9][A-Za-z0-9._-]*"
PAIR_ID = f"{ID}[-~]{ID}_to_{ID}[-~]{ID}"

# Columns whose files belong to one subject. Not masks and fiducials: images on one grid may share a mask, and patients
# in one frame its markers.
OF_ONE_SUBJECT = ("source", "labels", "landmarks")


@dataclass(frozen=True)
class Image:
    """One scan of a subject, a row of the cohort table. Paths are expanded; what the table leaves empty is "".

    Attributes
    ----------
    subject, name : str
        ``P01``, ``CT``.
    modality : str
        Key of the configuration's ``intensity``.
    source : str
        DICOM folder or image file.
    labels, landmarks, mask, fiducials : str
        Files.
    split : str
        train, validation or test.
    series : str
        What chooses a DICOM series in `source`, or a volume of a file.
    geometry : str
        ``sform`` or ``qform``: which of the two places of a NIfTI file holds.
    """

    subject: str
    name: str
    modality: str = ""
    source: str = ""
    labels: str = ""
    landmarks: str = ""
    mask: str = ""
    fiducials: str = ""
    split: str = ""
    series: str = ""
    geometry: str = ""

    @property
    def id(self) -> str:
        """``{subject}-{name}``, see :func:`image_id`."""
        return image_id(self.subject, self.name)


@dataclass(frozen=True)
class Pair:
    """A fixed and a moving image.

    Attributes
    ----------
    fixed, moving : Image
    frame : Image
        On whose grid networks see both.
    split : str
        train, validation or test.
    """

    fixed: Image
    moving: Image
    frame: Image
    split: str

    @property
    def id(self) -> str:
        """``{moving}_to_{fixed}``."""
        return pair_id(self.moving.id, self.fixed.id)

    @property
    def of_two_modalities(self) -> bool:
        """Whether the images look different where they show the same."""
        return self.fixed.modality != self.moving.modality

    @property
    def within_subject(self) -> bool:
        """Whether both images are of one subject."""
        return self.fixed.subject == self.moving.subject


def image_id(subject: str, name: str) -> str:
    """Return the id of a subject's image.

    Examples
    --------
    >>> image_id("P01", "CT"), image_id("LUNG1-001", "CT")
    ('P01-CT', 'LUNG1-001~CT')
    """
    return f"{subject}{'~' if '-' in subject + name else '-'}{name}"


def pair_id(moving: str, fixed: str) -> str:
    """Return the id of the pair of two image ids."""
    return f"{moving}_to_{fixed}"


def images_of(pair: str) -> tuple[str, str]:
    """Return the image ids (moving, fixed) of a pair id.

    Examples
    --------
    >>> images_of("P01-T1_to_P01-CT")
    ('P01-T1', 'P01-CT')
    """
    moving, _, fixed = pair.partition("_to_")
    return moving, fixed


def subject_of(image: str) -> str:
    """Return the subject of an image id."""
    return _parts(image)[0]


def name_of(image: str) -> str:
    """Return the name of an image id within its subject."""
    return _parts(image)[1]


def in_words(image: str) -> str:
    """Return how messages call the image of an id.

    Examples
    --------
    >>> in_words("P01-CT")
    'subject P01, image CT'
    """
    return f"subject {subject_of(image)}, image {name_of(image)}"


def given_for(pair: str, role: str) -> tuple[str, str]:
    """Return (image id, column of the cohort table) of what is given for a pair's image in a role.

    Examples
    --------
    >>> given_for("P01-T1_to_P01-CT", "fixed_labels")
    ('P01-CT', 'labels')
    """
    side, _, column = role.partition("_")
    moving, fixed = images_of(pair)
    return {"fixed": fixed, "moving": moving}[side], column


def _parts(image: str) -> tuple[str, str]:
    subject, _, name = image.partition("~" if "~" in image else "-")
    return subject, name


def subjects_of(pairs: Iterable[str]) -> set[str]:
    """Return the subjects that take part in pairs (ids)."""
    return {subject_of(image) for pair in pairs for image in images_of(pair)}


def kind_of(pair: str) -> str:
    """Return the names of a pair's images without the subjects'.

    Examples
    --------
    >>> kind_of("P01-T1_to_P01-CT")
    'T1_to_CT'
    """
    return pair_id(*map(name_of, images_of(pair)))
