"""The entry: exit codes and words for whatever can go wrong, and nothing heavy at start-up."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest

from netctl import __version__
from netctl.cli import bugs, machine, operations, output
from netctl.cli.app import app, run
from netctl.errors import ChangeError, ConflictError, InputError, Problem

HEAVY = ("mininet", "networkx", "ovs", "ovsdbapp", "pydantic", "pyroute2", "rich", "scapy", "yaml")


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consoles made for the streams of this test; no colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    output.stdout.cache_clear()
    output.stderr.cache_clear()


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException, command: str = "labs") -> None:
    def broken(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(operations, command, broken)


def test_start_up_imports_nothing_heavy() -> None:
    code = f"import sys, netctl.cli.app; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"netctl {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["engine", "--help"], ["up", "-h"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0
    assert "Usage: netctl" in capsys.readouterr().out


def test_every_command_has_a_help_text_and_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    names = [
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    ]
    assert len(names) > 10
    for name in names:
        assert run([name, "--help"]) == 0
        assert len(capsys.readouterr().out.splitlines()) > 4


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) in (0, 2)  # as typer's version has it
    said = capsys.readouterr()
    assert "Usage: netctl" in said.out + said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["vaildate"], "netctl has no command vaildate; did you mean validate?"),
        (["zzzzzz"], "netctl has no command zzzzzz"),
        (["engine", "instal"], "netctl engine has no command instal; did you mean install?"),
        (["labs", "--jsno"], "netctl labs has no option --jsno; did you mean --json?"),
        (["up"], "netctl up: missing argument 'FILE'"),
        (["labs", "one", "two"], "netctl labs: got unexpected extra arguments (one two)"),
        (["ping", "a", "b", "--count", "many"], "--count"),
        (["ping", "a", "b", "--count", "0"], "--count"),
        (["down", "some", "--all"], "a lab and --all at once"),
    ],
)
def test_usage_errors(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""
    assert len(said.err.splitlines()) == 2  # what is wrong, and the next step


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InputError("no such thing", "Write another."), 2, "netctl: no such thing\n  Write another."),
        (ConflictError("busy"), 4, "netctl: busy"),
        (ChangeError("half"), 5, "netctl: half"),
        (OSError(errno.ENOSPC, "No space left on device", "/run/x"), 3, "no space left on the disk (/run/x)"),
        (OSError(errno.EDQUOT, "Quota"), 3, "no space left"),
        (PermissionError(errno.EPERM, "Operation not permitted"), 3, "permission denied"),
        (OSError(errno.EROFS, "Read-only"), 3, "read-only"),
        (OSError(errno.EMFILE, "Too many"), 3, "ulimit -n"),
        (KeyboardInterrupt(), 130, "netctl: interrupted"),
    ],
)
def test_errors_become_words_and_codes(
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail_with(monkeypatch, error)
    assert run(["labs"]) == code
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""
    assert "Traceback" not in said.err


def test_an_unforeseen_error_is_a_bug_with_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(bugs, "_directories", lambda: iter([tmp_path / "no" / "file", tmp_path]))
    (tmp_path / "no").write_text("a file where a directory is wanted")
    fail_with(monkeypatch, ZeroDivisionError("division by zero\nand more"))
    assert run(["labs", "--json"]) == 70
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out
    (log,) = tmp_path.glob("bug-*.log")
    assert str(log) in said.err
    text = log.read_text()
    assert "Traceback" in text
    assert "ZeroDivisionError: division by zero" in text
    assert "$ netctl labs --json" in text


def test_a_bug_whose_log_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bugs, "_directories", lambda: iter([Path("/proc/nowhere")]))
    fail_with(monkeypatch, RuntimeError("oops"))
    assert run(["labs"]) == 70
    assert "a bug in netctl: RuntimeError: oops" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["up", "apply"])
def test_ctrl_c_in_a_change_leaves_words_and_code_5(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, KeyboardInterrupt(), command)
    assert run([command, "lab.yaml"]) == 5
    said = capsys.readouterr().err
    assert "interrupted" in said
    assert "Run the same command again" in said


def test_ctrl_c_in_down(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(operations, "known", lambda: ["shop"])
    fail_with(monkeypatch, KeyboardInterrupt(), "down")
    assert run(["down", "shop"]) == 5
    assert "interrupted while removing shop" in capsys.readouterr().err


def test_an_error_is_a_json_document_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    problem = Problem("a.yaml", 3, 7, "no such subnet", "write one")
    fail_with(monkeypatch, InputError.of([problem]))
    assert run(["labs", "--json"]) == 2
    said = capsys.readouterr()
    assert said.err == "a.yaml:3:7: no such subnet\n    write one\nnetctl: 1 problem found\n"
    assert json.loads(said.out)["error"] == {
        "exit_code": 2,
        "message": "1 problem found",
        "problems": [
            {"file": "a.yaml", "line": 3, "column": 7, "message": "no such subnet", "hint": "write one"}
        ],
    }


def test_json_of_one_run_does_not_leak_into_the_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, ConflictError("busy"))
    run(["labs", "--json"])
    capsys.readouterr()
    run(["labs"])
    assert capsys.readouterr().out == ""


def command_line(words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A shell's command line, `netctl` being this checkout's."""
    netctl = f"{sys.executable} -c 'import sys; from netctl.cli.main import main; main()'"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", words.replace("netctl", netctl)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


def test_a_reader_who_goes_away_is_no_error() -> None:
    done = command_line("netctl schema | true")
    assert done.stderr == ""
    assert done.returncode == 141  # SIGPIPE's, as of any command


def test_a_full_disk_under_the_output() -> None:
    done = command_line("netctl schema > /dev/full")
    assert done.returncode == 3
    assert "no space left" in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str) -> None:
    done = command_line(f"netctl schema {closed}")
    assert done.returncode == 0
    assert done.stderr == ""


def test_output_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("name: lab\ntitle: Größe →\nhosts: {hv1: {}}\n")
    done = command_line(f"netctl graph {file}", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "Gr" in done.stdout


def test_ctrl_c_at_any_moment_shows_no_traceback() -> None:
    ours = 0
    for wait in range(0, 240, 8):
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("netctl")), "schema"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(0.03 + wait / 1000)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
        if "Traceback" in said and "/netctl/cli/" not in said:
            continue  # Python was not up yet, or had not come to our first line
        ours += 1
        assert "Traceback" not in said
        assert process.returncode in (0, 130, -signal.SIGINT)
    assert ours > 10


def test_completion_completes_commands() -> None:
    done = command_line("netctl", _NETCTL_COMPLETE="complete_bash", COMP_WORDS="netctl vali", COMP_CWORD="1")
    assert done.stdout.split() == ["validate"]


def test_doctor_says_whether_labs_can_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    from dataplane import doctor

    findings = [
        doctor.Finding("root", False, "running as user 1000", "run it again with sudo"),
        doctor.Finding("ping", "warn", "not installed", "apt-get install iputils-ping"),
        doctor.Finding("ip", True, "/sbin/ip"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    assert run(["doctor"]) == 3
    said = capsys.readouterr().out
    assert "missing" in said and "run it again with sudo" in said and "labs cannot run" in said
    assert run(["doctor", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["ready"] is False
    assert [each["level"] for each in found["findings"]] == ["missing", "limit", "ok"]
    assert machine._level(True) == "ok"
