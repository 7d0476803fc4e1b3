"""Processes of a lab: found by the namespace that they live in, started as daemons, ended for certain.

The process table is the truth. Pidfiles are only hints: a process counts when it really lives in the
node's namespace, so a recycled PID or a file that a killed run left behind cannot mislead us.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataplane import netns
from netctl.errors import ChangeError

START_LIMIT = 60.0
"""Seconds that a daemon may take to say that it is ready; a busy CI machine is slow."""


PIDFILES = (b"--pidfile", b"--pid_file", b"--pid-file")
"""How daemons of OVS, BusyBox, FRR and dnsmasq are told their pidfile."""


@dataclass(frozen=True, slots=True)
class Process:
    """A running process: `program` is its executable's file name."""

    pid: int
    program: str


def living_in(inodes: Collection[int]) -> dict[int, list[Process]]:
    """Processes by the inode of their network namespace, for these namespaces only."""
    found: dict[int, list[Process]] = {inode: [] for inode in inodes}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            link = os.readlink(f"/proc/{entry}/ns/net")
            inode = int(link[5:-1])
            if inode in found:
                executable = os.readlink(f"/proc/{entry}/exe").removesuffix(" (deleted)")
                found[inode].append(Process(int(entry), os.path.basename(executable)))
        except OSError:
            continue  # it ended while we looked, or is a zombie
    return found


def with_files_in(directory: Path) -> list[int]:
    """PIDs of daemons that keep their pidfile below this directory, whatever namespace they live in."""
    wanted = [option + os.fsencode(f"={directory}/") for option in PIDFILES]
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
                if any(option in line for option in wanted):
                    found.append(int(entry))
    return found


def start(namespace: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Start a daemon that detaches once it is ready (ovsdb-server(1), `--detach`), inside the namespace.

    Raises ChangeError with the daemon's own words when it fails or takes longer than START_LIMIT.
    """
    program = os.path.basename(argv[0])
    with netns.entered(namespace):
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, **environment},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise ChangeError(f"{program} of {namespace} does not start: {error.strerror}") from error
    try:
        _, words = child.communicate(timeout=START_LIMIT)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        raise ChangeError(f"{program} of {namespace} was not ready within {START_LIMIT:.0f} s") from None
    if child.returncode != 0:
        lines = [line for line in words.decode(errors="replace").splitlines() if line.strip()]
        said = lines[-1] if lines else f"exit code {child.returncode}"
        logs = [
            argument.removeprefix("--log-file=") for argument in argv if argument.startswith("--log-file=")
        ]
        raise ChangeError(
            f"{program} of {namespace} does not start: {said}",
            f"Its log says more: {logs[0]}" if logs else None,
        )


def end(pids: Iterable[int], limit: float = 30.0) -> None:
    """SIGKILL these processes and wait until they are gone. Raises ChangeError if one stays.

    No daemon of a lab has anything to save: its databases are removed with it.
    """
    descriptors: dict[int, int] = {}
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                descriptors[os.pidfd_open(pid)] = pid
        for descriptor in descriptors:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        waiting = select.poll()
        for descriptor in descriptors:
            waiting.register(descriptor, select.POLLIN)
        left = set(descriptors)
        deadline = time.monotonic() + limit
        while left:
            ready = waiting.poll(max(0, int((deadline - time.monotonic()) * 1000)))
            if not ready:
                stuck = ", ".join(str(descriptors[descriptor]) for descriptor in left)
                raise ChangeError(f"these processes do not end after SIGKILL: {stuck}")
            for descriptor, _ in ready:
                waiting.unregister(descriptor)
                left.discard(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
