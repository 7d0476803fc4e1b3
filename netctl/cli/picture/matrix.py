"""The matrix as SVG: a row for each sender, a column for each receiver, a sign where they meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from netctl.cli.picture.shapes import Sheet, text_width

if TYPE_CHECKING:
    from dataplane.checks import Reach

MARGIN = 28.0
CELL, SMALL_CELL = 22.0, 14.0
MANY = 24
"""NICs from which on cells are small."""

SLANT = -60.0
"""Degrees by which the names of the columns are turned."""

YES, NO, NONE = "#059669", "#e11d48", "#94a3b8"
SIGNS = {
    "yes": f'<rect x="1" y="1" width="18" height="18" rx="3" fill="{YES}" fill-opacity="0.22"/>'
    f'<path d="M5 10.5 L8.7 14 L15 6.5" fill="none" stroke="{YES}" stroke-width="2.2"/>',
    "no": f'<rect x="1" y="1" width="18" height="18" rx="3" fill="{NO}" fill-opacity="0.22"/>'
    f'<path d="M6 6 L14 14 M14 6 L6 14" fill="none" stroke="{NO}" stroke-width="2.2"/>',
    "none": f'<path d="M7 10 L13 10" fill="none" stroke="{NONE}" stroke-width="2"/>',
}
"""By shape as well as by colour, for those who cannot tell red from green."""


def svg(
    title: str,
    subtitle: str,
    labels: Mapping[str, str],
    found: Sequence[Reach],
    colours: Mapping[str, str],
) -> str:
    """The picture of a matrix.

    Args:
        title: what was sent, where.
        subtitle: how it came out.
        labels: what NICs are called, by their names, in the order of rows and columns.
        found: what was tried between them.
        colours: the colour of each NIC's network, by its name.
    """
    sheet = Sheet()
    for name, shapes in SIGNS.items():
        sheet.define(name, 20, shapes)
    cell = SMALL_CELL if len(labels) > MANY else CELL
    size = 12.0 if cell == CELL else 10.0
    longest = max((text_width(label, size) for label in labels.values()), default=0.0)
    left, top = MARGIN + longest + 22, MARGIN + 62 + longest * 0.87 + 14
    sheet.text(MARGIN, MARGIN + 16, title, "bold", 17)
    sheet.text(MARGIN, MARGIN + 37, subtitle, "dim", 12)
    at = {name: index * cell for index, name in enumerate(labels)}
    for name, label in labels.items():
        middle = at[name] + cell / 2
        sheet.dot(left - 11, top + middle, 3, colours.get(name, NONE))
        sheet.text(left - 19, top + middle + size * 0.35, label, size=size, anchor="end")
        sheet.dot(left + middle, top - 7, 3, colours.get(name, NONE))
        sheet.text(left + middle + 3, top - 14, label, size=size, turn=SLANT)
    for each in found:
        sheet.use(sign(each), left + at[each.target], top + at[each.source], cell)
        sheet.tip(f"{labels[each.source]} to {labels[each.target]}: {words(each)}")
    side = cell * len(labels)
    bottom = _legend(sheet, top + side + 30)
    # Names of columns lean out to the right of the last one.
    right = max(left + side + longest * 0.5 + 12, MARGIN + text_width(title, 17, bold=True))
    right = max(right, MARGIN + text_width(subtitle, 12), MARGIN + 420)
    return sheet.svg(right + MARGIN, bottom + MARGIN, f"{title}: {subtitle}")


def sign(reach: Reach) -> str:
    """Which of the signs it gets."""
    return {True: "yes", False: "no", None: "none"}[reach.delivered]


def words(reach: Reach) -> str:
    """How it came out: `yes, 0.42 ms`, `no, never arrived at web2/0`, `not tried, ...`."""
    if reach.delivered is None:
        return f"not tried, {reach.seen}"
    if not reach.delivered:
        return f"no, {reach.seen}"
    return "yes" if reach.rtt_ms is None else f"yes, {reach.rtt_ms:.2f} ms"


def _legend(sheet: Sheet, y: float) -> float:
    x = MARGIN
    for name, text in (("yes", "delivered"), ("no", "not delivered"), ("none", "not tried")):
        sheet.use(name, x, y - 13, 16)
        sheet.text(x + 21, y, text, "dim", 12)
        x += 21 + text_width(text) + 22
    sheet.text(MARGIN, y + 21, "Rows send, columns receive. Dots: the network of the NIC.", "dim", 12)
    return y + 21
