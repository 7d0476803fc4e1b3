"""How long it takes to be told: `netctl --help`, and `netctl test` of first-lab's checks on a running lab.

Seconds depend on the machine, so each is also compared with a Python that does next to nothing in the same
run. The targets are about seconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from bench import machine
from bench.figures import Figure, Result, Sample, ratio

HELP_LIMIT, TEST_LIMIT = 0.25, 2.0
FIRST_LAB = machine.HERE.parent / "topologies" / "first-lab.yaml"
REPEATS = 5
"""Runs of the short commands in each run of the benchmark."""


def measure(runs: int, progress: Callable[[str], None]) -> Result:
    """Measure; the references in turn with them."""
    document = yaml.safe_load(FIRST_LAB.read_text())
    document["name"] = f"bench{os.getpid()}-first"
    shown: list[float] = []
    tested: list[float] = []
    bare: list[float] = []
    typer: list[float] = []
    with machine.lab(document) as lab:
        lab.up()
        for number in range(1, runs * REPEATS + 1):
            progress(f"starting: run {number} of {runs * REPEATS}")
            bare.append(_seconds([sys.executable, "-c", "pass"]))
            typer.append(_seconds([sys.executable, "-c", "import typer"]))
            shown.append(_seconds([machine.NETCTL, "--help"]))
            tested.append(lab.command("test", lab.file)[1])
        lab.down()
    references = Sample(bare), Sample(typer)
    return Result(
        "Starting",
        "the same Python with -c pass",
        [
            *_figures("netctl --help", Sample(shown), references, HELP_LIMIT),
            *_figures("netctl test first-lab, on a running lab", Sample(tested), references, TEST_LIMIT),
        ],
    )


def _figures(what: str, ours: Sample, references: tuple[Sample, Sample], limit: float) -> list[Figure]:
    bare, typer = references
    return [
        Figure(what, ours, "s", limit),
        Figure(f"{what}, to -c pass", ratio(ours, bare), "x", None, False, ours, bare, "s"),
        Figure(f"{what}, to -c 'import typer'", ratio(ours, typer), "x", None, False, ours, typer, "s"),
    ]


def _seconds(words: Sequence[str | Path]) -> float:
    return machine.timed(words)[1]
