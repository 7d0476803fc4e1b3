"""The checks of a file against a running lab: the board, what is done at failures, and whose lab it is."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

import dataplane.checks
from dataplane.checks import Result, describe
from netctl.cli import bundle, operations, output
from netctl.cli.app import run
from netctl.cli.board import Board, duration
from netctl.cli.outcome import Outcome, Told
from netctl.cli.proof import Proof
from netctl.errors import ChangeError, InputError, MachineError
from netctl.intent import load
from netctl.model import Intent

LAB = """
name: shop
hosts: {hv1: {}, hv2: {}}
subnets: {web: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}}
vms:
  web1: {host: hv1, nics: [{subnet: web}]}
  web2: {host: hv2, nics: [{subnet: web}]}
checks:
  - {name: near, from: web1, to: web2}
  - {name: far, from: web2, to: web1, protocol: tcp, port: 80}
  - name: story
    steps: [{fail: link hv1 eth0}, {check: {from: web1, to: web2}}, {heal: all}]
  - name: quiet story
    steps: [{check: {from: web1, to: web2}}]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "shop.yaml"
    found.write_text(LAB)
    return found


@pytest.fixture
def intent(file: Path) -> Intent:
    return load(file, supported_only=False)


class Lab:
    """Checks that fail by name, and what was asked meanwhile, in order."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.events: list[str] = []
        self.parallel: list[bool] = []
        self.error: Exception | None = None
        self.unwritable = False

    def run_checks(
        self,
        intent: Intent,
        lab: str,
        *,
        on_start: Callable[[Any], None],
        on_failure: Callable[[Result], None],
        on_result: Callable[[Result], None],
        parallel: bool,
        **_: Any,
    ) -> None:
        self.parallel.append(parallel)
        for check in intent.file.checks:
            on_start([check])
            name = describe(check)
            self.events.append(f"check {name}")
            result = Result(check, name, name not in self.failing, 0.002, "stated", "seen", ("line",))
            if not result.passed:
                on_failure(result)
            self.events.append(f"heal {name}")
            on_result(result)
            if self.error is not None:
                raise self.error

    def write(self, running: Any, results: Sequence[Result]) -> Path:
        self.events.append("bundle " + ", ".join(result.name for result in results))
        if self.unwritable:
            raise MachineError("no room")
        return Path(f"/bundles/{len(self.events)}")


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    output.stdout.cache_clear()
    output.stderr.cache_clear()
    made = Lab()
    monkeypatch.setattr(dataplane.checks, "run_checks", made.run_checks)
    monkeypatch.setattr(operations, "verbs", lambda _: {})
    monkeypatch.setattr(operations, "locate", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(bundle, "write", made.write)
    return made


def prove(intent: Intent, *, repeat: int = 1, pause: bool = False) -> Outcome:
    outcome = Outcome(intent.name, Path("shop.yaml"))
    Proof(outcome, None, pause).run(intent, (), repeat)
    return outcome


# --- failures -------------------------------------------------------------------------------------


def test_no_bundle_when_all_is_well(lab: Lab, intent: Intent) -> None:
    assert prove(intent).bundles == []
    assert not any(event.startswith("bundle") for event in lab.events)


def test_one_bundle_at_the_end_and_of_stories_before_they_heal(lab: Lab, intent: Intent) -> None:
    lab.failing = {"near", "far", "story", "quiet story"}
    outcome = prove(intent)
    order = [event for event in lab.events if event.startswith(("bundle", "heal"))]
    assert order == [
        *("heal near", "heal far"),
        *("bundle story", "heal story"),
        "heal quiet story",
        "bundle near, far, quiet story",
    ]
    of_story, of_rest = outcome.told[2].bundle, outcome.told[0].bundle
    assert of_story and of_rest and of_story != of_rest
    assert [told.bundle for told in outcome.told] == [of_rest, of_rest, of_story, of_rest]


def test_a_check_that_fails_again_and_again_is_in_one_bundle(lab: Lab, intent: Intent) -> None:
    lab.failing = {"near", "story"}
    outcome = prove(intent, repeat=3)
    assert [event for event in lab.events if event.startswith("bundle")] == ["bundle story", "bundle near"]
    assert len(outcome.failures) == 6
    assert all(told.bundle for told in outcome.failures)


def test_what_cannot_be_bundled_is_said_and_the_results_stay(
    lab: Lab, intent: Intent, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.failing, lab.unwritable = {"near"}, True
    outcome = prove(intent)
    assert len(outcome.told) == 4 and outcome.bundles == []
    assert "no bundle: no room" in capsys.readouterr().err


def test_an_error_after_a_failure_still_gets_a_bundle(lab: Lab, intent: Intent) -> None:
    lab.failing, lab.error = {"near"}, ChangeError("the observers could not keep up")
    with pytest.raises(ChangeError):
        prove(intent)
    assert lab.events[-1] == "bundle near"


# --- --pause-on-failure ---------------------------------------------------------------------------


def test_a_pause_waits_at_each_failure_before_it_heals(
    lab: Lab, intent: Intent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Keyboard:
        def readline(self) -> str:
            lab.events.append("Enter")
            return "\n"

    monkeypatch.setattr("sys.stdin", Keyboard())
    lab.failing = {"far", "story"}
    prove(intent, pause=True)
    assert lab.parallel == [False]
    events = [event for event in lab.events if not event.startswith("bundle")]
    assert events[2:7] == ["check far", "Enter", "heal far", "check story", "Enter"]
    said = capsys.readouterr().err
    assert "netctl shell --lab shop web2" in said
    assert "netctl trace --lab shop web2 web1 --protocol tcp --port 80" in said
    assert "netctl trace --lab shop web1 web2\n" in said
    assert said.count("Enter goes on") == 2


def test_a_terminal_that_goes_away_is_not_waited_for(
    lab: Lab, intent: Intent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    lab.failing = {"near", "far"}
    prove(intent, pause=True)
    assert capsys.readouterr().err.count("Enter goes on") == 1


def test_no_pause_without_a_terminal(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert run(["test", str(file), "--pause-on-failure"]) == 2
    assert "stdin is not a terminal" in capsys.readouterr().err


# --- the board ------------------------------------------------------------------------------------


def test_a_growing_table_on_a_terminal(intent: Intent, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=60, color_system=None, legacy_windows=False)
    monkeypatch.setattr(output, "stdout", lambda: console)
    names = [describe(check) for check in intent.file.checks]
    with Board(names) as board:
        board.started(names)
        for check, name in zip(intent.file.checks, names, strict=True):
            board.show(Told(Result(check, name, name != "far", 0.5, "stated", "seen", ("line",))))
        with board.aside():
            console.print("somebody else's")
        with board.busy("collecting"):
            pass
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.getvalue()).replace("\r", "")
    lines = [line.rstrip() for line in text.splitlines()]
    start = lines.index("result  check            time")
    rows = [line for line in lines[start:] if line.startswith(("passed", "FAILED"))]
    assert rows == [
        "passed  near           500 ms",
        "FAILED  far            500 ms",
        "passed  story          500 ms",
        "passed  quiet story    500 ms",
    ]
    assert "        seen:   seen" in lines and "          line" in lines
    assert lines.count("somebody else's") == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 ms"), (0.0009, "0.9 ms"), (0.0312, "31 ms"), (1.239, "1.24 s"), (75, "75.0 s")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# --- whose lab it is ------------------------------------------------------------------------------


def against(file: Path, there: str, monkeypatch: pytest.MonkeyPatch, of: str = "shop.yaml") -> int:
    """`netctl test FILE --lab there` where the lab `there` was made from this text in that file."""
    other = file.with_name("running.yaml")
    other.write_text(there)
    running = load(other, supported_only=False)
    record = SimpleNamespace(file=str(file.with_name(of).resolve()))
    monkeypatch.setattr(operations, "known", lambda: ["there"])
    monkeypatch.setattr(
        operations, "locate", lambda name: SimpleNamespace(name=name, intent=running, record=record)
    )
    return run(["test", str(file), "--lab", "there"])


PLAIN = LAB.partition("  - name: story")[0]


def test_a_copy_of_the_lab_is_as_good(
    lab: Lab, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(PLAIN)
    copy = PLAIN.replace("name: shop", "name: there").partition("checks:")[0]
    assert against(file, copy, monkeypatch, of="copy.yaml") == 0
    assert capsys.readouterr().err == ""


def test_an_edited_file_is_told(
    lab: Lab, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(PLAIN)
    assert against(file, PLAIN.replace("vlan: 10,", "vlan: 11,"), monkeypatch) == 0
    assert f"the lab there is not as {file} says now: netctl apply" in capsys.readouterr().err


def test_another_lab_without_these_names_is_refused(
    lab: Lab, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(
        LAB.replace("{from: web1, to: web2}}, {heal", "{from: web1, to: 10.10.0.9, via: [tor1]}}, {heal")
    )
    assert against(file, LAB.replace("web1", "app1"), monkeypatch, of="other.yaml") == 2
    said = capsys.readouterr().err
    assert f"the lab there is of {file.with_name('other.yaml')}, not of {file}" in said
    places = [line for line in said.splitlines() if " has no " in line]
    assert [place.removeprefix(str(file)) for place in places] == [
        ":9:24: the lab there has no VM, NIC or bare machine web1",
        ":10:33: the lab there has no VM, NIC or bare machine web1",
        ":12:51: the lab there has no VM, NIC or bare machine web1",
        ":14:28: the lab there has no VM, NIC or bare machine web1",
    ]
    assert "it has app1, web2" in said
    assert lab.events == []


def test_a_lab_that_is_not_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "known", lambda: [])
    with pytest.raises(InputError, match="there is no lab other"):
        from netctl.cli.checks import _running

        with _running(load(file, supported_only=False), file, "other", False):
            pass
