"""What Python files import, read from their text: at any depth, also inside of functions, nothing being loaded."""

import ast
import functools
import sys
from collections.abc import Collection
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"
HOUSE = "cohortmorph"


def modules(folder: Path = SCRIPTS) -> dict[str, Path]:
    """Return {dotted name: file} of the library and the scripts; a room is the name of its `__init__`."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def imports_of(path: Path, folder: Path = SCRIPTS) -> tuple[frozenset[str], frozenset[str]]:
    """Return what a file imports: (modules of the house by dotted name, third-party packages).

    Raises
    ------
    AssertionError
        If the house does not have what is imported from it: then nothing that is said of imports could be trusted.
    """
    known, house, others = modules(folder), set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: the house imports by full names"
            named = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        for module, name in named:
            if module.partition(".")[0] != HOUSE and module not in known:
                others |= {module.partition(".")[0]} - sys.stdlib_module_names
            elif f"{module}.{name}" in known:
                house.add(f"{module}.{name}")
            else:
                has_it = module in known and (name is None or name in _defined_in(known[module]))
                assert has_it, f"{path}:{node.lineno}: there is no {module}{f'.{name}' if name else ''}"
                house.add(module)
    return frozenset(house), frozenset(others)


@functools.cache
def _defined_in(path: Path) -> frozenset[str]:
    """Return the names that a module defines or imports at its top."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        names |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return frozenset(names)


def reached_from(path: Path, folder: Path = SCRIPTS, without: Collection[Path] = ()) -> set[str]:
    """Return all third-party packages that a file and what it imports of the house name, at any depth.

    What only modules `without` import is left out.
    """
    known, found, waiting, seen = modules(folder), set(), [path], set(without)
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        house, others = imports_of(path, folder)
        found |= others
        # Python runs the `__init__` of every package on the way.
        parts = [name.split(".") for name in house]
        waiting += [known[".".join(part[:n])] for part in parts for n in range(1, len(part) + 1)]
    return found
