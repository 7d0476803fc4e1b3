"""What a node can tell about itself, for whoever looks for a fault: a text for each question.

Nothing is asked here: a dump says what will be asked when it is read, so that many can be read side by side.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dataplane import tools
from dataplane.daemons import (
    ALL,
    CONTROLLER,
    NB_SERVER,
    NORTHBOUND,
    OVSDB,
    SB_SERVER,
    SOUTHBOUND,
    VSWITCHD,
    Daemon,
    Runner,
)
from dataplane.inventory import CENTRAL, Node
from netctl.errors import ChangeError

LOG = 256 << 10
"""Octets of a log that are kept: its end."""


@dataclass(frozen=True, slots=True)
class Dump:
    """One question: the file that the answer goes to, its title there, and how to ask.

    `read` raises NetctlError or OSError when there is no answer. `title` is "" where a file has one dump.
    """

    file: str
    title: str
    read: Callable[[], str]


def of_switching(runner: Runner, node: Node) -> Iterator[Dump]:
    """A host or switch: its database, and for each bridge flows and MAC table; bonds and datapath."""

    def ask(file: str, *words: str) -> Dump:
        read = partial(tools.ask, runner, node.name, VSWITCHD, *words)
        return Dump(f"{node.name}/{file}.txt", " ".join(words), read)

    def vswitch(title: str, *words: str) -> Dump:
        return Dump(f"{node.name}/ovs.txt", title, partial(_with, runner, node.name, OVSDB, *words))

    yield vswitch("ovs-vsctl show", "ovs-vsctl", "--timeout=2", "show")
    remote = runner.remote(node.name, "db")
    yield vswitch(
        "ovsdb-client dump", "ovsdb-client", "--timeout=2", "--format=list", "dump", remote, "Open_vSwitch"
    )
    for bridge in bridges(runner, node.name):
        socket = f"unix:{runner.directory(node.name) / bridge}.mgmt"
        flows = ("ovs-ofctl", "-OOpenFlow15", "--names", "dump-flows", socket)
        yield Dump(f"{node.name}/flows-{bridge}.txt", "", partial(_with, runner, node.name, VSWITCHD, *flows))
        yield ask("fdb", "fdb/show", bridge)
    if node.kind == "host":
        yield ask("bond", "bond/show")
    yield ask("datapath", "dpif/show")
    yield ask("datapath", "dpctl/dump-flows", "--names")
    yield ask("datapath", "coverage/show")
    if node.kind == "host":
        yield ask("datapath", "tnl/neigh/show")
        status = partial(tools.ask, runner, node.name, CONTROLLER, "connection-status")
        yield Dump(f"{node.name}/controller.txt", "ovn-appctl connection-status", status)


def of_network(runner: Runner, node: str, file: str) -> Iterator[Dump]:
    """The devices, addresses, routes and neighbours of a node's namespace."""
    for words in (("-details", "address"), ("route",), ("neighbour",)):
        read = partial(tools.command, ["ip", "-netns", f"{runner.lab}.{node}", *words], {})
        yield Dump(file, f"{node}: ip {' '.join(words)}", read)


def of_central(runner: Runner) -> Iterator[Dump]:
    """OVN's two databases."""
    for file, tool, daemon, name, more in (
        ("nb.txt", "ovn-nbctl", NB_SERVER, NORTHBOUND, ()),
        ("sb.txt", "ovn-sbctl", SB_SERVER, SOUTHBOUND, ("lflow-list",)),
    ):
        remote = runner.remote(CENTRAL, name)
        schema = "OVN_Northbound" if name == NORTHBOUND else "OVN_Southbound"
        for words in (
            *((tool, "--timeout=2", f"--db={remote}", word) for word in ("show", *more)),
            ("ovsdb-client", "--timeout=2", "--format=list", "dump", remote, schema),
        ):
            read = partial(_with, runner, CENTRAL, daemon, *words)
            yield Dump(file, f"{words[0]} {words[-1] if words[0] == tool else 'dump'}", read)


def of_logs(runner: Runner, node: Node) -> Iterator[Dump]:
    """The end of each daemon's log."""
    for daemon in ALL.get(node.kind, ()):
        place = runner.directory(node.name) / f"{daemon.role}.log"
        yield Dump(f"{node.name}/{daemon.role}.log", "", partial(_tail, place))


def daemons(runner: Runner, node: Node) -> str:
    """The daemons that a node is to have, a line each: PID and state, or why it cannot answer."""
    lines = []
    for daemon in ALL.get(node.kind, ()):
        try:
            pid = tools.require(runner, node.name, daemon)
        except ChangeError as error:
            lines.append(error.message)
        else:
            lines.append(f"{daemon.role} of {node.name} is running (process {pid}, {tools.state_of(pid)})")
    return "".join(f"{line}\n" for line in lines)


def bridges(runner: Runner, node: str) -> list[str]:
    """The bridges that a node's ovs-vswitchd had when it last changed them, told by their sockets."""
    return sorted(path.stem for path in runner.directory(node).glob("*.mgmt"))


def _with(runner: Runner, node: str, daemon: Daemon, tool: str, *arguments: str) -> str:
    """What a tool says that talks to this daemon. A stopped one is not waited for."""
    tools.require(runner, node, daemon)
    return tools.run(runner, node, tool, *arguments)


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOG))
        text = file.read(LOG).decode(errors="replace")
    if size <= LOG:
        return text
    return f"(the last of {size} octets)\n{text.partition(chr(10))[2]}"
