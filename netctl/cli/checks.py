"""Commands that prove what a lab does: test, ping."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netctl.cli import output
from netctl.cli.options import (
    INSIDE_PANEL,
    PROOF_PANEL,
    File,
    Json,
    Lab,
    complete_check,
    complete_node,
)
from netctl.errors import CheckFailed, ConflictError, InputError, NetctlError

if TYPE_CHECKING:
    from dataplane.checks import Ping
    from netctl.cli.outcome import Outcome
    from netctl.model import Intent


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=INSIDE_PANEL)(ping)
    app.command(rich_help_panel=PROOF_PANEL)(test)


# --- test -----------------------------------------------------------------------------------------


def test(
    file: File,
    lab: Lab = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            "--select",
            metavar="TEXT",
            autocompletion=complete_check,
            help="Only checks whose name contains or matches this; may be given again.",
        ),
    ] = None,
    repeat: Annotated[int, typer.Option("--repeat", metavar="N", min=1, help="Run them N times.")] = 1,
    pause: Annotated[
        bool,
        typer.Option(
            "--pause-on-failure", help="Stop at each check that fails, with the lab as it is, until Enter."
        ),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave a lab running that was started for this.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option("--junitxml", metavar="F", help="Write the results as JUnit XML too.")
    ] = None,
    json: Json = False,
) -> None:
    """Run the checks of FILE against its lab. Exit 1 when one fails.

    Starts the lab when it is not up, and then removes it again.
    """
    from netctl.cli.outcome import Outcome
    from netctl.cli.proof import refuse_to_pause_unseen
    from netctl.intent import load

    if pause:
        refuse_to_pause_unseen()
    intent = load(file)
    output.warn(intent.warnings)
    if junit is not None:
        _make_parent(junit)
    outcome = Outcome(lab or intent.name, file)
    try:
        if intent.file.checks:
            with _running(intent, file, lab, keep) as running:
                _run(outcome, running, select or (), repeat, pause, show=not json)
    except NetctlError as error:
        outcome.error = error
        raise
    finally:
        if junit is not None:
            _write_junit(junit, outcome)
    if json:
        output.emit(outcome.to_json())
    else:
        _say_outcome(outcome)
    if outcome.failures:
        raise typer.Exit(CheckFailed.exit_code)


@contextlib.contextmanager
def _running(intent: Intent, file: Path, lab: str | None, keep: bool) -> Iterator[Intent]:
    """Within, the lab is up; yields its intent with the checks of the file.

    A lab that was started for this is removed again, also when it did not come up whole.
    """
    from dataplane import store
    from netctl.cli import operations
    from netctl.cli.subject import with_checks

    name = lab or intent.name
    # What is half-made has no record; to find that, all namespaces must be looked at.
    start = store.read(name) is None and name not in operations.known()
    if start and lab is not None and lab != intent.name:
        raise InputError(f"there is no lab {lab}", f"Without --lab, the lab of {file} is started.")
    remove = start and not keep
    try:
        if start:
            with output.changing(f"bringing up {file}") as progress:
                operations.up(file, progress)
        yield with_checks(operations.locate(name), intent, file)
    except ConflictError:
        remove = False  # the lab is somebody else's
        raise
    finally:
        if remove:
            with output.changing(f"removing {name}") as progress:
                operations.down(name, False, progress)


def _run(
    outcome: Outcome, intent: Intent, select: Sequence[str], repeat: int, pause: bool, show: bool
) -> None:
    from dataplane.checks import describe, selected
    from netctl.cli.board import Board
    from netctl.cli.proof import Proof

    if not show:
        Proof(outcome, None, pause).run(intent, select, repeat)
        return
    names = [describe(check) for check in selected(intent.file.checks, select)]
    with Board(names, repeat) as board:
        Proof(outcome, board, pause).run(intent, select, repeat)


def _say_outcome(outcome: Outcome) -> None:
    count, failed = len(outcome.told), len(outcome.failures)
    took = f"({output.seconds(outcome.seconds)})"
    for bundle in outcome.bundles:
        output.say(f"bundle: {bundle}")
    if not count:
        output.say(f"{outcome.file} has no checks")
    elif failed:
        output.say(f"{outcome.lab}: {failed} of {output.plural(count, 'check')} failed {took}", "bold red")
    else:
        output.say(f"{outcome.lab}: {output.plural(count, 'check')} passed {took}", "bold")


def _make_parent(junit: Path) -> None:
    try:
        junit.parent.mkdir(parents=True, exist_ok=True)
        junit.open("a").close()
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise InputError(f"cannot write {junit}: {error.strerror}", "Give a file for --junitxml.") from None


def _write_junit(path: Path, outcome: Outcome) -> None:
    from netctl.cli.junit import document

    path.write_bytes(document(outcome))


# --- ping -----------------------------------------------------------------------------------------


def ping(
    source: Annotated[
        str,
        typer.Argument(metavar="A", autocompletion=complete_node, help="Who pings: a VM or bare machine."),
    ],
    target: Annotated[
        str, typer.Argument(metavar="B", autocompletion=complete_node, help="A VM, bare machine or address.")
    ],
    lab: Lab = None,
    count: Annotated[int, typer.Option("--count", "-c", metavar="N", min=1, help="How many pings.")] = 3,
    size: Annotated[
        int | None,
        typer.Option("--size", "-s", metavar="OCTETS", min=0, max=65000, help="Octets of payload."),
    ] = None,
    json: Json = False,
) -> None:
    """Send 3 pings from VM A to VM B or to an address, and follow them. Exit 1 when one gets no answer."""
    from dataplane.checks import ping as send_pings
    from netctl.cli.inside import locate

    running, (source, target) = locate(lab, source, target)

    def tell(one: Ping) -> None:
        if json:
            return
        if one.answered:
            output.say(f"{source} -> {target}  {one.sequence}  {one.rtt_ms:.3f} ms")
        else:
            output.say(f"{source} -> {target}  {one.sequence}  {one.seen}", style="red")
        if not one.answered or output.Options.verbose:
            for line in one.evidence:
                if line != one.seen:
                    output.say(f"    {line}", style="dim")

    pings = send_pings(running.intent, running.name, source, target, count, size=size, on_ping=tell)
    times = [one.rtt_ms for one in pings if one.rtt_ms is not None]
    if json:
        sent = [{"sequence": one.sequence, "rtt_ms": one.rtt_ms, "seen": one.seen} for one in pings]
        output.emit(
            {"lab": running.name, "from": source, "to": target, "answered": len(times), "pings": sent}
        )
    else:
        words = f"{len(pings)} sent, {len(times)} answered"
        if times:
            mean = sum(times) / len(times)
            words += f"; {min(times):.3f} / {mean:.3f} / {max(times):.3f} ms (least, mean, most)"
        output.say(words)
    if len(times) < len(pings):
        raise typer.Exit(CheckFailed.exit_code)
