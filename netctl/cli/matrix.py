"""The command `matrix`: who reaches whom, tried with real packets."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netctl.cli import output
from netctl.cli.options import PROOF_PANEL, Json, Lab, complete_node
from netctl.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from dataplane.checks import Reach
    from netctl.model import Intent

MOST_REASONS = 20
"""Reasons that are listed; the rest are in the JSON."""

SIGNS = {True: ("●", "green"), False: ("×", "bold red"), None: ("·", "dim")}
WORDS = {True: ("yes", "green"), False: ("no", "bold red"), None: ("-", "dim")}


class Protocol(StrEnum):
    """What can be sent between all of them."""

    icmp = "icmp"
    icmp6 = "icmp6"
    tcp = "tcp"
    udp = "udp"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PROOF_PANEL)(matrix)


def matrix(
    vms: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VM]...", autocompletion=complete_node, help="Only between these; all when left out."
        ),
    ] = None,
    lab: Lab = None,
    protocol: Annotated[Protocol, typer.Option("--protocol", help="What to send.")] = Protocol.icmp,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", min=1, max=65535, help="Where to, for tcp and udp.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="F.svg", help="Draw it as SVG too.")
    ] = None,
    json: Json = False,
) -> None:
    """Try who reaches whom: a packet (or connection) between any two NICs, both ways, all at once.

    Rows send, columns receive.
    """
    _refuse_odd(protocol, port, target)
    from dataplane.checks import matrix as try_all
    from netctl.cli.inside import locate

    running, words = locate(lab, *(vms or ()))
    began = time.monotonic()
    with output.progress("trying all pairs"):
        found = try_all(running.intent, running.name, protocol.value, port or 0, words or None)
    took = time.monotonic() - began
    labels = _labels(running.intent, found, sort=not words)
    what = protocol.value if port is None else f"{protocol.value}/{port}"
    if target is not None:
        from netctl.cli.picture.matrix import svg

        title, colours = f"{running.name}: who reaches whom by {what}", _colours(running.intent)
        _write(target, svg(title, _count(found), labels, found, colours))
    if json:
        output.emit(
            {
                "lab": running.name,
                "protocol": protocol.value,
                "port": port,
                "seconds": round(took, 3),
                "nics": list(labels),
                "pairs": [each.to_dict() for each in found],
            }
        )
        return
    _show(labels, found)
    output.say(f"{running.name}, {what}: {_count(found)} ({output.seconds(took)})", "bold")
    if target is not None:
        output.say(str(target))


def _refuse_odd(protocol: Protocol, port: int | None, target: Path | None) -> None:
    ported = protocol in (Protocol.tcp, Protocol.udp)
    if not ported and port is not None:
        raise InputError(
            f"{protocol.value} has no ports", "Leave --port out, or write --protocol tcp or udp."
        )
    if ported and port is None:
        raise InputError(
            f"{protocol.value} needs a port", f"netctl matrix --protocol {protocol.value} --port 80"
        )
    if target is not None and target.suffix.lower() != ".svg":
        raise InputError(f"{target}: a matrix is drawn as SVG only", f"Write {target.with_suffix('.svg')}.")


def _write(target: Path, text: str) -> None:
    try:
        target.write_text(text)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError(
            f"cannot write {target}: {error.strerror}", "Give a file in a directory that is there."
        ) from None


def _labels(intent: Intent, found: Sequence[Reach], sort: bool) -> dict[str, str]:
    """What the NICs are called, in order: by their VM's name where that has only one."""
    from netctl.cli.picture.network import natural

    names = list(dict.fromkeys(name for each in found for name in (each.source, each.target)))
    if sort:
        names.sort(key=natural)
    vms = intent.file.vms
    labels = {}
    for name in names:
        vm = name.partition("/")[0]
        labels[name] = vm if vm in vms and len(vms[vm].nics) == 1 else name
    return labels


def _colours(intent: Intent) -> dict[str, str]:
    from netctl.cli.picture.shapes import subnet_colours

    colours = subnet_colours(intent)
    return {port.name: colours[port.subnet] for port in intent.ports}


def _count(found: Sequence[Reach]) -> str:
    tried = [each for each in found if each.delivered is not None]
    delivered = sum(each.delivered is True for each in tried)
    words = f"{delivered} of {output.plural(len(tried), 'pair')} delivered"
    return words if len(tried) == len(found) else f"{words}, {len(found) - len(tried)} not tried"


# --- the table ------------------------------------------------------------------------------------


def _show(labels: Mapping[str, str], found: Sequence[Reach]) -> None:
    if not found:
        output.say("there are no two NICs to try")
        return
    by_pair = {(each.source, each.target): each for each in found}
    width = output.stdout().width
    if _width_of_words(labels) <= min(width, WIDEST):
        output.draw(_words(labels, by_pair))
    else:
        for columns in _slices(list(labels), width - _margin(labels)):
            output.draw(_signs(labels, columns, by_pair))
        output.say(
            "● delivered  × not delivered  · not tried; columns by the numbers of the rows\n", style="dim"
        )
    _reasons(labels, found)


CORNER = "from \\ to"

WIDEST = 120
"""Columns from which on a table of words is harder to read than one of signs."""


def _width_of_words(labels: Mapping[str, str]) -> int:
    names = [*map(len, labels.values())]
    return max(len(CORNER), *names) + sum(max(3, length) + 3 for length in names)


def _words(labels: Mapping[str, str], by_pair: Mapping[tuple[str, str], Reach]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column(CORNER, no_wrap=True)
    for label in labels.values():
        table.add_column(label, no_wrap=True)
    for one in labels:
        cells = [
            Text(*WORDS[each.delivered]) if (each := by_pair.get((one, o))) else Text("") for o in labels
        ]
        table.add_row(Text(labels[one], "bold"), *cells)
    return table


def _margin(labels: Mapping[str, str]) -> int:
    """Columns that the numbers and names of the rows take."""
    return len(str(len(labels))) + 1 + max(map(len, labels.values())) + 2


def _slices(names: Sequence[str], room: int) -> list[Sequence[str]]:
    """The columns that fit beside each other, a sign each."""
    most = max(room, 10)
    return [names[start : start + most] for start in range(0, len(names), most)]


def _signs(
    labels: Mapping[str, str], columns: Sequence[str], by_pair: Mapping[tuple[str, str], Reach]
) -> Table:
    from rich.table import Table
    from rich.text import Text

    number = {name: index for index, name in enumerate(labels, 1)}
    digits = len(str(len(labels)))
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    for digit in range(digits):
        numbers = "".join(str(number[name]).rjust(digits)[digit] for name in columns)
        table.add_row("", "", Text(numbers, "bold"))
    for one, label in labels.items():
        line = Text()
        for other in columns:
            each = by_pair.get((one, other))
            line.append(*SIGNS[each.delivered]) if each else line.append(" ")
        table.add_row(str(number[one]), Text(label, "bold"), line)
    return table


def _reasons(labels: Mapping[str, str], found: Sequence[Reach]) -> None:
    """Why not, once for all pairs of which the same is to be said."""
    groups: dict[tuple[str, str], list[Reach]] = {}
    for each in found:
        if not each.delivered:
            key = ("not tried", each.seen) if each.delivered is None else ("no", _general(each))
            groups.setdefault(key, []).append(each)
    for (word, reason), same in list(groups.items())[:MOST_REASONS]:
        first = f"{labels[same[0].source]} -> {labels[same[0].target]}"
        if len(same) == 1:
            output.say(f"{word}: {first}: {same[0].seen}")
        else:
            output.say(f"{word}: {reason} ({len(same)} pairs, such as {first})")
    if len(groups) > MOST_REASONS:
        output.say(f"... and {len(groups) - MOST_REASONS} more reasons: --json has them all")
    if groups:
        output.say()


def _general(reach: Reach) -> str:
    """The reason without the names of this pair."""
    words = reach.seen
    for name, general in ((reach.source, "the sender"), (reach.target, "the receiver")):
        words = words.replace(name, general).replace(name.partition("/")[0], general)
    return words
