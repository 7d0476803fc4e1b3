"""DHCP clients of guests: started once OVN can answer, one process a NIC, gone with its namespace.

The client is BusyBox's udhcpc with a script of ours, which gives the NIC its address and routes, and writes
the guest's resolv.conf into the lab's directory; the machine's own /etc stays as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from dataplane import daemons, netns, processes, stack, store
from dataplane.inventory import Lease, Node
from dataplane.processes import Process
from netctl.errors import ChangeError, MachineError

SCRIPT = Path(__file__).with_name("lease.sh")

LIMIT = 15.0
"""Seconds within which a guest must have its address."""

_TRIES, _PAUSE = 10, 1
"""How often, and after how many seconds without an offer, the client asks again before it goes on unseen."""

_ROLE = "dhcp-"


def role(device: str) -> str:
    """The role of the client of a device, which names its pidfile."""
    return f"{_ROLE}{device}"


def outdated(node: Node, running: Iterable[Process]) -> list[int]:
    """PIDs of clients for devices that do not ask by DHCP (any more)."""
    wanted = {role(device) for device in node.leases}
    return [
        process.pid
        for process in running
        if any(found.startswith(_ROLE) and found not in wanted for found in daemons.roles_of([process]))
    ]


def missing(node: Node, running: Iterable[Process]) -> list[str]:
    """The devices that should ask by DHCP and have no client."""
    there = daemons.roles_of(running)
    return [device for device in sorted(node.leases) if role(device) not in there]


def ask(lab: str, node: Node, running: Iterable[Process]) -> list[str]:
    """Start the clients that are missing, or whose lease is not what the NIC is to have.

    Returns what is still without its address after LIMIT seconds, in words.
    """
    namespace = f"{lab}.{node.name}"
    have = netns.inside(namespace, stack.snapshot).addresses
    late = []
    for device, lease in sorted(node.leases.items()):
        its = [process for process in running if role(device) in daemons.roles_of([process])]
        if its and (lease.address is None or have.get(device) == frozenset({lease.address})):
            continue
        processes.end(process.pid for process in its)
        _start(lab, node.name, device, lease)
        if lease.address is not None:
            late.append(device)
    deadline = time.monotonic() + LIMIT
    while late and time.monotonic() < deadline:
        have = netns.inside(namespace, stack.snapshot).addresses
        late = [device for device in late if have.get(device) != frozenset({node.leases[device].address})]
        if late:
            time.sleep(0.05)
    return [_in_words(node, device, have.get(device, frozenset())) for device in late]


def _in_words(node: Node, device: str, have: Iterable[object]) -> str:
    lease: Lease = node.leases[device]
    got = ", ".join(map(str, have))
    return f"{node.name} {device} has not got {lease.address} by DHCP" + (f", but {got}" if got else "")


def _start(lab: str, node: str, device: str, lease: Lease) -> None:
    program = shutil.which("udhcpc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise MachineError(
            f"{node} asks for its address by DHCP, and this machine has no DHCP client",
            "Install one: apt-get install udhcpc",
        )
    place = store.directory(lab) / node
    with store.writing(place):
        place.mkdir(mode=0o755, exist_ok=True)
    told = {"NETCTL_RESOLV_CONF": str(place / "resolv.conf")} if lease.names else {}
    with netns.entered(f"{lab}.{node}"):
        client = subprocess.Popen(
            [
                program,
                f"--pidfile={place / role(device)}.pid",
                *("-i", device),
                *("-s", str(SCRIPT)),
                *("-t", str(_TRIES if lease.address is not None else 1)),
                *("-T", str(_PAUSE)),
                *("-A", "2", "-b"),
                *("-O", "mtu", "-O", "search"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **told},
            cwd="/",
            start_new_session=True,
        )
    try:
        # It goes to the background as soon as it has its lease, or has tried often enough.
        code = client.wait(LIMIT + _TRIES * _PAUSE)
    except subprocess.TimeoutExpired:
        client.kill()
        client.wait()
        raise ChangeError(f"the DHCP client of {node} {device} does not go to the background") from None
    if code != 0:
        raise ChangeError(f"the DHCP client of {node} {device} ended with exit code {code}")


def write_resolver(lab: str, node: Node) -> None:
    """Write the resolv.conf of a guest with addresses of its own; clients write it for the others."""
    file = store.directory(lab) / node.name / "resolv.conf"
    if any(lease.names for lease in node.leases.values()):
        return
    if not node.resolver:
        file.unlink(missing_ok=True)
        return
    text = "".join(f"{line}\n" for line in node.resolver)
    if not file.exists() or file.read_text() != text:
        with store.writing(file):
            file.parent.mkdir(mode=0o755, exist_ok=True)
            draft = file.with_suffix(".new")
            draft.write_text(text)
            draft.replace(file)
