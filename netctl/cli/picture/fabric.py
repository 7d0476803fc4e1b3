"""The fabric: a rail for each switch under every row of hosts, and the switches with their links below."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from netctl.cli.picture.hosts import NicPoint
from netctl.cli.picture.network import layers
from netctl.cli.picture.shapes import CABLES, Sheet, text_width

if TYPE_CHECKING:
    from netctl.model import Intent

RAIL = 13.0
ROW_GAP = 26.0
BOX_WIDTH = 120.0
BOX_HEIGHT = 36.0
BOX_GAP = 70.0
LAYER = 96.0


def trunk_room(intent: Intent) -> float:
    """Pixels at the left for what joins the rails of several rows."""
    return RAIL * len(intent.switches) + 14


def width(intent: Intent) -> float:
    """Pixels that the widest layer of switches takes."""
    most = max((len(layer) for layer in layers(intent)), default=0)
    return most * (BOX_WIDTH + BOX_GAP) - BOX_GAP if most else 0.0


class Wiring:
    """Collects where NICs end, row by row, then draws rails, trunks and switches."""

    def __init__(self, intent: Intent, left: float, right: float) -> None:
        self._intent = intent
        self._left, self._right = left, right
        self._colour = {name: CABLES[n % len(CABLES)] for n, name in enumerate(intent.switches)}
        self._row: list[NicPoint] = []
        self._rows: list[tuple[list[NicPoint], dict[str, float]]] = []

    def add(self, points: Sequence[NicPoint]) -> None:
        """NICs of one more box of the present row."""
        self._row += points

    def end_row(self, bottom: float) -> float:
        """Give the row its rails below `bottom`; returns where the next row may start."""
        used = [name for name in self._intent.switches if any(point.switch == name for point in self._row)]
        rails = {name: bottom + ROW_GAP + RAIL * number for number, name in enumerate(used)}
        self._rows.append((self._row, rails))
        self._row = []
        return max(rails.values(), default=bottom) + ROW_GAP

    def draw(self, sheet: Sheet, y: float, left: float, width: float) -> float:
        """Everything below the hosts; returns the lower end of the picture."""
        boxes, bottom = self._places(y + 6, left, width)
        self._draw_links(sheet, boxes)
        self._draw_rails(sheet, boxes)
        for points, rails in self._rows:
            for point in points:
                self._draw_cable(sheet, point, rails[point.switch])
        for name, (x, top) in boxes.items():
            self._draw_switch(sheet, name, x, top)
        return bottom

    def _places(self, y: float, left: float, width: float) -> tuple[dict[str, tuple[float, float]], float]:
        boxes: dict[str, tuple[float, float]] = {}
        bottom = y
        deep = 0.0
        for depth, layer in enumerate(layers(self._intent)):
            step = min((width + BOX_GAP) / len(layer), 3 * BOX_WIDTH)
            start = left + width / 2 - step * (len(layer) - 1) / 2 - BOX_WIDTH / 2
            for number, name in enumerate(layer):
                boxes[name] = (start + step * number, y + LAYER * depth)
            bottom = y + LAYER * depth + BOX_HEIGHT
            deep = 30.0 if _has_arcs(self._intent, layer) else 0.0
        return boxes, bottom + deep + (14 if self._intent.file.fabric.mlag else 0)

    def _draw_rails(self, sheet: Sheet, boxes: dict[str, tuple[float, float]]) -> None:
        several = len(self._rows) > 1
        for name, (box, top) in boxes.items():
            colour = self._colour[name]
            ends = [rails[name] for _, rails in self._rows if name in rails]
            number = list(self._intent.switches).index(name)
            trunk = self._left - RAIL * (number + 1) - 4
            for points, rails in self._rows:
                if name not in rails:
                    continue
                xs = [point.x for point in points if point.switch == name]
                if several:
                    xs.append(trunk)
                if rails[name] == ends[-1]:
                    xs.append(box + BOX_WIDTH / 2)
                sheet.line([(min(xs), rails[name]), (max(xs), rails[name])], colour, 2)
            if several and len(ends) > 1:
                sheet.line([(trunk, ends[0]), (trunk, ends[-1])], colour, 2)
            if ends:
                sheet.line([(box + BOX_WIDTH / 2, ends[-1]), (box + BOX_WIDTH / 2, top)], colour, 3)

    def _draw_cable(self, sheet: Sheet, point: NicPoint, rail: float) -> None:
        colour = self._colour[point.switch]
        sheet.line([(point.x, point.y), (point.x, rail)], colour, 1.8)
        sheet.dot(point.x, rail, 3.4, colour)
        if point.label:
            sheet.text(point.x + 5, point.y + 14, point.label, "dim", 9.5)

    def _draw_links(self, sheet: Sheet, boxes: dict[str, tuple[float, float]]) -> None:
        links = Counter((min(pair), max(pair)) for pair in self._intent.links)
        for (a, b), count in sorted(links.items()):
            (ax, ay), (bx, by) = sorted((boxes[a], boxes[b]))
            for number in range(count):
                shift = 7 * (number - (count - 1) / 2)
                _draw_link(sheet, boxes, (ax, ay), (bx, by), shift)
        for a, b in self._intent.file.fabric.mlag:
            (ax, ay), (bx, by) = sorted((boxes[a], boxes[b]))
            x, top = ax - 12, min(ay, by) - 12
            sheet.rect(x, top, bx + BOX_WIDTH + 12 - x, BOX_HEIGHT + 24 + abs(ay - by), "ghost", 10)
            sheet.text(
                (ax + bx + BOX_WIDTH) / 2, max(ay, by) + BOX_HEIGHT + 7, "MLAG", "dim bold", 10, "middle"
            )
        if self._intent.rstp and boxes:
            lowest = max(at for _, at in boxes.values())
            x = max(at for at, top in boxes.values() if top == lowest) + BOX_WIDTH + 16
            y = lowest + BOX_HEIGHT / 2 + 4
            sheet.text(x, y, "RSTP", "dim", 10)

    def _draw_switch(self, sheet: Sheet, name: str, x: float, y: float) -> None:
        sheet.rect(x, y, BOX_WIDTH, BOX_HEIGHT, "switch", 6)
        sheet.rect(x, y, 6, BOX_HEIGHT, colour=self._colour[name], radius=3, opacity=1)
        size = min(13.0, 13.0 * (BOX_WIDTH - 22) / max(1.0, text_width(name, 13, bold=True)))
        sheet.text(x + BOX_WIDTH / 2 + 3, y + 23, name, "bold on-switch", round(size, 1), "middle")


def _has_arcs(intent: Intent, layer: Sequence[str]) -> bool:
    order = {name: number for number, name in enumerate(layer)}
    return any(a in order and b in order and abs(order[a] - order[b]) > 1 for a, b in intent.links)


def _draw_link(
    sheet: Sheet,
    boxes: dict[str, tuple[float, float]],
    a: tuple[float, float],
    b: tuple[float, float],
    shift: float,
) -> None:
    """A link between two switches: straight between neighbours, below the others on the same layer."""
    (ax, ay), (bx, by) = a, b
    if ay != by:
        upper, lower = ((ax, ay), (bx, by)) if ay < by else ((bx, by), (ax, ay))
        sheet.line(
            [
                (upper[0] + BOX_WIDTH / 2 + shift, upper[1] + BOX_HEIGHT),
                (lower[0] + BOX_WIDTH / 2 + shift, lower[1]),
            ],
            width=2,
        )
    elif any(ax < x < bx and y == ay for x, y in boxes.values()):
        low = ay + BOX_HEIGHT
        x1, x2 = ax + BOX_WIDTH / 2 + shift, bx + BOX_WIDTH / 2 + shift
        sheet.path(
            f"M{x1:.1f} {low:.1f} C{x1:.1f} {low + 36:.1f} {x2:.1f} {low + 36:.1f} {x2:.1f} {low:.1f}",
            width=2,
        )
    else:
        y = ay + BOX_HEIGHT / 2 + shift
        sheet.line([(ax + BOX_WIDTH, y), (bx, y)], width=2)
