"""What users see: tables and JSON on stdout, progress and errors on stderr.

Results go to stdout, everything else to stderr. With `--json`, stdout gets one document and nothing else.
In a pipe nothing is coloured, wrapped, cut or drawn over. Rich is imported only once something is drawn.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from netctl.errors import ChangeError, InputError, NetctlError, Problem

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress as ProgressBar
    from rich.table import Table
    from rich.text import Text

UNCUT = 4096
"""Columns of a "terminal" that is a pipe or a file: wide enough that no line is wrapped or cut."""

SHOW_AFTER = 0.5
"""Seconds that an action may take before a progress bar appears."""

STATE_STYLES = {
    "running": "green",
    "ready": "green",
    "up": "green",
    "ok": "green",
    "yes": "green",
    "passed": "green",
    "degraded": "yellow",
    "changing": "yellow",
    "half-made": "yellow",
    "limit": "yellow",
    "stopped": "red",
    "down": "red",
    "dead": "red",
    "unreadable": "red",
    "missing": "red",
    "no": "red",
    "failed": "red",
}


class Options:
    """What was asked of the output as a whole; set while the command line is read."""

    json = False
    verbose = False


@cache
def stdout() -> Console:
    """The console of results."""
    return _console(stderr=False)


@cache
def stderr() -> Console:
    """The console of progress and errors."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    from rich.console import Console

    class Plain(Console):
        """Rich ends the process when a reader goes away; here that is for `main.run` to decide."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    console = Plain(stderr=stderr, highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = UNCUT
    return console


def emit(document: Any) -> None:
    """The one JSON document of a command run with `--json`."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")
    sys.stdout.flush()


def say(text: str | Text = "", style: str | None = None) -> None:
    """A line of the result."""
    stdout().print(text, style=style, soft_wrap=True)


def write(text: str) -> None:
    """Text as it is, such as YAML."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def note(text: str, style: str | None = None) -> None:
    """A line beside the result. A reader who went away does not stop a change half-way."""
    with contextlib.suppress(OSError):
        stderr().print(text, style=style, soft_wrap=True)


def heading(text: str) -> None:
    """The title of a part of the result, set off from what is above."""
    say()
    say(text, style="bold")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], fold: str | None = None) -> None:
    """Rows under headings; as records of `heading: value` lines where the terminal is too narrow.

    `fold` is the column that may wrap. An empty table prints nothing.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        return
    console = stdout()
    drawn = _table(columns, cells, fold)
    widest = console.measure(drawn, options=console.options.update(width=UNCUT)).maximum
    if widest <= console.width or (fold is not None and _narrowest(columns, cells, fold) <= console.width):
        draw(drawn)
    else:
        _records(console, columns, cells)


def _table(columns: Sequence[str], cells: Sequence[Sequence[str]], fold: str | None) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for name in columns:
        drawn.add_column(name, no_wrap=name != fold, overflow="fold")
    for row in cells:
        drawn.add_row(*(Text(value, STATE_STYLES.get(value, "")) for value in row))
    return drawn


def _narrowest(columns: Sequence[str], cells: Sequence[Sequence[str]], fold: str) -> int:
    """Columns that the table needs when the folding column gets 20 of them."""
    widths = [max(map(len, values)) for values in zip(columns, *cells, strict=True)]
    widths[list(columns).index(fold)] = 20
    return sum(widths) + 2 * len(widths)


def _records(console: Console, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.text import Text

    for number, row in enumerate(cells):
        if number:
            console.print()
        for name, value in zip(columns, row, strict=True):
            if value:
                line = Text.assemble((f"{name}: ", "bold"), (value, STATE_STYLES.get(value, "")))
                console.print(line, overflow="fold")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        return ", ".join(map(_cell, value))
    return str(value)


def draw(renderable: RenderableType) -> None:
    """Anything that rich can draw, on stdout; a pipe gets no blanks at the ends of lines."""
    console = stdout()
    if console.is_terminal:
        console.print(renderable)
        return
    with console.capture() as drawn:
        console.print(renderable)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in drawn.get().splitlines()))


# --- errors ---------------------------------------------------------------------------------------


def report(error: NetctlError) -> None:
    """An error in words on stderr and, with `--json`, as the document on stdout."""
    if Options.json:
        with contextlib.suppress(OSError):
            emit({"error": describe(error)})
    complain(error)


def complain(error: NetctlError) -> None:
    """An error in words on stderr."""
    with contextlib.suppress(OSError):
        _report(error)


def describe(error: NetctlError) -> dict[str, Any]:
    """An error as JSON."""
    document: dict[str, Any] = {"exit_code": error.exit_code, "message": error.message}
    if error.next_step:
        document["next_step"] = error.next_step
    if isinstance(error, InputError) and error.problems:
        document["problems"] = problems(error.problems)
    return document


def problems(found: Iterable[Problem]) -> list[dict[str, Any]]:
    """Problems of a file as JSON."""
    return [
        {
            "file": problem.file,
            "line": problem.line,
            "column": problem.column,
            "message": problem.message,
            "hint": problem.hint,
        }
        for problem in found
    ]


def warn(found: Iterable[Problem]) -> None:
    """What is allowed but probably not meant, on stderr."""
    for problem in found:
        _problem(problem, "warning: ")


def _problem(problem: Problem, kind: str = "") -> None:
    from rich.text import Text

    place = f"{problem.file}:{problem.line}:{problem.column}: "
    with contextlib.suppress(OSError):
        stderr().print(Text.assemble((place, "bold"), (kind, "yellow"), problem.message), soft_wrap=True)
        if problem.hint:
            stderr().print(Text(f"    {problem.hint}", "cyan"), soft_wrap=True)


def _report(error: NetctlError) -> None:
    from rich.text import Text

    console = stderr()
    if isinstance(error, InputError) and error.problems:
        for problem in error.problems:
            _problem(problem)
        console.print(Text.assemble(("netctl: ", "bold red"), error.message), soft_wrap=True)
        return
    prefix = "" if error.message.startswith("netctl ") else "netctl: "
    console.print(Text.assemble((prefix, "bold red"), error.message), soft_wrap=True)
    if error.next_step:
        console.print(Text(f"  {error.next_step}", "cyan"), soft_wrap=True)


# --- progress -------------------------------------------------------------------------------------


class Progress:
    """Told what is being done and how much of the whole is done; draws a bar on a terminal that waits.

    Quiet in a pipe; with `--verbose` each step is a line with its time since the start.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._began = time.monotonic()
        self._last = ""
        self._bar: ProgressBar | None = None
        self._lock = threading.Lock()
        self._done: float | None = None
        self._timer: threading.Timer | None = None

    def __call__(self, what: str, done: float | None = None) -> None:
        """One step: what is being done now, and 0 to 1."""
        with self._lock:
            if done is not None:
                self._done = max(0.0, min(1.0, done))
            changed, self._last = what != self._last, what
            self._draw()
        if Options.verbose and changed:
            note(f"{time.monotonic() - self._began:7.2f} s  {what}", style="dim")

    def __enter__(self) -> Progress:
        if stderr().is_terminal and not Options.verbose:
            self._timer = threading.Timer(SHOW_AFTER, self._show)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
                self._bar = None

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def _show(self) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column

        with self._lock:
            whole = Column(no_wrap=True, overflow="ellipsis")
            rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
            bar = Progress(
                SpinnerColumn(),
                TextColumn(f"{self._title}", table_column=whole),
                BarColumn(bar_width=16),
                TimeElapsedColumn(),
                TextColumn("{task.description}", table_column=rest),
                console=stderr(),
                expand=True,
                transient=True,
            )
            # Without a share of the whole to show, the bar pulses.
            bar.add_task(self._last, total=None)
            self._bar = bar
            self._draw()
            bar.start()

    def _draw(self) -> None:
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, description=self._last)
            if self._done is not None:
                self._bar.update(task, total=1.0)
                self._bar.update(task, completed=self._done)


@contextlib.contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Progress of something that changes nothing."""
    with Progress(title) as shown:
        yield shown


@contextlib.contextmanager
def changing(title: str) -> Iterator[Progress]:
    """Progress of a change. Ctrl-C in it is a change that failed (exit 5), not just an interruption."""
    try:
        with Progress(title) as shown:
            yield shown
    except KeyboardInterrupt:
        raise ChangeError(
            f"interrupted while {title}; what was done until then stays",
            "Run the same command again to finish it; `netctl down LAB` removes the lab.",
        ) from None


def plural(count: int, noun: str) -> str:
    """`1 change`, `2 changes`, `0 changes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def seconds(value: float) -> str:
    """A duration as users read it: `0.31 s`, `12.4 s`, `3 min 5 s`."""
    if value < 10:
        return f"{value:.2f} s"
    if value < 100:
        return f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"
