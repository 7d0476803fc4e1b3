"""Tables, JSON and progress: right on a terminal of any width, plain and whole in a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import time

import pytest

from netctl.cli import output


@pytest.fixture(autouse=True)
def _fresh() -> None:
    output.stdout.cache_clear()
    output.stderr.cache_clear()
    output.Options.verbose = False


def on_terminal(code: str, columns: int) -> str:
    """What Python code writes to a terminal of that width."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environment, "TERM": "xterm"},
    )
    os.close(slave)
    written = b""
    with contextlib.suppress(OSError):  # EIO: the other side is closed
        while data := os.read(master, 65536):
            written += data
    os.close(master)
    assert process.wait(timeout=30) == 0
    return written.decode()


TABLE = """
from netctl.cli import output
output.table(("name", "state", "what it is about"), [("alpha", "running", "words " * 12), ("b", "dead", "")],
             fold="what it is about")
"""


def test_a_table_in_a_pipe_is_neither_cut_nor_coloured(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(
        ("name", "state", "words"), [("x" * 300, "running", "y" * 300), ("b", True, None)], fold="words"
    )
    lines = capsys.readouterr().out.splitlines()
    assert "x" * 300 in lines[2] and "y" * 300 in lines[2]
    assert "\x1b" not in "".join(lines)
    assert lines[3].split() == ["b", "yes"]
    assert not any(line != line.rstrip() for line in lines)


def test_a_table_wraps_its_folding_column_where_that_is_enough() -> None:
    drawn = on_terminal(TABLE, 60)
    assert "name" in drawn and "name:" not in drawn
    assert drawn.count("words") == 12


def test_a_narrow_terminal_gets_records() -> None:
    drawn = on_terminal(TABLE, 30)
    assert "name: " in drawn and "state: " in drawn
    assert drawn.count("words") == 12


def test_states_are_coloured_on_a_terminal() -> None:
    assert "\x1b[32mrunning" in on_terminal(TABLE, 100)


def test_an_empty_table_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("a", "b"), [])
    assert capsys.readouterr().out == ""


def test_markup_and_emoji_in_names_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("a",), [("[red]x[/red] :smile:",)])
    output.say("[bold]y[/bold] :cow:")
    said = capsys.readouterr().out
    assert "[red]x[/red] :smile:" in said and "[bold]y[/bold] :cow:" in said


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    from ipaddress import IPv4Address

    output.emit({"title": "Größe", "address": IPv4Address("10.0.0.1")})
    assert json.loads(capsys.readouterr().out) == {"title": "Größe", "address": "10.0.0.1"}


def test_progress_is_quiet_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress("waiting") as told:
        told("step", 0.5)
    assert capsys.readouterr() == ("", "")


def test_progress_in_a_pipe_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    output.Options.verbose = True
    with output.progress("waiting") as told:
        told("step one", 0.1)
        told("step one", 0.2)
        told("step two")
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.partition(" s  ")[2] for line in said.err.splitlines()] == ["step one", "step two"]


def test_progress_bar_appears_on_a_terminal_that_waits() -> None:
    code = """
import time
from netctl.cli import output
with output.progress("bringing up x") as told:
    told("links and guests", 0.5)
    time.sleep(1.2)
"""
    drawn = on_terminal(code, 100)
    assert "bringing up x" in drawn and "links and guests" in drawn
    quick = on_terminal(code.replace("1.2", "0.01"), 100)
    assert quick.strip() == ""


def test_a_reader_of_stderr_who_goes_away_does_not_stop_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    output.Options.verbose = True
    with output.progress("changing") as told:
        told("one")
        told("two")


def test_progress_may_be_told_from_several_threads() -> None:
    from threading import Thread

    with output.Progress("x") as told:
        threads = [Thread(target=told, args=(f"step {number}", number / 8)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert told.seconds < 5


@pytest.mark.parametrize(("value", "words"), [(0.123, "0.12 s"), (12.34, "12.3 s"), (185, "3 min 5 s")])
def test_seconds(value: float, words: str) -> None:
    assert output.seconds(value) == words


def test_plural() -> None:
    assert [output.plural(count, "change") for count in (0, 1, 2)] == ["0 changes", "1 change", "2 changes"]


def test_progress_measures_time() -> None:
    with output.Progress("x") as told:
        time.sleep(0.01)
    assert told.seconds >= 0.01
