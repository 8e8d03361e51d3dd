"""The configuration: its schema and defaults, what its values mean, and what is wrong with them in words.

The Snakefile imports this module, so it needs PyYAML and jsonschema only.
"""

import difflib
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from cohortmorph.cohort.methods import Method

VARIABLE = re.compile(r"\$\{?(\w+)")  # of the environment, in data_folder
SCHEMAS = Path(__file__).resolve().parents[3] / "config" / "schemas"
SECTION_OF_ONE_NETWORK = (
    "networks have names now. Write its keys as an entry of `networks`: {voxelmorph: {kind: voxelmorph, …}}; for no "
    "network, `networks: {voxelmorph: null}`"
)
MOST_KEYS = 40  # of a block that are named beside an unknown one: all of a network
TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a block of keys",
    "null": "null",
}


def with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of `config` with the schema's defaults for missing keys, and without entries set to null.

    A second configuration file cannot delete a key, so an entry of `baselines`, `intensity` or `networks` is left out
    by null.
    """
    filled = _filled(config, schema_of("config"))
    for name in ("baselines", "intensity"):
        if isinstance(filled.get(name), dict):
            filled[name] = _without_nulls(filled[name])
    if isinstance(filled.get("networks"), dict):
        left_out = {name for name, one in filled["networks"].items() if one is None}
        if "voxelmorph" in filled and filled.pop("voxelmorph") is None:  # how no network was written before 0.3
            left_out.add("voxelmorph")
        chosen = {name: one for name, one in filled["networks"].items() if name not in left_out}
        filled["networks"] = {
            name: _filled(one, network_schema(kind)) if (kind := kind_of(one)) else one for name, one in chosen.items()
        }
    return filled


def parameter_files(chosen: Mapping[str, Any]) -> list[str]:
    """Return the parameter files of a method's entry in the configuration, as a list; points have none."""
    files = chosen.get("parameters", [])
    return [files] if isinstance(files, str) else list(files)


def networks_of(config: dict[str, Any]) -> list[Method]:
    """Return what a configuration's networks become, a method for each network, weight λ and kept epoch."""
    return [
        Method(name, weight, epoch)
        for name, chosen in config["networks"].items()
        for weight, epoch in itertools.product(chosen["weights"], chosen["kept_epochs"])
    ]


def conditional_problem(weights: Sequence[str]) -> str:
    """Return why one network cannot learn all these λ (strings), or "" if it can."""
    if len(weights) > 1 and min(map(float, weights)) > 0:
        return ""
    return (
        "one network for every λ needs at least two weights, all above 0, as λ is drawn on a logarithmic "
        f"scale between the least and the greatest; found {listed(weights)}"
    )


def variables(config: Mapping[str, Any]) -> list[str]:
    """Return the names of the environment's variables that the configuration uses: every job needs them."""
    return sorted(set(VARIABLE.findall(config["data_folder"])))


def key_paths(schema: Mapping[str, Any], before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the paths of all keys of a JSON Schema, as tuples; a free name stands as ``{title}``."""
    paths = []
    for key, value in schema.get("properties", {}).items():
        paths += [(*before, key), *key_paths(value, (*before, key))]
    if "propertyNames" in schema:
        free = (*before, f"{{{schema['propertyNames']['title']}}}")
        paths += [free, *key_paths(schema["additionalProperties"], free)]
    return paths


def configuration_keys() -> list[tuple[str, ...]]:
    """Return the paths of all keys of the configuration; those of all networks once, then each kind's own."""
    paths = key_paths(schema_of("config"))
    for name in ("network", *(f"kinds/{kind}" for kind in kinds())):
        paths += key_paths(schema_of(name), ("networks", "{network}"))
    return list(dict.fromkeys(paths))


# ---- schemas and their errors


@cache
def schema_of(name: str) -> dict[str, Any]:
    """Return a schema: config, cohort (a row of the table), pairs, network, or that of a kind of network."""
    schema = yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text(encoding="utf-8"))
    if name == "config":  # a network's keys are looked at by network_validator, which can say more of them
        del schema["properties"]["networks"]["additionalProperties"]["allOf"]
    return schema


def kinds() -> list[str]:
    """Return the kinds of networks: each has a schema of its own."""
    return sorted(path.name.partition(".")[0] for path in (SCHEMAS / "kinds").glob("*.schema.yaml"))


def kind_of(chosen: Any) -> str | None:
    """Return the kind of a network's entry in the configuration, None where it has none that is known."""
    kind = chosen.get("kind") if isinstance(chosen, dict) else None
    return kind if kind in kinds() else None


@cache
def network_schema(kind: str) -> dict[str, Any]:
    """Return the schema of a network of this kind: the keys of every network, and its own."""
    common, own = schema_of("network"), schema_of(f"kinds/{kind}")
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [*common["required"], *own["required"]],
        "properties": common["properties"] | own["properties"],
    }


def network_validator(kind: str) -> Any:
    """Return the validator of a network of this kind."""
    return _validator(network_schema(kind))


@cache
def validator_of(name: str) -> Any:
    """Return a schema's validator; 200.0 is no whole number to it (it names a file), .nan and .inf are no numbers."""
    return _validator(schema_of(name))


def _validator(schema):
    base = jsonschema.Draft202012Validator

    def integer(_, value):
        return isinstance(value, int) and not isinstance(value, bool)

    def number(checker, value):
        return integer(checker, value) or (isinstance(value, float) and math.isfinite(value))

    types = base.TYPE_CHECKER.redefine_many({"integer": integer, "number": number})
    return jsonschema.validators.extend(base, type_checker=types)(schema)


def explained(error: jsonschema.ValidationError, whole: Any) -> list[tuple[tuple[Any, ...], str]]:
    """Turn one error of jsonschema into a list of (key path, text)."""
    key, found, limit = tuple(error.absolute_path), error.instance, error.validator_value
    expected = error.schema.get("description", "") if isinstance(error.schema, dict) else ""
    shown = in_words(found)
    if key == ("voxelmorph",):
        return [(key, SECTION_OF_ONE_NETWORK)]
    if "propertyNames" in error.absolute_schema_path:
        return [((*key, found), f"this name is not allowed; expected {expected}")]
    match error.validator:
        case "required":
            why = (
                f", needed by design {whole['pairs']['design']}"
                if key == ("pairs",) and "then" in error.schema_path
                else ""
            )
            why = ", needed if enabled" if key == ("harmonize",) else why
            return [(key, f"missing key {name!r}{why}") for name in limit if name not in found]
        case "additionalProperties":
            known = list(error.schema["properties"])
            return [((*key, name), _unknown_key(str(name), key, known, found)) for name in found if name not in known]
        case "type":
            types = [limit] if isinstance(limit, str) else limit
            return [(key, f"found {shown}; expected {' or '.join(TYPES[one] for one in types)}{_hint(found, types)}")]
        case "enum":
            return [(key, f"found {shown}; allowed: {listed(limit)}{nearest(found, limit)}")]
        case "pattern" | "minLength":
            return [(key, f"found {shown if found else 'nothing'}; expected {expected}")]
        case "minimum":
            text = f"at least {limit}"
        case "maximum":
            text = f"at most {limit}"
        case "exclusiveMinimum":
            text = f"more than {limit}"
        case "minItems":
            text = f"at least {limit} in the list"
        case "maxItems":
            text = f"at most {limit} in the list"
        case "uniqueItems":
            text = "each one once"
        case "not":  # a key that the schema allows only beside another value
            name = value_at(whole, tuple(map(str, key[:-1]))).get("name")
            return [(key, f"found {shown}; it has no meaning for {name or 'the default name'}: leave it out")]
        case _:
            return [(key, error.message)]
    return [(key, f"found {shown}; expected {text}")]


def _unknown_key(name, key, known, block):
    kind = kind_of(block)
    if kind and (others := [other for other in kinds() if name in schema_of(f"kinds/{other}")["properties"]]):
        do = "do" if len(others) > 1 else "does"
        return f"the kind {kind} does not take this key; {listed(others)} {do}. Known here: {listed(known, MOST_KEYS)}"
    if near := nearest(name, known):
        return f"unknown key{near}; known here: {listed(known, MOST_KEYS)}"
    elsewhere = [path for path in configuration_keys() if path[-1] == name and path[:-1] != key]
    hint = f" (it belongs under {dotted(elsewhere[0][:-1]) or 'no other key'})" if elsewhere else ""
    return f"unknown key{hint}; known here: {listed(known, MOST_KEYS)}"


def _hint(found, types):
    if "string" in types and isinstance(found, bool):
        return "; put it in quotes, as YAML reads words like no, off and yes as true or false"
    if "string" in types and isinstance(found, int | float):
        return f'; put it in quotes, as it shall read in file names, such as "{in_words(found)}"'
    if {"number", "integer"} & set(types) and isinstance(found, str):
        # YAML 1.1 reads 1e-3, without a dot, as text.
        try:
            return f"; write {float(found):.12f}".rstrip("0").rstrip(".") + " without quotes"
        except ValueError:
            return ""
    return ""


def _filled(value, schema):
    """Return a copy of `value` with the defaults of `schema`, at all depths."""
    if not isinstance(value, dict):
        return deepcopy(value)
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties") or {}
    filled = {key: _filled(item, properties.get(key, others)) for key, item in value.items()}
    for key, part in properties.items():
        if key not in filled and "default" in part:
            filled[key] = _filled(part["default"], part)
    return filled


def _without_nulls(value):
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(item) for key, item in value.items() if item is not None}


# ---- YAML and its lines


def read_yaml(path: Path) -> tuple[yaml.Node | None, Any]:
    """Return (node tree with line numbers, content) of a YAML file."""
    text = path.read_text(encoding="utf-8-sig")
    return yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)


def key_lines(node: yaml.Node | None, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield (key path as strings, line) of every key and list item below a YAML node."""
    if isinstance(node, yaml.MappingNode):
        items = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        items = [(str(n), value, value) for n, value in enumerate(node.value)]
    else:
        items = []
    for name, marked, value in items:
        yield (*before, name), marked.start_mark.line + 1
        yield from key_lines(value, (*before, name))


def value_at(content: Any, key: Iterable[str]) -> Any:
    """Return the value at a key path (as strings), or None."""
    for name in key:
        if isinstance(content, dict):
            content = next((item for own, item in content.items() if str(own) == name), None)
        elif isinstance(content, list) and name.isdigit() and int(name) < len(content):
            content = content[int(name)]
        else:
            return None
    return content


# ---- values in words


def in_words(value: Any) -> str:
    """Return a value as a user would write it."""
    return repr(value) if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def dotted(key: Iterable[Any]) -> str:
    """Return a key path as `a.b.c`."""
    return ".".join(map(str, key))


def listed(values: Iterable[Any], most: int = 10) -> str:
    """Return values after one another, of more than `most` the number of those left out."""
    values = list(map(str, values))
    return ", ".join(values[:most]) + (f" and {len(values) - most} more" if len(values) > most else "")


def nearest(value: Any, known: Iterable[Any]) -> str:
    """Return " (did you mean …?)" for the nearest known word, or nothing."""
    by_lower = {str(word).lower(): str(word) for word in known}
    near = difflib.get_close_matches(str(value).lower(), by_lower, n=1)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""
