"""Commands that break things on purpose and mend them: fail, heal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from netctl.cli import output
from netctl.cli.options import INSIDE_PANEL, Json, Lab, complete_fault, complete_heal


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=INSIDE_PANEL)(fail)
    app.command(rich_help_panel=INSIDE_PANEL)(heal)


def fail(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT...",
            autocompletion=complete_fault,
            help="`link HOST NIC`, `link SWITCH SWITCH`, `switch NAME`, `host NAME`, `daemon NODE DAEMON`.",
        ),
    ],
    lab: Lab = None,
    json: Json = False,
) -> None:
    """Break something, at once and without warning. It stays broken, also across `apply`, until `heal`.

    A link loses its carrier; a switch has all of its ports down; a host loses its power, with its daemons; a
    daemon is killed and not started again.
    """
    from netctl.cli import operations

    with output.progress("breaking " + " ".join(what)):
        left = operations.fail(lab, " ".join(what), _quiet)
    _show(left, json)


def heal(
    what: Annotated[
        list[str],
        typer.Argument(metavar="WHAT...", autocompletion=complete_heal, help="As with `fail`, or `all`."),
    ],
    lab: Lab = None,
    json: Json = False,
) -> None:
    """Mend what `fail` broke, and wait until the lab is ready again. What is not broken is no error."""
    from netctl.cli import operations

    with output.changing("mending " + " ".join(what)) as progress:
        left = operations.heal(lab, " ".join(what), progress)
    _show(left, json)


def _quiet(_: str) -> None: ...


def _show(faults: Sequence[str], json: bool) -> None:
    if json:
        output.emit({"faults": list(faults)})
    else:
        output.say(f"broken on purpose: {', '.join(faults)}" if faults else "nothing is broken on purpose")
