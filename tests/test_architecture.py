"""The house as docs/architecture.md draws it: rooms, imports that lead downward, typed doors, thin scripts, all small.

What a room may import is said once, by the sentence "May import: …" of its `__init__`; these tests hold the code to it.
Every test lists all that is wrong, not the first.
"""

import ast
import graphlib
import re

import pytest
from imports_of import HOUSE, SCRIPTS, imports_of, modules, reached_from

DOCS = SCRIPTS.parent / "docs"
LIBRARY = {name: path for name, path in modules().items() if name.partition(".")[0] == HOUSE}
OTHER_SCRIPTS = {name: path for name, path in modules().items() if name.partition(".")[0] != HOUSE}
ROOMS = sorted(path.parent.name for path in (SCRIPTS / HOUSE).glob("*/__init__.py"))

MODULE_LINES = 450
FUNCTION_LINES = 60  # without its docstring
PARAMETERS = 8

# What planning, and reading tables, must not wait for.
IMAGING = {
    "SimpleITK",
    "itk",
    "ants",
    "nibabel",
    "nilearn",
    "pydicom",
    "matplotlib",
    "openvino",
    "tensorflow",
    "tf_keras",
}
TABLES_ONLY = ["evaluation.measures", "evaluation.tables"]


def rooms_allowed():
    """Return {room: the rooms that it may import}, as each room's `__init__` says."""
    allowed = {}
    for room in ROOMS:
        said = re.search(r"^May import: ([a-z, ]+)\.$", docstring(SCRIPTS / HOUSE / room / "__init__.py"), re.M)
        assert said, f"{room}/__init__.py does not say which rooms it may import (May import: …)"
        allowed[room] = set() if said[1] == "nothing" else set(said[1].split(", "))
    return allowed


def docstring(path):
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def room_of(module):
    """Return the room of a module of the library, "" for the library itself."""
    return (module.split(".") + [""])[1]


def where(path, node):
    return f"{path.relative_to(SCRIPTS)}:{node.lineno} {node.name}"


def functions(tree, classes=()):
    """Yield (function, the classes around it) of a module, without functions inside of functions."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, classes
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, (*classes, node))


def all_functions():
    """Return (file, function, the classes around it) of the library and the scripts."""
    return [(path, *found) for path in modules().values() for found in functions(ast.parse(path.read_text()))]


def parameters_of(function, classes):
    """Return the parameters of a function, without `self` and `cls`."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    named += [extra for extra in (arguments.vararg, arguments.kwarg) if extra]
    is_static = any(isinstance(one, ast.Name) and one.id == "staticmethod" for one in function.decorator_list)
    return named[1:] if classes and not is_static else named


# Rooms


def test_every_room_says_what_lives_there():
    assert len(ROOMS) == len(set(ROOMS)) >= 12
    assert set(map(room_of, LIBRARY)) - {""} == set(ROOMS)
    for room in ROOMS:
        assert len(docstring(SCRIPTS / HOUSE / room / "__init__.py").split("\n\n")) == 2, room


def test_what_rooms_may_import_leads_downward():
    allowed = rooms_allowed()
    assert set().union(*allowed.values()) <= set(ROOMS)
    graphlib.TopologicalSorter(allowed).prepare()  # raises at a circle


def test_rooms_import_only_what_they_say():
    allowed = rooms_allowed()
    wrong = [
        f"{name} imports {found}: {room_of(name)}/__init__.py allows {', '.join(sorted(allowed[room_of(name)]))}"
        for name, path in LIBRARY.items()
        for found in imports_of(path)[0]
        if room_of(name) and room_of(found) not in {"", room_of(name), *allowed[room_of(name)]}
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_the_library_knows_no_script():
    wrong = [f"{name} imports {found}" for name, path in LIBRARY.items() for found in imports_of(path)[0] - {*LIBRARY}]
    assert not wrong, wrong


def test_no_module_imports_itself_by_way_of_others():
    graphlib.TopologicalSorter({name: imports_of(path)[0] for name, path in LIBRARY.items()}).prepare()


@pytest.mark.parametrize("module", [name for name in LIBRARY if room_of(name) in ("run", "cohort")] + TABLES_ONLY)
def test_what_is_planned_and_read_in_tables_loads_no_imaging(module):
    assert not reached_from(LIBRARY[module if module in LIBRARY else f"{HOUSE}.{module}"]) & IMAGING


def test_the_picture_of_the_house_has_every_room_and_its_imports():
    drawn = (DOCS / "architecture.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)/` \|.*\| ([a-z, –]+) \|$", drawn, re.M))
    said = {room: ", ".join(sorted(rooms)) or "–" for room, rooms in rooms_allowed().items()}
    assert {room: ", ".join(sorted(cell.split(", "))) for room, cell in rows.items()} == said


# Sizes


def test_no_module_is_too_long():
    lengths = {path: len(path.read_text().splitlines()) for path in modules().values()}
    wrong = [f"{path.relative_to(SCRIPTS)}: {lines}" for path, lines in lengths.items() if lines > MODULE_LINES]
    assert not wrong, f"more than {MODULE_LINES} lines:\n" + "\n".join(wrong)


def test_no_function_is_too_long():
    wrong = []
    for path, function, _ in all_functions():
        first = function.body[0]
        is_docstring = isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str)
        lines = function.end_lineno - function.lineno + 1
        lines -= first.end_lineno - first.lineno + 1 if is_docstring else 0
        if lines > FUNCTION_LINES:
            wrong.append(f"{where(path, function)}: {lines}")
    assert not wrong, f"more than {FUNCTION_LINES} lines:\n" + "\n".join(wrong)


def test_no_function_has_too_many_parameters():
    wrong = [
        f"{where(path, function)}: {count}"
        for path, function, classes in all_functions()
        if (count := len(parameters_of(function, classes))) > PARAMETERS
    ]
    assert not wrong, f"more than {PARAMETERS} parameters:\n" + "\n".join(wrong)


# Doors


def is_public(function, classes):
    """Whether others may call it: no name on the way begins with an underscore, but for `__init__` and its like."""
    return all(not node.name.startswith("_") or node.name.endswith("__") for node in (*classes, function))


def test_every_public_function_says_the_types_of_what_it_takes_and_returns():
    wrong = []
    for path, function, classes in all_functions():
        if path not in LIBRARY.values() or not is_public(function, classes):
            continue
        lacking = [one.arg for one in parameters_of(function, classes) if one.annotation is None]
        if function.returns is None and function.name != "__init__":
            lacking.append("what it returns")
        if lacking:
            wrong.append(f"{where(path, function)}: {', '.join(lacking)}")
    assert not wrong, f"{len(wrong)} without hints:\n" + "\n".join(wrong)


# Scripts


# Chosen there, as no room may know all tools: instance optimization lives above the classical ones.
CHOOSES_A_TOOL = ("register_pair", "tool_of")


def test_a_script_is_a_docstring_and_main():
    wrong = []
    for script, path in OTHER_SCRIPTS.items():
        tree = ast.parse(path.read_text())
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)} - {"main"}
        wrong += [f"{script} defines {name}" for name in defined if (script, name) != CHOOSES_A_TOOL]
        wrong += [f"{script} imports the script {found}" for found in imports_of(path)[0] - {*LIBRARY}]
        wrong += [] if docstring(path).strip().endswith(".") else [f"{script} does not say what it does"]
    assert not wrong, "\n".join(wrong)


# Files

# How the libraries of the lock, and Python, write a file.
WRITES = {
    *("write_text", "write_bytes", "touch", "dump", "tofile", "copyfile", "copy2", "copytree", "symlink_to"),
    *("savefig", "imsave", "imwrite", "to_csv", "to_json", "to_html", "to_pickle", "to_parquet", "to_excel"),
    *("WriteImage", "WriteTransform", "ImageFileWriter", "transformwrite", "to_filename", "image_write"),
    *("savetxt", "savez", "savez_compressed", "save_as", "dcmwrite", "save_weights"),
}
SAVING_MODULES = {"np", "numpy", "nibabel", "nib", "itk", "plt", "torch"}  # whose `save` writes
# What writes elsewhere than to a path of `publishing`, by module: what, and why it may.
NOT_PUBLISHED = {
    "clinic/export.py": ({"save_as"}, "into a folder that who calls it publishes"),
    "figures/fusion.py": ({"imsave"}, "into a folder that who calls it publishes"),
    "report/viewer.py": ({"copyfile"}, "into the folder that `write` publishes"),
    "registration/niftyreg.py": ({"savetxt"}, "for a program, in a temporary folder"),
    "spatial/volume_file.py": ({"write_bytes", "symlink_to"}, "for ITK, in a temporary folder"),
    "run/tools.py": ({"symlink_to"}, "a link, which is there or not"),
    "registration/process.py": ({"os.open"}, "a log, which grows"),
    "pool/lock.py": ({"os.open"}, "a lock, which is held"),
}


def written(node):
    """Return how a call writes a file, or "" if it does not."""
    name = ast.unparse(node.func)
    last = name.rpartition(".")[2]
    if name == "write_text":  # words for a number: report/wording.py
        return ""
    if last in WRITES or (last == "save" and name.partition(".")[0] in SAVING_MODULES):
        return last
    if last != "open" or name == "webbrowser.open":
        return ""
    said = ast.unparse(node)
    if name == "os.open":
        return name if re.search("O_WRONLY|O_RDWR", said) else ""
    return last if re.search(r"""['"][rbt]*[wax+][bt+]*['"]""", said) else ""


def unpublished(tree, is_published=False):
    """Yield (call, how) for all that is written outside of `with publishing(…)`."""
    for node in ast.iter_child_nodes(tree):
        within = is_published or (
            isinstance(node, ast.With)
            and any(re.match(r"(files\.)?publishing(_folder)?\(", ast.unparse(one.context_expr)) for one in node.items)
        )
        if isinstance(node, ast.Call) and written(node) and not within:
            yield node, written(node)
        yield from unpublished(node, within)


def test_files_are_written_aside_and_renamed():
    found = {}
    wrong = []
    for path in modules().values():
        module = str(path.relative_to(SCRIPTS)).removeprefix(f"{HOUSE}/")
        for node, how in unpublished(ast.parse(path.read_text())):
            found.setdefault(module, set()).add(how)
            if how not in NOT_PUBLISHED.get(module, ({}, ""))[0]:
                wrong.append(f"{module}:{node.lineno} {how}: write it within `with publishing(…)` (run/files.py)")
    assert not wrong, "\n".join(wrong)
    assert found == {module: how for module, (how, _) in NOT_PUBLISHED.items()}  # no exception that nobody needs


@pytest.mark.parametrize(
    ("code", "is_wrong"),
    [
        ("with publishing(p) as q:\n    q.write_text('')", False),
        ("with files.publishing_folder(p) as q, x:\n    np.save(q, a)", False),
        ("p.write_text('')", True),
        ("def f():\n    with x:\n        sitk.WriteImage(a, p)", True),
        ("open(p, 'w').write('')", True),
        ("p.open(mode='ab')", True),
        ("open(p)\nopen(p, 'rb')\np.open()", False),
        ("np.save(p, a)", True),
        ("style.save(figure, p)", False),
    ],
)
def test_what_bypasses_the_one_writer_is_found(code, is_wrong):
    assert bool(list(unpublished(ast.parse(code)))) == is_wrong
