"""What broken things mean for the rack: the inventory as it must be while they are broken. Pure.

A fault is a difference in the inventory and no deed of its own: so `apply` leaves broken what is broken on
purpose, `plan` is empty meanwhile, and healing is building the rack without the fault.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from dataplane import daemons, dnsmasq, functions
from dataplane.inventory import End, Inventory, Link
from netctl.model import Intent, bgp, devices
from netctl.model.fault import Fault
from netctl.model.functions import instances

DNSMASQ = "dnsmasq"
"""All DHCP servers of a host, as users call them."""


def afflicted(inventory: Inventory, intent: Intent, faults: Iterable[Fault]) -> Inventory:
    """The inventory with these faults.

    A broken link has its switch's end down, so that a host loses carrier as by a cut cable. A switch that
    failed has all of its ports down; a host that lost its power as well, and no daemon. A network function
    that failed has its NICs down and no program.
    """
    down: set[tuple[str, str]] = set()
    dark: set[str] = set()
    stopped: dict[str, set[str]] = {}
    for fault in faults:
        if fault.kind == "link":
            down |= _ends(intent, fault)
        elif fault.kind == "switch":
            dark.add(fault.node)
        elif fault.kind == "host":
            dark.add(fault.node)
            for name in powered(intent, fault.node):
                every = (*daemons.of(inventory.nodes[name]), daemons.PUNT, daemons.HEALTH)
                roles = {daemon.role for daemon in every}
                stopped.setdefault(name, set()).update(roles)
            stopped.setdefault(f"{fault.node}.cvm", set()).update(_servers(inventory, fault.node))
        elif fault.kind == "daemon" and fault.part == DNSMASQ:
            stopped.setdefault(f"{fault.node}.cvm", set()).update(_servers(inventory, fault.node))
        elif fault.kind == "function":
            for name in _instances(intent, fault):
                dark.add(name)
                stopped.setdefault(name, set()).add(functions.ROLE)
        elif fault.kind == "daemon":
            stopped.setdefault(fault.node, set()).add(fault.part)
    nodes = {
        name: replace(node, stopped=frozenset(stopped[name])) if name in stopped else node
        for name, node in inventory.nodes.items()
    }
    links = tuple(Link(_end(link.a, down, dark), _end(link.b, down, dark)) for link in inventory.links)
    return replace(inventory, nodes=nodes, links=links)


def concerned(intent: Intent, faults: Iterable[Fault]) -> set[str]:
    """The nodes in which these faults change anything."""
    found = set()
    for fault in faults:
        if fault.kind == "link":
            found |= {node for node, _ in _ends(intent, fault)}
        elif fault.kind == "function":
            found |= _instances(intent, fault)
        else:
            found |= powered(intent, fault.node) if fault.kind == "host" else {fault.node}
        if fault.kind == "host" or fault.part == DNSMASQ:
            found.add(f"{fault.node}.cvm")
    return found


def powered(intent: Intent, host: str) -> set[str]:
    """The nodes that run on a host and go down with it: itself, and its BGP speakers."""
    return {host, *(speaker.name for speaker in bgp.speakers(intent) if speaker.host == host)}


def stops_daemons(faults: Iterable[Fault]) -> bool:
    """Whether healing these starts daemons, so that the lab has to become ready again."""
    return any(fault.kind in ("host", "daemon", "function") for fault in faults)


def _instances(intent: Intent, fault: Fault) -> set[str]:
    """The nodes of a function that failed: on one host, or on all."""
    return {
        one.name for one in instances(intent) if one.function == fault.node and fault.part in ("", one.host)
    }


def _servers(inventory: Inventory, host: str) -> set[str]:
    """The roles of the DHCP servers in a host's CVM."""
    return {dnsmasq.role(subnet) for subnet in inventory.nodes[f"{host}.cvm"].servers}


def _ends(intent: Intent, fault: Fault) -> set[tuple[str, str]]:
    """The devices of a link that go down, as (node, device); parallel links between switches go together."""
    host = intent.hosts.get(fault.node)
    if host is not None:
        nic = host.nics.get(fault.part)
        return {(nic.switch, devices.cable(host.name, fault.part))} if nic else set()
    pair = {fault.node, fault.part}
    count = sum(set(link) == pair for link in intent.links)
    return {(fault.node, devices.link(fault.part, index)) for index in range(count)}


def _end(end: End, down: Collection[tuple[str, str]], dark: Collection[str]) -> End:
    if end.node in dark or (end.node, end.device.name) in down:
        return replace(end, device=replace(end.device, up=False))
    return end
