"""The command `graph`: the picture of an intent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netctl.cli import output
from netctl.cli.options import PROOF_PANEL, File, Json
from netctl.errors import InputError

if TYPE_CHECKING:
    from netctl.model import Intent


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PROOF_PANEL)(graph)


def graph(
    file: File,
    target: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="PICTURE", help="A .svg, .mmd (Mermaid) or .dot file."),
    ] = None,
    json: Json = False,
) -> None:
    """Draw the lab: in the terminal, or as SVG, Mermaid or DOT with -o. Needs no root and no lab."""
    from netctl.intent import load

    draw = None if target is None else _drawing(target)
    intent = load(file, supported_only=False)
    output.warn(intent.warnings)
    if draw is not None and target is not None:
        text = draw(intent)
        try:
            target.write_text(text)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise InputError(
                f"cannot write {target}: {error.strerror}", "Give a file in a directory that is there."
            ) from None
        if not json:
            output.say(f"{target}: {output.plural(len(text.encode()), 'byte')}")
    if json:
        from netctl.cli.picture.network import network, to_json

        output.emit(to_json(network(intent)))
    elif target is None:
        from netctl.cli.picture.text import text as drawn

        for renderable in drawn(intent):
            output.draw(renderable)


def _drawing(target: Path) -> Callable[[Intent], str]:
    """What draws in the format of a file's ending."""
    ending = target.suffix.lower()
    if ending == ".svg":
        from netctl.cli.picture.svg import svg

        return svg
    if ending in (".mmd", ".mermaid"):
        from netctl.cli.picture.mermaid import mermaid

        return mermaid
    if ending in (".dot", ".gv"):
        from netctl.cli.picture.dot import dot

        return dot
    raise InputError(
        f"{target}: no picture format ends in {ending or 'nothing'}",
        "Write .svg, .mmd (Mermaid) or .dot (Graphviz); `rsvg-convert x.svg -o x.png` makes a PNG of an SVG.",
    )
