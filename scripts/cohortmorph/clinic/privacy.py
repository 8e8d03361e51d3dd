"""Whoever reads a hospital's file says nothing of it but its subject and image: libraries quote paths and headers."""

import logging
import os
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import SimpleITK as sitk

from cohortmorph import UserError


@contextmanager
def without_identity(name: str) -> Iterator[None]:
    """Keep what libraries say of a file to themselves: it may hold its path or its header.

    Warnings are dropped. A :class:`~cohortmorph.UserError` passes; any other error becomes a RuntimeError that says its
    kind and where in the code it rose, but not its text.

    Parameters
    ----------
    name : str
        How messages call the file: by subject and image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _silence_libraries()
        try:
            yield
        except UserError:
            raise
        except OSError as error:
            raise UserError(f"{name}: its files cannot be read: {os.strerror(error.errno or 5)}.") from None
        except Exception as error:
            places = traceback.extract_tb(error.__traceback__)[-4:]
            where = ", ".join(f"{Path(place.filename).name} line {place.lineno}" for place in places)
            kind = type(error).__name__
            raise RuntimeError(f"{name}: {kind} in {where} (its text is withheld, as it may name a patient)") from None


def _silence_libraries() -> None:
    """pydicom quotes values of the header in its log, ITK prints paths on stderr."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    sitk.ProcessObject.GlobalWarningDisplayOff()
