"""The engine's tools on a node, each run with a limit: the daemon that it asks may be stopped or stuck."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from dataplane.daemons import Daemon, Runner
from netctl.errors import ChangeError

LIMIT = 2.0
"""Seconds that a tool may take."""


def run(runner: Runner, node: str, tool: str, *arguments: str, limit: float = LIMIT) -> str:
    """What a tool of the engine says when it is run on a node.

    Raises:
        ChangeError: it failed or took longer than `limit` seconds; has its words.
        MachineError: the engine has no such tool.
    """
    return command([runner.engine.tool(tool), *arguments], runner.environment(node), limit)


def ask(runner: Runner, node: str, daemon: Daemon, *words: str, limit: float = LIMIT) -> str:
    """What a daemon of a node answers to a command, as ovs-appctl(8) asks it; otherwise as `run`."""
    pid = require(runner, node, daemon)
    control = runner.directory(node) / f"{daemon.program}.{pid}.ctl"
    return run(runner, node, "ovs-appctl", "-t", str(control), *words, limit=limit)


def require(runner: Runner, node: str, daemon: Daemon) -> int:
    """The PID of a daemon that can answer. ChangeError when it does not run or is stopped."""
    try:
        pid = int((runner.directory(node) / f"{daemon.role}.pid").read_text())
    except (OSError, ValueError):
        raise ChangeError(f"{daemon.role} of {node} is not running") from None
    state = state_of(pid)
    if state in ("", "Z", "X"):
        raise ChangeError(f"{daemon.role} of {node} is not running (process {pid} is gone)")
    if state in ("T", "t"):
        raise ChangeError(f"{daemon.role} of {node} is stopped (process {pid}, SIGSTOP)")
    return pid


def state_of(pid: int) -> str:
    """The state of a process as proc(5) has it: R, S, D, T, Z and so on; "" when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def command(argv: Sequence[str], environment: Mapping[str, str], limit: float = LIMIT) -> str:
    """What a command says. ChangeError with its words when it fails or takes longer than `limit` seconds."""
    shown = " ".join((os.path.basename(argv[0]), *argv[1:4]))
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=limit,
            cwd="/",
            env={**os.environ, **environment},
        )
    except subprocess.TimeoutExpired:
        raise ChangeError(f"{shown} took longer than {limit:g} s") from None
    except OSError as error:
        raise ChangeError(f"{shown}: {error.strerror}") from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise ChangeError(f"{shown}: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")
