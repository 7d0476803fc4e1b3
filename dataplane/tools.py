"""The engine's tools on a node, each run with a limit: the daemon that it asks may be stopped or stuck."""

from __future__ import annotations

import os
import subprocess
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
    command = [runner.engine.tool(tool), *arguments]
    shown = " ".join((tool, *arguments[:3]))
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=limit,
            cwd="/",
            env={**os.environ, **runner.environment(node)},
        )
    except subprocess.TimeoutExpired:
        raise ChangeError(f"{shown} on {node} took longer than {limit:g} s") from None
    except OSError as error:
        raise ChangeError(f"{shown} on {node}: {error.strerror}") from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        words = lines[-1] if lines else f"exit code {done.returncode}"
        raise ChangeError(f"{shown} on {node}: {words}")
    return done.stdout.decode(errors="replace")


def ask(runner: Runner, node: str, daemon: Daemon, *command: str, limit: float = LIMIT) -> str:
    """What a daemon of a node answers to a command, as ovs-appctl(8) asks it; otherwise as `run`."""
    return run(runner, node, "ovs-appctl", "-t", control(runner, node, daemon), *command, limit=limit)


def control(runner: Runner, node: str, daemon: Daemon) -> str:
    """The control socket of a daemon. ChangeError when it does not run."""
    place: Path = runner.directory(node)
    try:
        pid = (place / f"{daemon.role}.pid").read_text().strip()
    except OSError as missing:
        raise ChangeError(f"{daemon.program} of {node} is not running") from missing
    return str(place / f"{daemon.program}.{pid}.ctl")
