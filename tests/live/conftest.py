"""Live tests use netctl as users do: the installed command, YAML files, `ip netns exec`."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

TOPOLOGIES = Path(__file__).parents[2] / "topologies"
NETCTL = str(Path(sys.executable).with_name("netctl"))


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.geteuid() == 0, "live tests need root: sudo make test"
    monkeypatch.chdir(tmp_path)  # bundles of failed checks go into the working directory


@dataclass(frozen=True)
class Done:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def netctl(*arguments: str | Path, code: int | None = 0, **options: Any) -> Done:
    """Run netctl; fail with its words when it ends with another exit code than `code` (None: any)."""
    done = subprocess.run(
        [NETCTL, *map(str, arguments)], capture_output=True, text=True, timeout=180, check=False, **options
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    if code is not None:
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return Done(done.returncode, done.stdout, done.stderr)


class Lab:
    """A lab of one test: an intent file of its own, under a name of its own."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.file = directory / f"{name}.yaml"

    def write(self, intent: dict[str, Any] | str) -> Path:
        """Write the intent, under the lab's own name; returns the file."""
        data = yaml.safe_load(intent) if isinstance(intent, str) else dict(intent)
        data["name"] = self.name
        self.file.write_text(yaml.safe_dump(data, sort_keys=False))
        return self.file

    def up(self, intent: dict[str, Any] | str) -> None:
        netctl("up", self.write(intent))

    def apply(self, intent: dict[str, Any] | str) -> Done:
        return netctl("apply", self.write(intent))

    def down(self) -> None:
        netctl("down", self.name)

    def namespace(self, node: str) -> str:
        return f"{self.name}.{node}"

    def run(self, node: str, *command: str, code: int | None = 0) -> str:
        """Run a command in a node with iproute2, as somebody who knows nothing of netctl would."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace(node), *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if code is not None:
            assert done.returncode == code, f"{node}: {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, node: str, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["ip", "netns", "exec", self.namespace(node), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def tool(self, node: str, *command: str) -> str:
        """Run an OVS or OVN tool of the engine against a node's own daemons."""
        from dataplane import engine
        from dataplane.daemons import Runner

        runner = Runner(self.name, engine.find())
        done = subprocess.run(
            [runner.engine.tool(command[0]), *command[1:]],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, **runner.environment(node)},
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def remains(self) -> list[str]:
        """Whatever of the lab is still on this machine."""
        found = [f"namespace {name}" for name in _listed("/run/netns") if name.startswith(f"{self.name}.")]
        found += [f"file /run/netctl/{name}" for name in _listed("/run/netctl") if name == self.name]
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"/run/netctl/{self.name}/" in line:
                found.append(f"process {pid} {line}")
        return found


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


@contextmanager
def private_lab(prefix: str, directory: Path) -> Iterator[Lab]:
    """A lab under a name that nobody else has; it must leave nothing behind."""
    made = Lab(f"{prefix}{secrets.token_hex(4)}", directory)
    yield made
    netctl("down", made.name)
    assert made.remains() == []


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab for this test alone."""
    with private_lab("t", tmp_path) as made:
        yield made


@pytest.fixture
def other_lab(tmp_path: Path) -> Iterator[Lab]:
    """A second lab beside the first."""
    with private_lab("o", tmp_path) as made:
        yield made


@pytest.fixture
def first_lab() -> dict[str, Any]:
    """The intent of topologies/first-lab.yaml."""
    data: dict[str, Any] = yaml.safe_load((TOPOLOGIES / "first-lab.yaml").read_text())
    return data


class Ping:
    """A ping every 10 ms in the background; `lost` ends it and counts, per ping(8)'s own summary."""

    def __init__(self, lab: Lab, source: str, address: str) -> None:
        self._process = lab.start(source, "ping", "-i", "0.01", "-W", "5", "-n", address)
        assert self._process.stdout
        self._first = self._process.stdout.readline() + self._process.stdout.readline()
        assert "bytes from" in self._first, self._first

    def lost(self) -> int:
        self._process.send_signal(2)
        text, _ = self._process.communicate(timeout=30)
        match = re.search(r"(\d+) packets transmitted, (\d+) (?:packets )?received", text)
        assert match, text
        sent, received = int(match[1]), int(match[2])
        # The one that was on its way when we stopped it is not lost.
        return max(0, sent - received - 1) if text.rstrip().splitlines() else 0
