"""The command `matrix` on made-up results: table, signs, reasons, JSON, SVG, and what it refuses."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

import dataplane.checks
from dataplane.checks import Reach
from netctl.cli import operations, output
from netctl.cli.app import run
from netctl.intent import loads

SVG = "{http://www.w3.org/2000/svg}"


def lab(vms: int) -> str:
    names = "\n".join(f"  vm{number}: {{nics: [{{subnet: web}}]}}" for number in range(1, vms + 1))
    return (
        "name: shop\nhosts: {hv1: {}}\nsubnets: {web: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}}\n"
        f"vms:\n{names}\n  two: {{nics: [{{subnet: web}}, {{subnet: web}}]}}\n"
    )


def reached(one: str, other: str) -> Reach:
    """vm2 gets nothing; the two NICs of one VM are not tried."""
    if one.partition("/")[0] == other.partition("/")[0]:
        return Reach(one, other, None, None, "both are NICs of two")
    if other == "vm2/0":
        return Reach(one, other, False, None, f"never arrived at {other}")
    return Reach(one, other, True, 0.5, f"arrived at {other} after 0.20 ms, answer back after 0.50 ms")


Make = Callable[[int], list[tuple[Any, ...]]]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Make:
    output.stdout.cache_clear()
    output.stderr.cache_clear()

    def make(vms: int) -> list[tuple[Any, ...]]:
        intent = loads(lab(vms), "shop.yaml")
        asked: list[tuple[Any, ...]] = []

        def tried(
            intent: Any, lab: str, protocol: str, port: int, nodes: Sequence[str] | None
        ) -> list[Reach]:
            asked.append((lab, protocol, port, nodes))
            names = nodes or [port.name for port in intent.ports]
            return [reached(*pair) for pair in itertools.permutations(names, 2)]

        monkeypatch.setattr(dataplane.checks, "matrix", tried)
        monkeypatch.setattr(operations, "known", lambda: ["shop"])
        monkeypatch.setattr(operations, "locate", lambda _: SimpleNamespace(intent=intent, name="shop"))
        return asked

    return make


def test_a_table_of_words(made: Make, capsys: pytest.CaptureFixture[str]) -> None:
    asked = made(2)
    assert run(["matrix"]) == 0
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines()]
    assert lines[0] == ["from", "\\", "to", "two/0", "two/1", "vm1", "vm2"]
    assert lines[2:6] == [
        ["two/0", "-", "yes", "no"],
        ["two/1", "-", "yes", "no"],
        ["vm1", "yes", "yes", "no"],
        ["vm2", "yes", "yes", "yes"],
    ]
    assert "not tried: both are NICs of two (2 pairs, such as two/0 -> two/1)" in said
    assert "no: never arrived at the receiver (3 pairs, such as two/0 -> vm2)" in said
    assert "shop, icmp: 7 of 10 pairs delivered, 2 not tried" in said
    assert asked == [("shop", "icmp", 0, None)]


def test_many_are_signs_in_their_natural_order(made: Make, capsys: pytest.CaptureFixture[str]) -> None:
    made(30)
    assert run(["matrix"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "1111111111222222222233" + "3"
    rows = {match[2]: match[3] for line in lines if (match := re.match(r" *(\d+) (\S+) +([ ●×·]+)$", line))}
    assert list(rows)[:5] == ["two/0", "two/1", "vm1", "vm2", "vm3"]
    assert len(rows) == 32
    assert rows["vm1"].strip() == "●● ×" + 28 * "●"


def test_narrow_terminals_get_slices(
    made: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(30)
    monkeypatch.setattr(output.stdout(), "width", 40)
    assert run(["matrix"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.split()[:2] == ["3", "vm1"] for line in lines) == 2
    assert max(len(line) for line in lines if re.match(r" *\d+ ", line)) <= 40


def test_json(made: Make, capsys: pytest.CaptureFixture[str]) -> None:
    asked = made(2)
    assert run(["matrix", "--json", "--protocol", "tcp", "--port", "443", "vm1/0", "shop.vm2/0"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert asked == [("shop", "tcp", 443, ["vm1/0", "vm2/0"])]
    assert found["nics"] == ["vm1/0", "vm2/0"] and found["port"] == 443
    assert [(each["from"], each["to"], each["delivered"]) for each in found["pairs"]] == [
        ("vm1/0", "vm2/0", False),
        ("vm2/0", "vm1/0", True),
    ]


@pytest.mark.parametrize("vms", [2, 30])
def test_svg(made: Make, tmp_path: Path, vms: int) -> None:
    made(vms)
    target = tmp_path / "x.svg"
    assert run(["matrix", "-o", str(target)]) == 0
    root = ElementTree.parse(target).getroot()
    pairs = (vms + 2) * (vms + 1)
    assert root.get("role") == "img"
    assert root.get("aria-label") == (
        f"shop: who reaches whom by icmp: {pairs - 3 - vms} of {pairs - 2} pairs delivered, 2 not tried"
    )
    cells = [use for use in root.iter(f"{SVG}use") if use.find(f"{SVG}title") is not None]
    titles = {cell.findtext(f"{SVG}title"): cell.get("href") for cell in cells}
    assert len(cells) == len(titles) == pairs
    assert titles["vm1 to vm2: no, never arrived at vm2/0"] == "#no"
    assert titles["vm2 to vm1: yes, 0.50 ms"] == "#yes"
    assert titles["two/0 to two/1: not tried, both are NICs of two"] == "#none"
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for cell in cells:
        assert float(cell.get("x", -1)) + float(cell.get("width", 0)) < width
        assert float(cell.get("y", -1)) + float(cell.get("height", 0)) < height
    assert "prefers-color-scheme: dark" in target.read_text()


def test_nobody_to_try(made: Make, capsys: pytest.CaptureFixture[str]) -> None:
    made(2)
    assert run(["matrix", "vm1/0"]) == 0
    assert "there are no two NICs to try" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "80"], "icmp has no ports"),
        (["--protocol", "udp"], "udp needs a port"),
        (["--protocol", "sctp"], "sctp"),
        (["--protocol", "tcp", "--port", "0"], "port"),
        (["-o", "x.png"], "drawn as SVG only"),
        (["-o", "missing/x.svg"], "cannot write missing/x.svg"),
    ],
)
def test_refused(
    made: Make,
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made(2)
    monkeypatch.chdir(tmp_path)
    assert run(["matrix", *arguments]) == 2
    assert words in capsys.readouterr().err
