"""YAML as it is read here: scalars, places, aliases, limits."""

from pathlib import Path

import pytest

from netctl.errors import InputError
from netctl.intent import load, loads, source


def data(text: str) -> object:
    document = source.compose(text, "lab.yaml")
    assert not document.problems
    return document.data


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("10", 10),
        ("-3", -3),
        ("0x1f", 31),
        ("0o17", 15),
        ("010", "010"),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("off", "off"),
        ("2024-01-01", "2024-01-01"),
        ("50:60:70:10:20:30", "50:60:70:10:20:30"),
        ("12:30", "12:30"),
        ("10.10.0.0/24", "10.10.0.0/24"),
        ("'10'", "10"),
        ('"true"', "true"),
        ("!!str 10", "10"),
        ("!!int 10", 10),
        ("-", "-"),
        (".", "."),
        ("9" * 99, int("9" * 99)),
    ],
)
def test_scalars(written: str, value: object) -> None:
    found = data(f"[{written}]" if written != "-" else "['-']")
    assert found == ([value] if written else [])
    assert written == "" or type(found[0]) in (type(value), source.WrittenFloat)


def test_number_too_long_for_an_integer_is_still_read() -> None:
    data("a: " + "9" * 10000)


def test_a_float_remembers_how_it_was_written() -> None:
    assert data("10.10").text == "10.10"


def test_places_are_those_of_the_values_and_of_the_keys() -> None:
    document = source.compose(
        "name: lab\nvms:\n  web1:\n    nics:\n      - {subnet: web, ip: 10.0.0.5}\n      - x\n", "f"
    )
    assert document.place("name") == (1, 7)
    assert document.place("name", key=True) == (1, 1)
    assert document.place("vms", "web1") == (3, 3)
    assert document.place("vms", "web1", "nics", 0) == (5, 9)
    assert document.place("vms", "web1", "nics", 0, "ip") == (5, 27)
    assert document.place("vms", "web1", "nics", 0, "ip", key=True) == (5, 23)
    assert document.place("vms", "web1", "nics", 1) == (6, 9)
    assert document.place("vms", "web1", "nics", 7) == (4, 5), "the nearest that exists"
    assert document.place("nothing", "here") == (1, 1)


def test_columns_count_characters() -> None:
    assert source.compose("été: {ö: 1}", "f").place("été", "ö") == (1, 10)


def test_aliases_and_merge_keys() -> None:
    text = """
defaults: &defaults {a: 1, b: 2}
more: &more {b: 3, c: 4}
one: {<<: *defaults, b: 5}
two: {<<: [*defaults, *more], d: 6}
three: *more
"""
    assert data(text) == {
        "defaults": {"a": 1, "b": 2},
        "more": {"b": 3, "c": 4},
        "one": {"a": 1, "b": 5},
        "two": {"a": 1, "b": 2, "c": 4, "d": 6},
        "three": {"b": 3, "c": 4},
    }
    document = source.compose(text, "f")
    assert document.place("two", "c") == (3, 23), "where the merged value stands"


def test_a_quoted_merge_key_is_a_key() -> None:
    assert data('{"<<": {a: 1}}') == {"<<": {"a": 1}}


def test_merging_an_alias_twice_is_no_duplicate() -> None:
    assert data("a: &a {x: 1}\nb: {<<: *a}\nc: {<<: *a}") == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1}}


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "? " * 100_000, "[[" * 50 + "]]" * 50]
)
def test_depth_is_limited(text: str) -> None:
    with pytest.raises(InputError, match="nested more than 40 deep"):
        source.compose(text, "f")


def test_aliases_do_not_nest_deeper_than_the_text() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 100)]
    document = source.compose("\n".join(lines), "f")
    assert "nest more than 40 deep" in document.problems[0].message


def test_recursion() -> None:
    for text in ("&a [*a]", "&a {b: *a}", "a: &a {<<: *a}", "&a {b: &b [*a, *b]}", "&a [&b [*b], *a]"):
        assert source.compose(text, "f").problems


def test_billion_laughs_is_quick() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    document = source.compose("\n".join(lines), "f")
    assert document.data is None
    assert "expand to" in document.problems[0].message


def test_big_files_with_aliases_are_fine() -> None:
    text = "a: &a {x: 1, y: 2}\nb:\n" + "".join(f"  k{n}: *a\n" for n in range(10_000))
    assert len(data(text)["b"]) == 10_000


def test_byte_order_mark() -> None:
    assert source.decode(b"\xef\xbb\xbfname: lab", "f") == "name: lab"


@pytest.mark.parametrize("content", [b"\xff\xfen\x00a\x00m\x00e\x00", b"a: \xc3\x28", b"\x80"])
def test_other_encodings(content: bytes) -> None:
    with pytest.raises(InputError, match="not UTF-8"):
        source.decode(content, "f")


def test_a_surrogate_in_a_text() -> None:
    with pytest.raises(InputError, match="surrogate"):
        loads("title: a\ud800")


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    for path, words in (
        (tmp_path, "is a directory"),
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path / "none" / "lab.yaml", "no such file"),
        (f"{tmp_path}/a\0b", "cannot be read"),
        ("x" * 5000, "cannot be read"),
        ("/dev/zero", "more than 64 MiB"),
        ("/dev/null", "the file is empty"),
    ):
        with pytest.raises(InputError, match=words) as raised:
            load(path)
        assert raised.value.exit_code == 2
        assert raised.value.next_step or raised.value.problems


def test_without_libyaml() -> None:
    """The pure Python parser gives the same, where PyYAML was built without libyaml."""
    import subprocess
    import sys

    program = """
import sys
sys.modules["yaml._yaml"] = None
from netctl.intent import load, source
from netctl.errors import InputError
assert "_yaml" not in source._Parser.__module__ and source._Parser.__mro__[1].__module__ == "yaml.reader"
print(load(sys.argv[1]).ports)
for text in ("[" * 100000, "- " * 100000, "a: b: c", "a: [", "\\t- a", "a: \\0"):
    try:
        source.compose(text, "f")
    except InputError as error:
        assert error.problems
    else:
        raise AssertionError(text)
"""
    lab = Path(__file__).parents[1] / "contract" / "first-lab.yaml"
    done = subprocess.run([sys.executable, "-c", program, str(lab)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(load(lab).ports)
