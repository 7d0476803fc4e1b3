"""DHCP servers of VLAN basic subnets: a dnsmasq in the host's CVM for each subnet with NICs there.

Each serves one device, to which its socket is bound, so that subnets never mix, even with the same addresses.
It knows its clients and answers nobody else. All that it needs is in its configuration, which the file's name
has a digest of: a server is up to date if it runs with the file of that name. What it leased it need not
remember: a client that renews is told the same again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from dataplane import daemons, processes, store
from dataplane.inventory import Node, Server
from dataplane.processes import Process
from netctl.errors import MachineError

ROLE = "dnsmasq-"
"""Before the subnet's name: the role of its server, which names its files."""


def role(subnet: str) -> str:
    """The role of a subnet's server."""
    return f"{ROLE}{subnet}"


def configuration(server: Server, leases: Path, log: Path) -> str:
    """The configuration file of a server (dnsmasq(8)); options are told whether a client asks or not."""
    network = server.address.network
    lines = [
        "port=0",
        "no-hosts",
        "no-resolv",
        "no-ping",
        "user=root",
        "group=root",
        f"interface={server.device}",
        "bind-interfaces",
        f"# {server.address}",
        f"dhcp-range={network.network_address},static,{network.netmask},{server.lease_time}",
        "dhcp-authoritative",
        "dhcp-ignore=tag:!known",
        "dhcp-ignore-clid",
        f"dhcp-leasefile={leases}",
        f"log-facility={log}",
        # Without these dnsmasq would tell its own address as router and for DNS.
        *(f"dhcp-option={number}" for number in (3, 6) if number not in server.options),
        *(f"dhcp-option-force={number},{value}" for number, value in sorted(server.options.items())),
        *(f"dhcp-host={mac},{address}" for mac, address in sorted(server.clients.items())),
    ]
    return "".join(f"{line}\n" for line in lines)


def outdated(lab: str, node: Node, running: Iterable[Process], devices: Iterable[str]) -> list[int]:
    """PIDs of servers that are not wanted, or not as they run; `devices` are those that the CVM has.

    A server is bound to its device for good, so it goes with it.
    """
    there = set(devices)
    wanted = {
        role(subnet): _arguments(lab, node.name, subnet, server)[0]
        for subnet, server in node.servers.items()
        if server.device in there and role(subnet) not in node.stopped
    }
    return [
        process.pid
        for process in running
        for found in daemons.roles_of([process])
        if found.startswith(ROLE) and wanted.get(found) not in _arguments_of(process)
    ]


def missing(lab: str, node: Node, running: Iterable[Process], devices: Iterable[str]) -> list[str]:
    """The subnets whose server does not run, or not as it should."""
    running = list(running)
    gone = set(outdated(lab, node, running, devices))
    there = daemons.roles_of(process for process in running if process.pid not in gone)
    return [
        subnet
        for subnet in sorted(node.servers)
        if role(subnet) not in there and role(subnet) not in node.stopped
    ]


def start(lab: str, node: Node, running: Iterable[Process], devices: Iterable[str]) -> None:
    """Start the servers that are missing; those that are outdated must have ended."""
    subnets = missing(lab, node, running, devices)
    if not subnets:
        return
    program = shutil.which("dnsmasq", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise MachineError(
            f"{node.name} is to answer DHCP in {subnets[0]}, and this machine has no DHCP server",
            f"Install one: apt-get install dnsmasq-base; or write subnets.{subnets[0]}.dhcp: false",
        )
    place = store.directory(lab) / node.name
    with store.writing(place):
        place.mkdir(mode=0o755, exist_ok=True)
    for subnet in subnets:
        arguments = _arguments(lab, node.name, subnet, node.servers[subnet])
        file = Path(arguments[0].partition("=")[2])
        with store.writing(file):
            for old in (*place.glob(f"{role(subnet)}.*.conf"), place / f"{role(subnet)}.leases"):
                old.unlink(missing_ok=True)
            draft = file.with_suffix(".new")
            draft.write_text(_text(lab, node.name, subnet, node.servers[subnet]))
            draft.replace(file)
        processes.start(f"{lab}.{node.name}", [program, *arguments], {})


def _text(lab: str, node: str, subnet: str, server: Server) -> str:
    place = store.directory(lab) / node
    return configuration(server, place / f"{role(subnet)}.leases", place / f"{role(subnet)}.log")


def _arguments(lab: str, node: str, subnet: str, server: Server) -> list[str]:
    """The server's arguments; the first tells which configuration it has."""
    place = store.directory(lab) / node
    digest = sha256(_text(lab, node, subnet, server).encode()).hexdigest()[:12]
    name = role(subnet)
    return [f"--conf-file={place / name}.{digest}.conf", f"--pid-file={place / name}.pid"]


def _arguments_of(process: Process) -> list[str]:
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
    except OSError:
        return []
