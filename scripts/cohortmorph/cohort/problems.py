"""Problems of a configuration and its tables: collected, each with its place, and told all at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cohortmorph import UserError
from cohortmorph.cohort.configuration import dotted, in_words, key_lines, read_yaml, value_at

KeyPath = tuple[Any, ...]  # of the configuration: ("networks", "voxelmorph", "weights", 0)


@dataclass(frozen=True, order=True)
class Problem:
    """What is wrong, and where: the file as the user calls it, and the line (0: none)."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file} line {self.line}, {self.text}" if self.line else f"{self.file}, {self.text}"


class Problems:
    """Collects every problem, so that later steps go on with what was found to be sound.

    Parameters
    ----------
    config : dict
        The merged configuration.
    config_files : sequence of path
        The files it was merged from, the strongest last; used to say in which line a key stands.
    """

    def __init__(self, config: dict[str, Any], config_files: Iterable[str | Path]):
        self.config = config
        self.found: set[Problem] = set()
        self.broken: set[KeyPath] = set()  # key paths of the configuration that later steps must not rely on
        self.files = [self._config_file(Path(file)) for file in config_files]

    def _config_file(self, path: Path) -> tuple[str, dict[KeyPath, int], Any]:
        """Return (name, {key path: line}, content) of a configuration file."""
        name, content = shown_path(path), None
        lines: dict[KeyPath, int] = {}
        try:
            root, content = read_yaml(path)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            self.in_file(name, 0, f"not readable as YAML: {' '.join(str(error).split())}")
        else:
            for key, line in key_lines(root):
                if key in lines:
                    text = f"{dotted(key)}: stands already in line {lines[key]}; YAML would silently take the last one"
                    self.in_file(name, line, text)
                lines[key] = line
        return name, lines, content

    def _place(self, key: KeyPath) -> tuple[str, int]:
        """Return (file, line) of a key path: the last file that holds it, or its nearest parent."""
        if not self.files:
            return "configuration", 0
        for depth in range(len(key), 0, -1):
            part = tuple(map(str, key[:depth]))
            for name, lines, content in reversed(self.files):
                if part in lines:
                    value = value_at(self.config, part)
                    typed_here = isinstance(value, dict) or in_words(value) == in_words(value_at(content, part))
                    return (name, lines[part]) if typed_here else ("command line (--config)", 0)
            if depth == len(key) and value_at(self.config, part) is not None:
                return ("command line (--config)", 0)
        return self.files[0][0], 1

    def in_file(self, file: str | Path, line: int, text: str) -> None:
        """Note a problem in a line of a file."""
        self.found.add(Problem(shown_path(file), int(line), text))

    def in_config(self, key: KeyPath, text: str) -> None:
        """Note a problem with a key of the configuration."""
        self.found.add(Problem(*self._place(key), f"{dotted(key)}: {text}" if key else text))

    def sound(self, *keys: str) -> bool:
        """Say whether these dotted keys, the blocks around and the keys below them obey the schema."""
        paths: Sequence[KeyPath] = [tuple(key.split(".")) for key in keys]
        pairs = [(path, broken) for path in paths for broken in self.broken]
        return not any(path[: len(broken)] == broken[: len(path)] for path, broken in pairs)

    def raise_all(self) -> None:
        """Raise a UserError with all problems, one a line, sorted by file and line, if there are any."""
        if self.found:
            count = "1 problem" if len(self.found) == 1 else f"{len(self.found)} problems"
            lines = [f"{count} in the configuration; nothing was started.", *map(str, sorted(self.found))]
            raise UserError("\n".join(lines))


def shown_path(path: str | Path) -> str:
    """Return a path as its user calls it: below the working folder seen from there."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
