"""Which file a lab is in, and what it is called in a worker."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some

from netctl.cli.pytest_plugin.files import find, lab_name, renamed
from netctl.errors import InputError
from netctl.intent import loads
from netctl.model.base import NAME_PATTERN

FIRST_LAB = (Path(__file__).parents[3] / "topologies" / "first-lab.yaml").read_text()

names = some.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
workers = some.integers(0, 999).map(lambda number: f"gw{number}")


def test_the_nearest_place_comes_first(tmp_path: Path) -> None:
    for place in ("near", "far"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "lab.yaml").touch()
    (tmp_path / "far" / "other.yaml").touch()
    places = [tmp_path / "near", tmp_path / "far"]
    assert find("lab.yaml", places) == tmp_path / "near" / "lab.yaml"
    assert find("other.yaml", places) == tmp_path / "far" / "other.yaml"
    assert find(str(tmp_path / "far" / "lab.yaml"), places) == tmp_path / "far" / "lab.yaml"


def test_one_file_is_one_lab_whatever_the_way_to_it(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "lab.yaml").touch()
    assert find("../lab.yaml", [tmp_path / "tests"]) == find("lab.yaml", [tmp_path])


def test_a_file_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        find("lab.yaml", [tmp_path / "near", tmp_path / "far"])
    assert "no lab file lab.yaml" in caught.value.message
    assert str(tmp_path / "near" / "lab.yaml") in str(caught.value)
    assert str(tmp_path / "far" / "lab.yaml") in str(caught.value)
    with pytest.raises(InputError):
        find(".", [tmp_path])


@given(names, workers)
def test_names_of_workers_are_names(name: str, worker: str) -> None:
    found = lab_name(name, worker)
    assert re.fullmatch(NAME_PATTERN, found)
    assert found.endswith(f"-{worker}")


@given(some.tuples(names, names), some.tuples(workers, workers))
def test_no_two_of_them_are_the_same(name: tuple[str, str], worker: tuple[str, str]) -> None:
    if (name[0], worker[0]) != (name[1], worker[1]):
        assert lab_name(name[0], worker[0]) != lab_name(name[1], worker[1])


def test_long_names_that_differ_in_the_end_only() -> None:
    one, other = "a" * 31 + "b", "a" * 31 + "c"
    assert lab_name(one, "gw0") != lab_name(other, "gw0")
    assert lab_name("shop", "gw0") == "shop-gw0"
    assert lab_name(one, "") == one


@pytest.mark.parametrize(
    "text",
    [
        FIRST_LAB,
        "name: first-lab # the name\nhosts: {hv1: {}}\n",
        'hosts: {hv1: {}}\n"name": "first-lab"\n',
        "{hosts: {hv1: {}}, name: 'first-lab', title: 'name: x'}",
        "# name: nothing\ntitle: |\n  name: nothing\nhosts: {hv1: {}}\nname: ä\n".replace("ä", "first-lab"),
        "title: Ärger über Namen\nname: first-lab\nhosts: {hv1: {}}\n",
    ],
)
def test_renamed(text: str) -> None:
    changed = renamed(text, "other-gw0")
    assert yaml.safe_load(changed) == yaml.safe_load(text) | {"name": "other-gw0"}
    assert changed.count("\n") == text.count("\n")
    assert loads(changed).name == "other-gw0"
