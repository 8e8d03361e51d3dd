"""What somebody needs to make the results again: versions, commit, seed, configuration, parameter files."""

import hashlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from cohortmorph.run.files import StrPath

PACKAGES = (
    "itk-elastix", "matplotlib", "neurite", "nibabel", "numpy", "pandas", "pydicom", "scipy", "SimpleITK", "snakemake",
    "tensorflow", "tensorflow-cpu", "tf-keras", "voxelmorph",
)  # fmt: skip


@dataclass(frozen=True)
class Provenance:
    """How results were made.

    Attributes
    ----------
    commit : str
        The workflow's git commit; "" if it is unknown.
    seed : int
    config : dict
        The configuration, see :func:`without_folders`.
    parameter_texts : dict of file name to text
        The registration methods' parameter files.
    parameter_hashes : dict of file name to text
        Their SHA-256.
    """

    commit: str
    seed: int
    config: Mapping[str, Any]
    parameter_texts: Mapping[str, str]
    parameter_hashes: Mapping[str, str]

    @classmethod
    def of(
        cls, config: Mapping[str, Any], seed: int, commit: str = "", parameter_files: Iterable[StrPath] = ()
    ) -> "Provenance":
        """Note how results were made by a configuration (with this machine's folders) and parameter files (paths)."""
        files = {Path(path).name: Path(path) for path in parameter_files}
        texts = {name: path.read_text() for name, path in files.items()}
        hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
        return cls(commit, seed, without_folders(config), texts, hashes)

    @property
    def python(self) -> str:
        """Python's version."""
        return platform.python_version()

    @property
    def packages(self) -> dict[str, str]:
        """The versions of the :data:`PACKAGES` that are installed."""
        return {package: found for package in PACKAGES if (found := _version(package))}

    @property
    def config_yaml(self) -> str:
        """The configuration as a YAML file."""
        return yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True)

    @property
    def facts(self) -> dict[str, Any]:
        """All of it for provenance.json, of parameter files the hashes."""
        return {
            "commit": self.commit or None,
            "python": self.python,
            "packages": self.packages,
            "seed": self.seed,
            "config": self.config,
            "parameter_files": self.parameter_hashes,
        }


def _version(package: str) -> str | None:
    """Return an installed package's version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def without_folders(config: Any) -> Any:
    """Return the configuration without folders of this machine, since their names may name people.

    The data folder is left out; of other absolute paths only the file's name stays.
    """
    if isinstance(config, dict):
        return {str(key): without_folders(value) for key, value in config.items() if key != "data_folder"}
    if isinstance(config, list | tuple):
        return [without_folders(value) for value in config]
    if isinstance(config, str) and config.startswith(("/", "~", "$")):
        return Path(config).name
    return config
