"""Images and pairs: the nouns that the rest of the house speaks of, and the only place that spells their ids.

An image's id is ``{subject}-{image}``, a pair's ``{moving}_to_{fixed}``, of image ids.
"""

from collections.abc import Iterable
from dataclasses import dataclass


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
        What chooses a DICOM series in `source`.
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

    @property
    def id(self) -> str:
        """``{subject}-{name}``."""
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
    def within_subject(self) -> bool:
        """Whether both images are of one subject."""
        return self.fixed.subject == self.moving.subject


def image_id(subject: str, name: str) -> str:
    """Return the id of a subject's image."""
    return f"{subject}-{name}"


def pair_id(moving: str, fixed: str) -> str:
    """Return the id of the pair of two image ids."""
    return f"{moving}_to_{fixed}"


def images_of(pair: str) -> tuple[str, str]:
    """Return the image ids (moving, fixed) of a pair id.

    Examples
    --------
    >>> images_of("P01~T1_to_P01~CT")
    ('P01~T1', 'P01~CT')
    """
    moving, _, fixed = pair.partition("_to_")
    return moving, fixed


def subject_of(image: str) -> str:
    """Return the subject of an image id."""
    return image.partition("-")[0]


def name_of(image: str) -> str:
    """Return the name of an image id within its subject."""
    return image.partition("-")[2]


def subjects_of(pairs: Iterable[str]) -> set[str]:
    """Return the subjects that take part in pairs (ids)."""
    return {subject_of(image) for pair in pairs for image in images_of(pair)}


def kind_of(pair: str) -> str:
    """Return the names of a pair's images without the subjects'.

    Examples
    --------
    >>> kind_of("P01~T1_to_P01~CT")
    'T1_to_CT'
    """
    return pair_id(*map(name_of, images_of(pair)))
