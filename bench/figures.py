"""Figures as the benchmarks give them, and how they are shown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Sample:
    """One quantity, measured several times."""

    values: Sequence[float]

    @property
    def least(self) -> float:
        """The smallest."""
        return min(self.values)

    @property
    def median(self) -> float:
        """The one in the middle."""
        return statistics.median(self.values)

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {"min": self.least, "median": self.median, "values": list(self.values)}


def ratio(ours: Sample, theirs: Sample) -> Sample:
    """Pair by pair: a machine that gets slower in the middle slows both of a pair."""
    return Sample([a / b for a, b in zip(ours.values, theirs.values, strict=True)])


@dataclass(frozen=True)
class Figure:
    """One line of a result. `value` is what the target is about: its median must be within `limit`."""

    what: str
    value: Sample
    unit: str
    limit: float | None = None
    at_least: bool = False
    ours: Sample | None = None
    reference: Sample | None = None
    measured_in: str = ""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.limit is None:
            return None
        return self.value.median >= self.limit if self.at_least else self.value.median <= self.limit

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        document: dict[str, Any] = {"what": self.what, "unit": self.unit, "value": self.value.to_json()}
        if self.limit is not None:
            document["target"] = {("at_least" if self.at_least else "at_most"): self.limit, "met": self.met}
        for name, sample in (("netctl", self.ours), ("reference", self.reference)):
            if sample is not None:
                document[name] = {"unit": self.measured_in, **sample.to_json()}
        if self.note:
            document["note"] = self.note
        return document


@dataclass(frozen=True)
class Breakdown:
    """Where something goes: parts of a whole, medians of several runs."""

    what: str
    unit: str
    parts: Mapping[str, Sample]

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        parts = {name: sample.to_json() for name, sample in self.parts.items()}
        return {"what": self.what, "unit": self.unit, "parts": parts}


@dataclass(frozen=True)
class Result:
    """What a benchmark found. `reference` says in a few words what netctl is compared with."""

    title: str
    reference: str
    figures: Sequence[Figure]
    breakdowns: Sequence[Breakdown] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "title": self.title,
            "reference": self.reference,
            "figures": [figure.to_json() for figure in self.figures],
            "breakdowns": [breakdown.to_json() for breakdown in self.breakdowns],
        }


def show(console: Console, result: Result) -> None:
    """The result as tables."""
    table = _table(f"{result.title}   (reference: {result.reference})")
    for name in ("", "netctl", "reference", "ratio or value", "target", ""):
        table.add_column(name, justify="left" if not name else "right", overflow="fold")
    for figure in result.figures:
        table.add_row(
            figure.what,
            _both(figure.ours, figure.measured_in),
            _both(figure.reference, figure.measured_in),
            _both(figure.value, figure.unit),
            ""
            if figure.limit is None
            else f"{'>=' if figure.at_least else '<='} {figure.limit:g} {figure.unit}",
            {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[figure.met],
        )
    console.print(table)
    for figure in result.figures:
        if figure.note:
            console.print(f"  {figure.what}: {figure.note}", style="dim", highlight=False, soft_wrap=True)
    for breakdown in result.breakdowns:
        _show_breakdown(console, breakdown)
    console.print()


def _show_breakdown(console: Console, breakdown: Breakdown) -> None:
    table = _table(breakdown.what)
    table.add_column("")
    table.add_column(breakdown.unit, justify="right")
    table.add_column("share", justify="right")
    total = sum(sample.median for sample in breakdown.parts.values())
    for name, sample in breakdown.parts.items():
        table.add_row(name, f"{sample.median:.2f}", f"{100 * sample.median / total:.0f} %" if total else "")
    table.add_row("together", f"{total:.2f}", "", style="bold")
    console.print(table)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False)


def _both(sample: Sample | None, unit: str) -> str:
    """The median, and the minimum in brackets where there is more than one value."""
    if sample is None:
        return ""
    text = f"{_number(sample.median)} {unit}".rstrip()
    return text if len(sample.values) == 1 else f"{text} (min {_number(sample.least)})"


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1000:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
