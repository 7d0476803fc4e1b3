"""A sheet to draw on: rectangles, lines and text as SVG, with colours that suit light and dark pages."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netctl.model import Intent

SANS = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'Liberation Mono', 'DejaVu Sans Mono', monospace"

STYLE = f"""
  text {{ font-family: {SANS}; font-size: 12px; fill: #1e293b }}
  .mono {{ font-family: {MONO} }}
  .bold {{ font-weight: 600 }}
  .dim {{ fill: #64748b }}
  .page {{ fill: #f8fafc }}
  .box {{ fill: #ffffff; stroke: #cbd5e1 }}
  .card {{ fill: #ffffff; stroke: #cbd5e1 }}
  .bar {{ fill: #e2e8f0; stroke: #94a3b8 }}
  .ghost {{ fill: none; stroke: #94a3b8; stroke-dasharray: 4 3 }}
  .line {{ fill: none; stroke: #94a3b8; stroke-width: 1.5 }}
  .switch {{ fill: #334155; stroke: #1e293b }}
  .on-switch {{ fill: #f8fafc }}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #e2e8f0 }}
    .dim {{ fill: #94a3b8 }}
    .page {{ fill: #0f172a }}
    .box {{ fill: #1e293b; stroke: #475569 }}
    .card {{ fill: #0f172a; stroke: #475569 }}
    .bar {{ fill: #334155; stroke: #64748b }}
    .line {{ stroke: #64748b }}
    .switch {{ fill: #475569; stroke: #64748b }}
  }}"""

PALETTE = (
    "#2563eb",
    "#059669",
    "#d97706",
    "#7c3aed",
    "#e11d48",
    "#0891b2",
    "#65a30d",
    "#c026d3",
    "#ea580c",
    "#0d9488",
    "#4f46e5",
    "#be185d",
)
"""Colours of networks; each is readable on white and on dark slate."""

NEUTRAL = "#64748b"
"""Of what belongs to no network."""

CABLES = ("#64748b", "#38bdf8", "#a78bfa", "#fb923c", "#4ade80", "#f472b6", "#facc15", "#94a3b8")
"""Colours of cables, one for each switch."""


class Sheet:
    """Collects shapes; later ones lie on top. Lengths are in pixels of the picture at its own size."""

    def __init__(self) -> None:
        self._shapes: list[str] = []

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        kind: str = "",
        radius: float = 6,
        colour: str = "",
        opacity: float = 0.14,
    ) -> None:
        """A rectangle of a class, or tinted with a colour."""
        look = f'class="{kind}"' if kind else ""
        if colour:
            look += f' fill="{colour}" fill-opacity="{opacity:g}" stroke="{colour}"'
        self._add(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="{_n(radius)}" '
            f"{look.strip()}/>"
        )

    def dot(self, x: float, y: float, radius: float, colour: str) -> None:
        """A filled circle."""
        self._add(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" fill="{colour}"/>')

    def square(self, x: float, y: float, size: float, colour: str) -> None:
        """A port: a small filled square around a point."""
        half = size / 2
        self._add(
            f'<rect x="{_n(x - half)}" y="{_n(y - half)}" width="{_n(size)}" height="{_n(size)}" rx="1.5" '
            f'fill="{colour}"/>'
        )

    def line(
        self,
        points: Iterable[tuple[float, float]],
        colour: str = "",
        width: float = 1.5,
        dashed: bool = False,
    ) -> None:
        """A line through points; in the neutral colour unless one is given."""
        path = " L".join(f"{_n(x)} {_n(y)}" for x, y in points)
        self.path(f"M{path}", colour, width, dashed)

    def wire(self, x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.5) -> None:
        """A line that leaves and arrives upright."""
        middle = (y1 + y2) / 2
        self.path(
            f"M{_n(x1)} {_n(y1)} C{_n(x1)} {_n(middle)} {_n(x2)} {_n(middle)} {_n(x2)} {_n(y2)}",
            colour,
            width,
        )

    def path(self, path: str, colour: str = "", width: float = 1.5, dashed: bool = False) -> None:
        """A path in SVG's own notation."""
        look = f'fill="none" stroke="{colour}"' if colour else 'class="line"'
        dashes = ' stroke-dasharray="4 3"' if dashed else ""
        self._add(f'<path d="{path}" {look} stroke-width="{width:g}"{dashes}/>')

    def text(
        self,
        x: float,
        y: float,
        words: str,
        kind: str = "",
        size: float = 12,
        anchor: str = "start",
        colour: str = "",
        turn: float = 0,
    ) -> None:
        """One line of text; `y` is its base line. `turn`: degrees to the right around its start."""
        look = f' class="{kind}"' if kind else ""
        style = f"font-size:{size:g}px" + (f";fill:{colour}" if colour else "")
        anchored = f' text-anchor="{anchor}"' if anchor != "start" else ""
        turned = f' transform="rotate({turn:g} {_n(x)} {_n(y)})"' if turn else ""
        self._add(
            f'<text x="{_n(x)}" y="{_n(y)}"{look}{anchored}{turned} style="{style}">{escape(words)}</text>'
        )

    def define(self, name: str, size: float, shapes: str) -> None:
        """A sign of that size, in SVG's own notation, to be drawn many times with `use`."""
        self._add(f'<symbol id="{name}" viewBox="0 0 {_n(size)} {_n(size)}">{shapes}</symbol>')

    def use(self, name: str, x: float, y: float, size: float) -> None:
        """A sign that was defined."""
        box = f'x="{_n(x)}" y="{_n(y)}" width="{_n(size)}" height="{_n(size)}"'
        self._add(f'<use href="#{name}" {box}/>')

    def tip(self, words: str) -> None:
        """What a browser shows over the shape that was drawn last."""
        last = self._shapes.pop()
        tag = last[1:].split(None, 1)[0]
        self._add(f"{last[:-2]}><title>{escape(words)}</title></{tag}>")

    def svg(self, width: float, height: float, title: str) -> str:
        """The whole picture."""
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}" '
                f'width="{_n(width)}" height="{_n(height)}" role="img" aria-label="{escape(title)}">',
                f"<title>{escape(title)}</title>",
                f"<style>{STYLE}\n</style>",
                f'<rect class="page" width="{_n(width)}" height="{_n(height)}" rx="12"/>',
                *self._shapes,
                "</svg>\n",
            ]
        )

    def _add(self, shape: str) -> None:
        self._shapes.append(shape)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def text_width(words: str, size: float = 12, mono: bool = False, bold: bool = False) -> float:
    """Pixels that a line takes in the widest of the usual fonts."""
    if mono:
        return len(words) * size * 0.61
    narrow = sum(words.count(letter) for letter in "ijl.,:;'|!ft()[] ")
    wide = sum(words.count(letter) for letter in "mwMW@%")
    ems = 0.61 * len(words) - 0.26 * narrow + 0.26 * wide
    return ems * size * (1.07 if bold else 1)


def subnet_colours(intent: Intent) -> dict[str, str]:
    """A colour for each subnet; those of one VPC are shades of one."""
    subnets = intent.file.subnets
    order = {"vlan": 0, "vlan-basic": 1, "overlay": 2, "external": 3}
    groups: dict[tuple[int, int, str], list[str]] = {}
    for name, subnet in subnets.items():
        group = subnet.vpc if subnet.type == "overlay" and subnet.vpc else name
        groups.setdefault((order[subnet.type], subnet.vlan or 0, group), []).append(name)
    colours = {}
    for number, key in enumerate(sorted(groups)):
        base = _shade(PALETTE[number % len(PALETTE)], 2 * (number // len(PALETTE)))
        for index, name in enumerate(sorted(groups[key])):
            colours[name] = _shade(base, index)
    return colours


def vpc_colours(intent: Intent, subnets: dict[str, str]) -> dict[str, str]:
    """The colour of each VPC: that of its first subnet."""
    colours = {name: CABLES[0] for name in intent.file.vpcs}
    for name, subnet in sorted(intent.file.subnets.items(), reverse=True):
        if subnet.vpc in colours:
            colours[subnet.vpc] = subnets[name]
    return colours


def _shade(colour: str, index: int) -> str:
    """The colour itself, then neighbours of its hue."""
    if index == 0:
        return colour
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    hue, light, strength = colorsys.rgb_to_hls(red, green, blue)
    step = (index + 1) // 2 * (1 if index % 2 else -1)
    hue = (hue + 0.055 * step) % 1
    light = min(0.62, max(0.3, light + 0.05 * (index % 3)))
    mixed = colorsys.hls_to_rgb(hue, light, strength)
    return "#" + "".join(f"{round(part * 255):02x}" for part in mixed)
