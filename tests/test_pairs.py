"""Ids of subjects, images and pairs: as hospitals and BIDS write them, and always to be taken apart again."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohortmorph.cohort.configuration import schema_of
from cohortmorph.cohort.pairs import (
    ID,
    PAIR_ID,
    image_id,
    images_of,
    kind_of,
    name_of,
    pair_id,
    subject_of,
    subjects_of,
)

PATTERN = schema_of("cohort")["properties"]["subject"]["pattern"]
ids = st.from_regex(re.compile(r"[A-Za-z0-9_.to-]{1,12}", re.ASCII), fullmatch=True).filter(re.compile(PATTERN).search)


@given(*[ids] * 4)
def test_a_pair_s_id_is_taken_apart_into_what_it_was_made_of(subject, name, other, other_name):
    moving, fixed = image_id(subject, name), image_id(other, other_name)
    pair = pair_id(moving, fixed)
    assert images_of(pair) == (moving, fixed)
    assert (subject_of(moving), name_of(moving)) == (subject, name)
    assert subjects_of([pair]) == {subject, other} and kind_of(pair) == f"{name}_to_{other_name}"
    assert re.fullmatch(PAIR_ID, pair), "the rules' wildcard takes it"


def test_ids_without_a_hyphen_are_joined_by_one():
    assert pair_id(image_id("P01", "T1"), image_id("P_01", "12.3")) == "P01-T1_to_P_01-12.3"
    assert pair_id(image_id("sub-01", "T1"), image_id("P01", "T1-ax")) == "sub-01~T1_to_P01~T1-ax"


@pytest.mark.parametrize("id", ["LUNG1-001", "sub-01", "P_01", "12.3", "to", "to_x", "T1_tof", "a.nii.gz", "0"])
def test_what_hospitals_write_is_taken(id):
    assert re.search(PATTERN, id) and re.fullmatch(ID, id)


@pytest.mark.parametrize(
    "id",
    [
        "",
        "../x",
        "a/b",
        "a b",
        "a\n",
        "a\nb",
        "-a",
        ".a",
        "_a",
        "a~b",
        "a:b",
        "é",
        "a_to_b",
        "a_to",
        "a_labels",
        "a" * 49,
    ],
)
def test_what_could_be_misread_is_refused(id):
    assert not re.search(PATTERN, id)


def test_every_id_of_the_schemas_is_of_this_form():
    names = {"cohort": ["subject", "image"], "pairs": list(schema_of("pairs")["properties"])}
    found = [schema_of(kind)["properties"][name]["pattern"] for kind, of in names.items() for name in of]
    config = schema_of("config")["properties"]
    found += [config["synthetic"]["propertyNames"]["pattern"], config["harmonize"]["properties"]["fixed"]["pattern"]]
    pairs = config["pairs"]["properties"]
    found += [pairs[name]["pattern"] for name in ("fixed", "image", "reference")]
    found.append(pairs["moving"]["items"]["pattern"])
    assert set(found) == {PATTERN}
