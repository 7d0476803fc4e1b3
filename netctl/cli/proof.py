"""Run the checks of a file against a lab that is up, and find out about each failure while it is there."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from netctl.cli import output
from netctl.cli.outcome import Outcome, Told
from netctl.errors import InputError, NetctlError

if TYPE_CHECKING:
    from dataplane.checks import Result
    from netctl.cli.board import Board
    from netctl.model import Intent
    from netctl.model.check import Check

CHANGING = ("fail", "apply", "migrate")
"""Steps of a story that leave the lab another one, until the story ends."""


class Proof:
    """The checks of one file, run once or more often."""

    def __init__(self, outcome: Outcome, board: Board | None, pause: bool) -> None:
        """A proof.

        Args:
            outcome: gets the results.
            board: shows them; None for nothing on stdout.
            pause: stop at each failure until somebody presses Enter.
        """
        self._outcome, self._board, self._pause = outcome, board, pause
        self._known: dict[str, Told] = {}
        """What was found out about a check at its first failure."""

    def run(self, intent: Intent, select: Sequence[str], repeat: int) -> None:
        """Run them; raises as dataplane.checks.run_checks. Bundles are written in any case."""
        from dataplane.checks import run_checks
        from netctl.cli import operations

        began = time.monotonic()
        self._paused = 0.0
        try:
            for _ in range(repeat):
                run_checks(
                    intent,
                    intent.name,
                    select=select or None,
                    on_start=self._started,
                    on_failure=self._failed,
                    on_result=self._passed,
                    parallel=not self._pause,
                    verbs=operations.verbs(intent.name),
                )
        except NetctlError:
            self._bundle_rest()
            raise
        finally:
            self._outcome.seconds = time.monotonic() - began - self._paused
        self._bundle_rest()

    def _started(self, checks: Sequence[Check]) -> None:
        from dataplane.checks import describe

        if self._board is not None:
            self._board.started([describe(check) for check in checks])

    def _passed(self, result: Result) -> None:
        if result.passed:
            self._add(Told(result))

    def _failed(self, result: Result) -> None:
        """The lab is still as the check found it: whatever is to be found out is now."""
        known = self._known.get(result.name)
        told = self._explained(result) if known is None else Told(result, known.trace, known.bundle)
        self._add(told)
        if known is None:
            self._known[result.name] = told
            if result.check.steps is not None and _changes_the_lab(result.check):
                self._bundle([told])
        if self._pause:
            self._wait(result)

    def _explained(self, result: Result) -> Told:
        if result.check.steps is not None:
            return Told(result)
        from netctl.cli import operations, trace

        return Told(result, trace.explain(operations.locate(self._outcome.lab), result.check))

    def _add(self, told: Told) -> None:
        self._outcome.told.append(told)
        if self._board is not None:
            self._board.show(told)

    # --- bundles --------------------------------------------------------------------------------------

    def _bundle_rest(self) -> None:
        """One bundle about all checks that failed and have none: the lab is as they found it."""
        rest = [told for told in self._known.values() if told.bundle is None]
        if rest:
            self._bundle(rest)
        for told in self._outcome.failures:
            told.bundle = self._known[told.result.name].bundle

    def _bundle(self, about: Sequence[Told]) -> None:
        from netctl.cli import bundle, operations

        results = [told.result for told in about]
        try:
            with self._board.busy("collecting the bundle") if self._board is not None else nullcontext():
                written = bundle.write(operations.locate(self._outcome.lab), results)
        except NetctlError as error:
            output.note(f"no bundle: {error.message}", "yellow")
            return
        for told in about:
            told.bundle = written

    # --- --pause-on-failure ---------------------------------------------------------------------------

    def _wait(self, result: Result) -> None:
        began = time.monotonic()
        with self._board.aside() if self._board is not None else nullcontext():
            output.note(
                f"{result.name}: the lab {self._outcome.lab} stays as this check left it. To look:", "bold"
            )
            for command in _ways_to_look(self._outcome.lab, result.check):
                output.note(f"  {command}", "cyan")
            output.note("Enter goes on; Ctrl-C ends the test.", "bold")
            if not sys.stdin.readline():
                self._pause = False  # the terminal has gone: nobody will press Enter
        self._paused += time.monotonic() - began


def refuse_to_pause_unseen() -> None:
    """InputError when there is no terminal to wait at."""
    if not sys.stdin.isatty():
        raise InputError(
            "--pause-on-failure waits for Enter, and stdin is not a terminal",
            "Leave it out: a failure's bundle has what there is to see, and --keep leaves the lab running.",
        )


def _changes_the_lab(check: Check) -> bool:
    return any(getattr(step, verb) is not None for step in check.steps or () for verb in CHANGING)


def _ways_to_look(lab: str, check: Check) -> list[str]:
    """Commands that show more of the packet that failed; in another terminal."""
    probes = [step.check or step.traffic for step in check.steps or ()]
    probe = next((each for each in reversed(probes) if each is not None), check)
    source, target = probe.from_ or "NODE", probe.to or "NODE"
    what = f" --protocol {probe.protocol}" if probe.protocol != "icmp" else ""
    what += f" --port {probe.port}" if probe.port is not None else ""
    return [
        f"netctl shell --lab {lab} {source.partition('/')[0]}",
        f"netctl trace --lab {lab} {source} {target}{what}",
        f"netctl capture --lab {lab} -w failure.pcapng",
    ]
