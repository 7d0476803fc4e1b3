"""What words answer, and how aCLI prints it: columns two blanks apart under a line of headings, or blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a word tells: for people as aCLI prints it, and as data."""

    text: str
    data: Any


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Answer:
    """A table, with its headings also where there is no row. As data, keys are the headings, underscored."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (columns, *cells)
    ]
    keys = [name.lower().replace(" ", "_") for name in columns]
    return Answer("\n".join(lines), [dict(zip(keys, row, strict=True)) for row in cells])


def blocks(named: Mapping[str, Mapping[str, Any]]) -> Answer:
    """Things with what is in them, each a block under its name."""
    parts = [f"{name} {{\n{_inside(values, 1)}}}" for name, values in named.items()]
    return Answer("\n".join(parts), {name: _plain(values) for name, values in named.items()})


def _inside(values: Mapping[str, Any], depth: int) -> str:
    """Keys in the order of the alphabet; a list is its key once for each item."""
    text = ""
    for key, value in sorted(values.items()):
        for item in value if isinstance(value, list | tuple) else [value]:
            pad = "  " * depth
            if item is None or item == {}:
                continue
            if isinstance(item, Mapping):
                text += f"{pad}{key} {{\n{_inside(item, depth + 1)}{pad}}}\n"
            else:
                text += f"{pad}{key}: {_scalar(item)}\n"
    return text


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    return str(value) if isinstance(value, int) else f'"{value}"'


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
