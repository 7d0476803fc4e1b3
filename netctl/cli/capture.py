"""The command that shows packets as they pass, or writes them down: capture."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netctl.cli import output
from netctl.cli.options import PROOF_PANEL, Json, Lab, complete_node
from netctl.errors import InputError, NetctlError

if TYPE_CHECKING:
    from dataplane.capture import Capture, Catalogue, Frame, Point
    from dataplane.capture.filters import Expression
    from netctl.cli.operations import Running
    from netctl.model import Intent

STDOUT = "-"
"""What -w takes for the standard output."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PROOF_PANEL)(capture)


def capture(
    points: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[POINT]...",
            autocompletion=complete_node,
            help="A VM, VM/NIC, host, switch or machine, or HOST:DEVICE. Default: all NICs, taps, "
            "uplinks and switch ports.",
        ),
    ] = None,
    write: Annotated[
        str | None,
        typer.Option("--write", "-w", metavar="F", help="Write a pcapng file; `-` for the standard output."),
    ] = None,
    expression: Annotated[
        str | None,
        typer.Option(
            "--filter", "-f", metavar="EXPR", help="Only packets for which this tcpdump expression holds."
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-c", metavar="N", min=1, help="End after N packets.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", metavar="S", min=0.0, help="End after S seconds.")
    ] = None,
    lab: Lab = None,
    json: Json = False,
) -> None:
    """Show packets at several points at once, or write one merged pcapng file. Ctrl-C ends it."""
    from dataplane.capture import Capture
    from netctl.cli.inside import locate

    if write == STDOUT and json:
        raise InputError(
            "-w - and --json both want the standard output", "Write to a file, or leave one out."
        )
    if write == STDOUT and sys.stdout.isatty():
        raise InputError(
            "a pcapng file does not go on a terminal", "netctl capture -w - | tshark -r -; or give -w a file."
        )
    running, words = locate(lab, *(points or ()))
    catalogue = find_points(running)
    found = catalogue.find(words)
    wanted = _compiled(running, expression)
    with _ended() as ended, _sink(running.name, found, write, json) as sink:
        with Capture(running.name, found, expression=wanted) as caught:
            _say_begun(running, caught)
            with _counted(shown=write is not None) as tell:
                for frames in caught.frames(lambda: ended() or sink.count == count, seconds):
                    sink.take(frames if count is None else frames[: count - sink.count])
                    tell(sink.count)
        sink.finish(caught)
    _say_ended(sink, caught)


def find_points(running: Running) -> Catalogue:
    """The points of a running lab."""
    from dataplane import netns, tools
    from dataplane.capture.points import Catalogue, explain_port
    from dataplane.daemons import VSWITCHD

    def devices(node: str) -> list[str]:
        try:
            found = netns.inside(running.rack.inventory.namespace(node), socket.if_nameindex)
        except NetctlError:
            return []
        return [name for _, name in found]

    def explain(node: str, port: str) -> InputError | None:
        if running.rack.inventory.nodes[node].kind not in ("host", "switch"):
            return None
        try:
            shown = tools.ask(running.rack.runner, node, VSWITCHD, "dpif/show")
        except NetctlError:
            return None
        return explain_port(running.intent.hosts.get(node), node, port, shown)

    return Catalogue(running.intent, devices, explain)


def _compiled(running: Running, expression: str | None) -> Expression | None:
    from dataplane.capture.filters import Expression, with_addresses

    if expression is None:
        return None
    return Expression(with_addresses(expression, addresses(running.intent)))


def addresses(intent: Intent) -> dict[str, list[str]]:
    """The addresses that the lab's names stand for in a filter: of VMs, NICs, machines and hosts."""
    found: dict[str, list[str]] = {vm: [] for vm in intent.file.vms}
    for port in intent.ports:
        address = [str(address) for address in port.addresses]
        found[port.name] = address
        found[port.vm] += address
    for name, machine in intent.machines.items():
        found[name] = [str(machine.definition.ip.ip)] if machine.definition.ip else []
    for name, host in intent.hosts.items():
        found[name] = [str(host.address.ip)]
    return found


@contextlib.contextmanager
def _ended() -> Iterator[Callable[[], bool]]:
    """Within, Ctrl-C and SIGTERM do not interrupt but are told; a second Ctrl-C interrupts."""
    asked: list[int] = []
    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def end(number: int, _: object) -> None:
        asked.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, end)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _counted(shown: bool) -> Iterator[Callable[[int], None]]:
    """How many packets there are, while nothing else is to be seen of them."""
    if not shown or output.Options.verbose:
        yield lambda count: None
        return
    with output.progress("capturing") as progress:
        yield lambda count: progress(output.plural(count, "packet"))


# --- where the packets go -------------------------------------------------------------------------


class _Sink:
    """Takes frames. `count` is how many it has."""

    def __init__(self, lab: str, points: Sequence[Point]) -> None:
        self.lab, self.points = lab, points
        self.count = 0
        self.counts = [0] * len(points)

    def take(self, frames: Sequence[Frame]) -> None:
        """Take frames, in the order of time."""
        self.count += len(frames)
        for frame in frames:
            self.counts[frame.point] += 1

    def finish(self, caught: Capture) -> None:
        """There are no more."""


class _Lines(_Sink):
    """A line a packet."""

    def __init__(self, lab: str, points: Sequence[Point]) -> None:
        super().__init__(lab, points)
        self._names = [point.name.ljust(max(len(each.name) for each in points)) for point in points]

    def take(self, frames: Sequence[Frame]) -> None:
        """Print them."""
        from dataplane.capture.summary import summary

        super().take(frames)
        for frame in frames:
            where = f"{self._names[frame.point]}  {'out' if frame.outgoing else 'in '}"
            output.write(f"{_clock(frame.time)}  {where}  {summary(frame.octets)}")
        if frames:
            sys.stdout.flush()


class _Document(_Sink):
    """One JSON document at the end, with the packets unless they go to a file."""

    def __init__(self, lab: str, points: Sequence[Point], file: _File | None) -> None:
        super().__init__(lab, points)
        self._file = file
        self._packets: list[dict[str, Any]] = []

    def take(self, frames: Sequence[Frame]) -> None:
        """Keep them."""
        from dataplane.capture.summary import summary

        super().take(frames)
        if self._file:
            self._file.take(frames)
            return
        self._packets += [
            {
                "time_ns": frame.time,
                "point": self.points[frame.point].name,
                "direction": "out" if frame.outgoing else "in",
                "length": frame.length,
                "summary": summary(frame.octets),
            }
            for frame in frames
        ]

    def finish(self, caught: Capture) -> None:
        """Print the document."""
        if self._file:
            self._file.finish(caught)
        document: dict[str, Any] = {
            "lab": self.lab,
            "points": [
                {
                    "name": point.name,
                    "about": point.about,
                    "node": point.node,
                    "device": point.device,
                    "packets": count,
                }
                for point, count in zip(self.points, self.counts, strict=True)
            ],
            "count": self.count,
            "lost": caught.lost,
            "seconds": _seconds(caught),
        }
        document |= {"file": self._file.name} if self._file else {"packets": self._packets}
        output.emit(document)


class _File(_Sink):
    """A pcapng file."""

    def __init__(self, lab: str, points: Sequence[Point], name: str, descriptor: int) -> None:
        from dataplane.capture import Writer

        super().__init__(lab, points)
        self.name = name
        self._writer = Writer(descriptor, lab, points)

    def take(self, frames: Sequence[Frame]) -> None:
        """Write them."""
        super().take(frames)
        self._writer.write(frames)

    def finish(self, caught: Capture) -> None:
        """Write what was counted."""
        self._writer.finish(caught)


@contextlib.contextmanager
def _sink(lab: str, points: Sequence[Point], write: str | None, json: bool) -> Iterator[_Sink]:
    if write is None:
        yield _Document(lab, points, None) if json else _Lines(lab, points)
        return
    if write == STDOUT:
        sys.stdout.flush()
        yield _File(lab, points, write, sys.stdout.fileno())
        return
    try:
        descriptor = os.open(write, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError(f"cannot write {write}: {error.strerror}", "Give -w the name of a file.") from None
    try:
        file = _File(lab, points, str(Path(write)), descriptor)
        yield _Document(lab, points, file) if json else file
    finally:
        os.close(descriptor)


# --- words ----------------------------------------------------------------------------------------


def _say_begun(running: Running, caught: Capture) -> None:
    """Only now, that every socket listens."""
    where = output.plural(len(caught.points), "point")
    output.note(f"capturing at {where} of {running.name}; Ctrl-C ends it")
    if caught.absent:
        output.note(f"not there: {', '.join(caught.absent)}", style="yellow")


def _say_ended(sink: _Sink, caught: Capture) -> None:
    where = output.plural(len(sink.points), "point")
    output.note(f"{output.plural(sink.count, 'packet')} at {where} in {output.seconds(_seconds(caught))}")
    for node, count in sorted(caught.lost.items()):
        output.note(
            f"{node}: the kernel had no room for {output.plural(count, 'packet')}; "
            "name fewer points, or a narrower --filter",
            style="yellow",
        )


def _seconds(caught: Capture) -> float:
    return round((caught.ended - caught.began) / 1e9, 3)


def _clock(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest:09d}"
