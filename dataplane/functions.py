"""The programs of network functions: started in their namespaces, and again where they are others."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute

from dataplane import daemons, netns, processes, store
from dataplane.daemons import Runner
from dataplane.inventory import Node
from dataplane.processes import Process
from netctl.model.flow import learned_cookie
from netctl.model.functions import dead

ROLE = "function"
"""The role of a function's program, which names its pidfile."""

STALE = 5.0
"""Seconds after which what was last written of functions says nothing: who writes it is gone."""

_PROGRAM = Path(__file__).with_name("processor.py")


def arguments(lab: str, node: Node, directory: str) -> list[str]:
    """The command line of a function; `directory` is where a command of the user's is."""
    assert node.program is not None
    place = store.directory(lab) / node.name
    return [
        sys.executable,
        "-I",
        str(_PROGRAM),
        f"--pidfile={place / ROLE}.pid",
        f"--log-file={place / ROLE}.log",
        f"--mode={'inline' if node.program.inline else 'tap'}",
        f"--program={node.program.name}",
        f"--rules={json.dumps(node.program.rules)}",
        f"--capture={place / 'capture.pcap'}",
        f"--directory={directory}",
    ]


def start(lab: str, node: Node, directory: str, running: Iterable[Process]) -> None:
    """Start a function's program; whatever else runs in its namespace with its role ends."""
    processes.end(process.pid for process in running if ROLE in daemons.roles_of([process]))
    place = store.directory(lab) / node.name
    with store.writing(place):
        place.mkdir(mode=0o755, exist_ok=True)
    processes.start(f"{lab}.{node.name}", arguments(lab, node, directory), {})


def wrong(lab: str, node: Node, directory: str, running: Iterable[Process]) -> str:
    """What is wrong with a function's program, in words; "" when it runs as it must."""
    there = [process for process in running if ROLE in daemons.roles_of([process])]
    if node.stopped:
        return "its program runs" if there else ""
    if not there:
        return "its program is not running"
    same = any(_words(process.pid) == arguments(lab, node, directory) for process in there)
    return "" if same and len(there) == 1 else "its program is another"


def _words(pid: int) -> list[str]:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [word.decode(errors="replace") for word in line.split(b"\0")[:-1]]


def tell(runner: Runner, host: Node) -> None:
    """Write down which functions of a host are to be probed (dataplane.health)."""
    file = runner.directory(host.name) / daemons.PROBED
    if told(runner, host):
        return
    with store.writing(file):
        draft = file.with_suffix(".new")
        draft.write_text(_probed(runner, host))
        draft.replace(file)


def told(runner: Runner, host: Node) -> bool:
    """Whether that is written down."""
    try:
        return (runner.directory(host.name) / daemons.PROBED).read_text() == _probed(runner, host)
    except OSError:
        return False


def _probed(runner: Runner, host: Node) -> str:
    cookie = f"{learned_cookie(runner.lab):#x}"
    return json.dumps(
        {
            name: {"enter": enter, "leave": leave, "flow": dead(name), "cookie": cookie}
            for name, (enter, leave) in sorted(host.probed.items())
        }
    )


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of an instance: whether it is alive (None: nothing yet), and since when."""

    alive: bool | None
    since: float


def health(runner: Runner, host: str) -> dict[str, Health]:
    """The health of the inline functions of a host, as far as it is known."""
    file = runner.directory(host) / daemons.HEALTHY
    try:
        if time.time() - file.stat().st_mtime > STALE:
            return {}
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return {name: Health(one["alive"], one["since"]) for name, one in found.items()}


def living(runner: Runner, host: str) -> set[str]:
    """The inline functions of a host that are known to live."""
    return {name for name, found in health(runner, host).items() if found.alive}


def counters(namespace: str) -> tuple[int, int]:
    """Packets that came into a function and that went out of it, as its kernel counts them, pings too."""
    try:
        return netns.inside(namespace, _counted)
    except OSError:
        return 0, 0


def _counted() -> tuple[int, int]:
    came = went = 0
    with IPRoute() as netlink:
        for link in netlink.get_links():
            if link.get_attr("IFLA_IFNAME") in ("in", "out"):
                counted = link.get_attr("IFLA_STATS64")
                came, went = came + counted["rx_packets"], went + counted["tx_packets"]
    return came, went


def directory(lab: str) -> str:
    """Where a lab's file is: commands of functions are found from there."""
    record = store.read(lab)
    return str(Path(record.file).parent) if record is not None else "/"
