"""The daemons of a node: their command lines, their files, and starting those that are missing.

Every node has one run directory. Files are called as OVS and OVN call them by default, so that with
OVS_RUNDIR and OVN_RUNDIR set to it, `ovs-vsctl`, `ovs-appctl`, `ovn-nbctl` and so on need no options.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ovs.unixctl.client import UnixctlClient

from dataplane import bgp, processes, store
from dataplane.inventory import CENTRAL, Kind, Node
from dataplane.processes import Process
from netctl.errors import ChangeError, MachineError
from netctl.model import basic

if TYPE_CHECKING:
    from dataplane.engine import Engine

NORTHBOUND, SOUTHBOUND = "ovnnb_db", "ovnsb_db"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon of a node: `role` names its files, `program` is its executable, `arguments` its own."""

    role: str
    program: str
    arguments: tuple[str, ...] = ()


NB_SERVER = Daemon(NORTHBOUND, "ovsdb-server")
SB_SERVER = Daemon(SOUTHBOUND, "ovsdb-server")
NORTHD = Daemon("ovn-northd", "ovn-northd")
OVSDB = Daemon("ovsdb-server", "ovsdb-server")
VSWITCHD = Daemon("ovs-vswitchd", "ovs-vswitchd")
CONTROLLER = Daemon("ovn-controller", "ovn-controller")
PUNT = Daemon("punt", "punt.py")
ZEBRA = Daemon("zebra", "zebra")
BGPD = Daemon("bgpd", "bgpd")
FEED = Daemon("bgp-feed", "bgp_feed.py")
HEALTH = Daemon("health", "health.py")

BASE: dict[Kind, tuple[Daemon, ...]] = {
    "central": (NB_SERVER, SB_SERVER, NORTHD),
    "host": (OVSDB, VSWITCHD),
    "switch": (OVSDB, VSWITCHD),
}
"""What runs before anything is configured, in the order of starting."""

ALL: dict[Kind, tuple[Daemon, ...]] = {**BASE, "host": (OVSDB, VSWITCHD, CONTROLLER)}
"""What runs on a ready lab by kind alone; see `of`."""


def of(node: Node) -> tuple[Daemon, ...]:
    """What runs in a node of a ready lab where nothing is stopped on purpose."""
    beside = (*((PUNT,) if node.punted else ()), *((HEALTH,) if node.probed else ()))
    return (*ALL.get(node.kind, ()), *beside, *_bgp(node))


def _bgp(node: Node) -> tuple[Daemon, ...]:
    if node.bgp is None:
        return ()
    if node.bgp.feeds is None:
        return (ZEBRA, BGPD)
    return (replace(BGPD, arguments=("--no_zebra",)), replace(FEED, arguments=node.bgp.feeds))


HITS = "hits.log"
"""The file with the hits of policies on VLAN basic subnets, in a host's run directory."""

PROBED, HEALTHY = "functions.json", "health.json"
"""Which network functions a host has to probe, and what came of it, in its run directory."""

_PUNT = Path(__file__).with_name("punt.py")
_FEED = Path(__file__).with_name("bgp_feed.py")
_HEALTH = Path(__file__).with_name("health.py")

ALLOCATION = {"ovs-vswitchd": {"MALLOC_TRIM_THRESHOLD_": str(4 << 20)}}
"""What a program is told about its heap (mallopt(3)), by the program.

ovs-vswitchd allocates and frees the packets of a batch. By default the C library gives the end of the heap
back to the kernel each time 128 KiB are free there, and the next batch takes it again: 90,000 page faults a
second and a quarter of a TCP stream's throughput, or not, as the last allocation happens to lie.
"""


@dataclass(frozen=True)
class Runner:
    """Starts the daemons of one lab with one engine."""

    lab: str
    engine: Engine

    def directory(self, node: str) -> Path:
        """The run directory of a node."""
        return store.directory(self.lab) / node

    def prepare(self, nodes: Iterable[tuple[str, Kind]]) -> None:
        """Make run directories, and databases where there are none."""
        templates: dict[str, Path] = {}
        for node, kind in nodes:
            place = self.directory(node)
            with store.writing(place):
                place.mkdir(mode=0o755, exist_ok=True)
            for file, schema in _DATABASES.get(kind, ()):
                if (place / file).exists():
                    continue
                if schema not in templates:
                    templates[schema] = self._template(schema)
                with store.writing(place / file):
                    draft = place / f"{file}.new"
                    shutil.copyfile(templates[schema], draft)
                    draft.replace(place / file)
        for template in templates.values():
            template.unlink(missing_ok=True)

    def start(self, node: str, daemons: Iterable[Daemon], running: Iterable[Process]) -> list[Daemon]:
        """Start those of the daemons that are not running; returns the started ones."""
        alive = roles_of(running)
        missing = [daemon for daemon in daemons if daemon.role not in alive]
        for daemon in missing:
            if daemon is VSWITCHD:
                self._forward_at_once(node)
            environment = self.environment(node) | ALLOCATION.get(daemon.program, {})
            processes.start(f"{self.lab}.{node}", self._command(node, daemon), environment)
        return missing

    def _forward_at_once(self, node: str) -> None:
        """Take back what ovn-controller on a gateway host tells the next ovs-vswitchd: to wait for its word.

        It gives the word and takes it back within milliseconds (OVN 26.03, other_config:flow-restore-wait),
        and an ovs-vswitchd that is late hears nothing of it, forwards nothing and is dead to its peers. There
        is nothing to wait for: the host gets its address, without which it has no tunnels, with its
        ovn-controller.
        """
        place = self.directory(node)
        if b"flow-restore-wait" not in (place / "conf.db").read_bytes():
            return
        words = ["--", "--if-exists", "remove", "Open_vSwitch", "."]
        done = subprocess.run(
            [
                self.engine.tool("ovs-vsctl"),
                f"--db={self.remote(node, 'db')}",
                "--no-wait",
                "--timeout=10",
                *(*words, "other_config", "flow-restore-wait"),
                *(*words, "external_ids", "ovn-managed-flow-restore-wait"),
            ],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.environment(node)},
        )
        if done.returncode != 0:
            raise ChangeError(f"the Open_vSwitch database of {node} does not answer: {done.stderr.strip()}")

    def environment(self, node: str) -> dict[str, str]:
        """The environment of a node's daemons and of tools that talk to them."""
        place = str(self.directory(node))
        names = ("OVS_RUNDIR", "OVN_RUNDIR", "OVS_LOGDIR", "OVN_LOGDIR", "OVS_DBDIR", "OVN_DBDIR")
        return {**self.engine.env(), **dict.fromkeys(names, place)}

    def ask(self, node: str, daemon: Daemon, command: str, *arguments: str) -> str:
        """Send a command to a daemon as ovs-appctl(8) does. ChangeError with its words when it refuses."""
        return self.ask_all(node, daemon, [(command, *arguments)])[0]

    def ask_all(self, node: str, daemon: Daemon, commands: Iterable[tuple[str, ...]]) -> list[str]:
        """Send commands, each with its arguments, over one connection; otherwise as `ask`."""
        place = self.directory(node)
        try:
            pid = (place / f"{daemon.role}.pid").read_text().strip()
        except OSError as missing:
            raise ChangeError(f"{daemon.program} of {node} is not running") from missing
        error, client = UnixctlClient.create(str(place / f"{daemon.program}.{pid}.ctl"))
        if error:
            raise ChangeError(f"{daemon.program} of {node} does not answer: {os.strerror(error)}")
        results = []
        try:
            for command, *arguments in commands:
                error, failure, result = client.transact(command, arguments)
                if error or failure is not None:
                    raise ChangeError(
                        f"{daemon.program} of {node}: {command}: {failure or os.strerror(error)}"
                    )
                results.append(str(result))
        finally:
            client.close()
        return results

    def _template(self, schema: str) -> Path:
        template = store.directory(self.lab) / f"{schema}.template"
        template.unlink(missing_ok=True)
        (template.parent / f".{template.name}.~lock~").unlink(missing_ok=True)
        source = self.engine.schema(schema)  # type: ignore[arg-type]
        done = subprocess.run(
            [self.engine.tool("ovsdb-tool"), "create", str(template), str(source)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.engine.env()},
        )
        if done.returncode != 0:
            raise MachineError(f"cannot create a database in {template.parent}: {done.stderr.strip()}")
        (template.parent / f".{template.name}.~lock~").unlink(missing_ok=True)
        return template

    def _command(self, node: str, daemon: Daemon) -> list[str]:
        place = self.directory(node)
        common = [
            "--detach",
            "--no-chdir",
            f"--pidfile={place / daemon.role}.pid",
            f"--log-file={place / daemon.role}.log",
            "-vconsole:off",
            "-vsyslog:off",
        ]
        if daemon.program == "ovsdb-server":
            file, socket = (
                ("conf.db", "db.sock") if daemon is OVSDB else (f"{daemon.role}.db", f"{daemon.role}.sock")
            )
            special = [str(place / file), f"--remote=punix:{place / socket}"]
        elif daemon is PUNT:
            files = [one for one in common if "file=" in one]
            bridge = place / f"{basic.MICROSEG}.mgmt"
            return [sys.executable, "-I", str(_PUNT), *files, f"--hits={place / HITS}", str(bridge)]
        elif daemon.program in (ZEBRA.program, BGPD.program):
            return [
                bgp.program(daemon.program),
                "--daemon",
                f"--pid_file={place / daemon.role}.pid",
                f"--log=file:{place / daemon.role}.log",
                f"--vty_socket={place}",
                "--vty_port=0",
                f"--socket={place / 'zserv.api'}",
                *((f"--config_file={place / 'bgpd.conf'}",) if daemon.program == BGPD.program else ()),
                *daemon.arguments,
            ]
        elif daemon.program == FEED.program:
            files = [one for one in common if "file=" in one]
            schemas = f"--schemas={self.engine.schema('ovn-nb').parent}"
            remotes = self.remote(CENTRAL, NORTHBOUND), self.remote(CENTRAL, SOUTHBOUND)
            words = (*remotes, *daemon.arguments, str(place / "bgpd.vty"))
            return [sys.executable, "-I", str(_FEED), *files, schemas, *words]
        elif daemon is HEALTH:
            files = [one for one in common if "file=" in one]
            told = (f"--wanted={place / PROBED}", f"--found={place / HEALTHY}")
            ofctl = f"--ofctl={self.engine.tool('ovs-ofctl')}"
            bridge = place / f"{basic.NETWORK_FUNCTIONS}.mgmt"
            return [sys.executable, "-I", str(_HEALTH), *files, *told, ofctl, str(bridge)]
        elif daemon is NORTHD:
            special = [
                f"--ovnnb-db={self.remote(node, NORTHBOUND)}",
                f"--ovnsb-db={self.remote(node, SOUTHBOUND)}",
            ]
        else:
            special = [self.remote(node, "db")]
        return [self.engine.tool(daemon.program), *special, *common]

    def remote(self, node: str, database: str) -> str:
        """The OVSDB remote of a node's database: `db`, NORTHBOUND or SOUTHBOUND."""
        return f"unix:{self.directory(node) / database}.sock"


_DATABASES: dict[Kind, tuple[tuple[str, str], ...]] = {
    "central": ((f"{NORTHBOUND}.db", "ovn-nb"), (f"{SOUTHBOUND}.db", "ovn-sb")),
    "host": (("conf.db", "vswitch"),),
    "switch": (("conf.db", "vswitch"),),
}


def roles_of(running: Iterable[Process]) -> set[str]:
    """The roles of those processes that are daemons of ours."""
    return {role for role in map(_role_of, running) if role is not None}


def _role_of(process: Process) -> str | None:
    """Which daemon of its node a process is, told by its own command line; None for anything else."""
    try:
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    for argument in arguments:
        option, _, file = argument.partition(b"=")
        if option in processes.PIDFILES:
            return Path(os.fsdecode(file)).stem
    return None
