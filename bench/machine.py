"""What the benchmarks share: running netctl and other programs, and what is known of this machine."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench import intents
from dataplane.engine import Engine, find
from netctl.errors import ChangeError, MachineError

HERE = Path(__file__).parent
NETCTL = str(Path(sys.executable).with_name("netctl"))
RUN_FILES = Path("/run/netctl")
LIMIT = 600.0
"""Seconds after which something that is measured is given up."""

SETTLE_LIMIT = 60.0
QUIET = 2.0
"""Seconds without the removal of a namespace after which there is none left to remove."""

_STEP = re.compile(r" *(\d+\.\d+) s  (.+)")


@cache
def engine() -> Engine:
    """The OVN and OVS that netctl uses, for the references too."""
    return find()


def environment() -> dict[str, str]:
    """The environment in which the engine's tools are found as if they were installed."""
    tools = engine().env()
    return {**os.environ, **tools, "PATH": f"{tools['OVS_BINDIR']}:{os.environ['PATH']}"}


def need(program: str, package: str) -> None:
    """Raise MachineError when a program is not there."""
    if not shutil.which(program, path=environment()["PATH"]):
        raise MachineError(f"the benchmark needs {program}", f"apt-get install {package}")


def run(arguments: Sequence[str | Path], env: Mapping[str, str] | None = None) -> str:
    """What a program prints; ChangeError with its last words when it fails."""
    words = [str(argument) for argument in arguments]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=False, env=env)
    except subprocess.TimeoutExpired:
        raise ChangeError(f"`{' '.join(words)}` did not end within {LIMIT:.0f} s") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-5:]
        raise ChangeError(f"`{' '.join(words)}` failed ({done.returncode}): " + "\n".join(said))
    return done.stdout


def timed(arguments: Sequence[str | Path]) -> tuple[str, float]:
    """What a program prints, and the wall seconds from its start to its end."""
    began = time.monotonic()
    said = run(arguments)
    return said, time.monotonic() - began


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for run files; short, because the paths of sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as place:
        yield Path(place)


# --- netctl as users run it ------------------------------------------------------------------------


@dataclass(frozen=True)
class Timed:
    """A whole netctl process: wall and CPU seconds, and the seconds of each of its phases in order."""

    seconds: float
    cpu: float
    phases: Mapping[str, float]


class Lab:
    """A lab of a benchmark, under a name of its own."""

    def __init__(self, document: intents.Document, directory: Path) -> None:
        self.name = str(document["name"])
        self.file = directory / f"{self.name}.yaml"
        self.file.write_text(intents.text(document))

    def up(self) -> Timed:
        """`netctl up`, from the start of the process to its end."""
        return self._timed("up", str(self.file))

    def apply(self) -> Timed:
        """`netctl apply`, of the file as it is now."""
        return self._timed("apply", str(self.file))

    def command(self, *arguments: str | Path) -> tuple[str, float]:
        """A netctl command that must succeed: what it prints, and its wall seconds."""
        return timed([NETCTL, *arguments])

    def ping(self, source: str, target: str) -> None:
        """One packet, and not a second one: ChangeError when it does not come back."""
        run([NETCTL, "exec", "--lab", self.name, source, "--", "ping", "-c", "1", "-W", "2", target])

    def down(self) -> Timed:
        """`netctl down`."""
        return self._timed("down", self.name)

    def directory(self, node: str) -> Path:
        """The run directory of a node."""
        return RUN_FILES / self.name / node

    def processes(self) -> dict[str, list[Daemon]]:
        """The daemons by node, told by the files that they were started with."""
        found: dict[str, list[Daemon]] = {}
        pattern = re.compile(rf"{RUN_FILES}/{self.name}/([^/]+)/")
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = Path(f"/proc/{entry}/cmdline").read_text().split("\0")
            except OSError:
                continue
            node = pattern.search(" ".join(words))
            if node:
                found.setdefault(node[1], []).append(Daemon(int(entry), os.path.basename(words[0])))
        return found

    def _timed(self, *arguments: str) -> Timed:
        before = os.times()
        began = time.monotonic()
        process = subprocess.Popen(
            [NETCTL, "--verbose", *arguments, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            result, said = process.communicate(timeout=LIMIT)
        except BaseException:
            process.kill()
            process.wait()
            raise
        took = time.monotonic() - began
        after = os.times()
        if process.returncode != 0:
            raise ChangeError(f"`netctl {' '.join(arguments)}` failed ({process.returncode}): {said}")
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return Timed(took, cpu, phases(said, took, json.loads(result)["seconds"]))


def phases(said: str, took: float, counted: float) -> dict[str, float]:
    """Seconds by phase.

    Args:
        said: the lines of `--verbose`: the time at which each phase began, on netctl's own clock.
        took: wall seconds of the process.
        counted: what netctl's clock showed in the end; it starts once Python is up and stops before it ends.
    """
    steps = [(float(step[1]), step[2]) for step in map(_STEP.fullmatch, said.splitlines()) if step]
    starts = [start for start, _ in steps] + [counted]
    found = {"Python, imports": starts[0] + took - counted}
    for at, (start, name) in enumerate(steps):
        found[name] = found.get(name, 0.0) + starts[at + 1] - start
    return found


def settle() -> None:
    """Wait until the kernel has done away with the namespaces of what ran before.

    It does so in the background, long after their processes are gone, and whoever makes namespaces meanwhile
    waits for it: without this each measurement would pay for the one before it.
    """
    deadline = time.monotonic() + SETTLE_LIMIT
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET and time.monotonic() < deadline:
        if _removes_namespaces():
            quiet_since = time.monotonic()
        time.sleep(0.1)


def _removes_namespaces() -> bool:
    """Whether a kernel worker is at it just now; its name shows `+netns` then."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            name = Path(f"/proc/{entry}/comm").read_text()
            if name.startswith("kworker") and name.endswith("+netns\n"):
                return True
    return False


@contextmanager
def lab(document: intents.Document) -> Iterator[Lab]:
    """A lab that is not up yet, and that is gone afterwards."""
    with scratch() as directory:
        made = Lab(document, directory)
        try:
            yield made
        finally:
            subprocess.run([NETCTL, "down", made.name], capture_output=True, timeout=LIMIT, check=False)


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running daemon."""

    pid: int
    program: str

    def cpu(self) -> float:
        """CPU seconds since it started."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> tuple[int, int]:
        """Octets: resident (RSS), and its share of them where pages are shared with other processes (PSS)."""
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        sizes = {
            name: int(size) * 1024 for name, size in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)
        }
        return sizes["Rss"], sizes["Pss"]


# --- the machine -----------------------------------------------------------------------------------


def description() -> dict[str, Any]:
    """What the figures were measured on."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return {
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "engine": f"OVN {engine().ovn_version}, OVS {engine().ovs_version} ({engine().name})",
        "commit": commit.stdout.strip() or "unknown",
        "load": os.getloadavg()[0],
    }


def dump(document: Any) -> str:
    """JSON for people and programs."""
    return json.dumps(document, indent=2, ensure_ascii=False)
