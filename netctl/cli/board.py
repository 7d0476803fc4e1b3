"""The checks as they run: a table that grows on a terminal, plain lines in a pipe."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from netctl.cli import output

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from netctl.cli.outcome import Told

MOST_RUNNING = 8
"""Checks that are shown as running; the rest of a batch is a number."""

AROUND = 20
"""Columns that the verdict and the time take beside the name."""


class Board:
    """One line a check, once it is known; on a terminal, below them those that run just now.

    What is printed stays, and nothing is drawn over it.
    """

    def __init__(self, names: Sequence[str], repeat: int = 1) -> None:
        """A board for checks of these names, run `repeat` times."""
        self._total = len(names) * repeat
        self._done = 0
        self._running: list[str] = []
        self._since = 0.0
        self._live: Live | None = None
        self._busy = ""
        console = output.stdout()
        longest = max(map(len, names), default=0)
        self._wide = min(longest, console.width - AROUND) if console.is_terminal else 0

    def __enter__(self) -> Board:
        if output.stdout().is_terminal:
            from rich.live import Live
            from rich.spinner import Spinner

            self._spinner = Spinner("dots", style="cyan")
            output.say(f"{'result':<8}{'check':<{self._wide}}  {'time':>8}", "bold")
            self._live = Live(console=output.stdout(), get_renderable=self._draw, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def started(self, names: Sequence[str]) -> None:
        """These run now."""
        self._running, self._since = list(names), time.monotonic()

    @contextlib.contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Within, this is what is being done."""
        self._busy, self._since = what, time.monotonic()
        try:
            yield
        finally:
            self._busy = ""

    def show(self, told: Told) -> None:
        """One is known."""
        from rich.text import Text

        result = told.result
        self._done += 1
        if result.name in self._running:
            self._running.remove(result.name)
        word = ("passed", "green") if result.passed else ("FAILED", "bold red")
        name = f"  {result.name:<{self._wide}}"
        took = duration(result.seconds)
        output.say(Text.assemble(word, name, (f"  {took:>8}" if self._wide else f"  {took}", "dim")))
        if not result.passed:
            output.say(f"        stated: {result.expected}")
            output.say(f"        seen:   {result.seen}")
        elif output.Options.verbose:
            output.say(f"        {result.seen}", style="dim")
        if not result.passed or output.Options.verbose:
            for evidence in result.evidence:
                output.say(f"          {evidence}", style="dim")
        if told.trace:
            output.say("        trace:")
            for line in told.trace:
                output.say(f"          {line}", style="dim")

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Within, the terminal is somebody else's."""
        if self._live is None:
            yield
            return
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()

    def _draw(self) -> Table:
        from rich.table import Table

        table = Table.grid(padding=(0, 1))
        running = [self._busy] if self._busy else list(self._running)
        elapsed = f"{time.monotonic() - self._since:.1f} s" if running else ""
        for name in running[:MOST_RUNNING]:
            table.add_row(self._spinner, "     ", name, elapsed)
        waiting = self._total - self._done - min(len(running), MOST_RUNNING)
        if running and waiting > 0 and not self._busy:
            table.add_row("", "", f"and {waiting} more of {self._total}", "", style="dim")
        return table


def duration(seconds: float) -> str:
    """The time of a check as users read it: `0.9 ms`, `31 ms`, `1.24 s`."""
    if seconds < 0.01:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    return output.seconds(seconds)
