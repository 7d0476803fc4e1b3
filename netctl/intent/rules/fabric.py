"""Rules for the fabric: switches, the links between them, MLAG pairs, bare machines."""

from __future__ import annotations

from netctl.intent import defaults
from netctl.intent.assignment import RESERVED_MACS
from netctl.intent.findings import Findings
from netctl.intent.source import Path_
from netctl.model.intent import LabFile


def a_switch_at_least(lab: LabFile, findings: Findings) -> None:
    """Hosts and bare machines need something to be cabled to."""
    if not defaults.switches(lab) and (lab.hosts or lab.physical):
        findings.error(
            ("fabric", "switches"),
            "the fabric has no switch",
            "name one, or leave `switches` out for tor1 and tor2",
        )


def links_join_two(lab: LabFile, findings: Findings) -> None:
    """A link has two different ends."""
    for index, link in enumerate(lab.fabric.links or ()):
        if link[0] == link[1]:
            findings.error(
                ("fabric", "links", index),
                f"a link from {link[0]} to itself is a loop",
                "name two different switches",
            )


def all_switches_joined(lab: LabFile, findings: Findings) -> None:
    """Switches without a path between them split the network: allowed, but odd."""
    if not findings.sound("fabric"):
        return
    names = defaults.switches(lab)
    reached = set(names[:1])
    pairs = defaults.links(lab)
    while more := {end for pair in pairs if reached & set(pair) for end in pair} - reached:
        reached |= more
    for name in names:
        if name not in reached:
            findings.warn(
                ("fabric", "links"),
                f"no link leads from {names[0]} to {name}: the fabric is in parts",
                f"write fabric.links: [[{names[0]}, {name}]]",
                key=True,
            )
            break


def mlag_pairs(lab: LabFile, findings: Findings) -> None:
    """A switch is in one MLAG pair, with another switch, over one link."""
    seen: dict[str, int] = {}
    for index, pair in enumerate(lab.fabric.mlag):
        path = ("fabric", "mlag", index)
        if pair[0] == pair[1]:
            findings.error(path, f"{pair[0]} cannot be a pair with itself", "name two different switches")
            continue
        for name in pair:
            if name in seen:
                findings.error(
                    path,
                    f"{name} is in two MLAG pairs",
                    "a switch answers LACP together with one other: keep one pair",
                )
            seen[name] = index
        if findings.sound("fabric"):
            _peer_link(lab, findings, path, pair)


def _peer_link(lab: LabFile, findings: Findings, path: Path_, pair: list[str]) -> None:
    """The two switches of a pair hand frames to each other over one link, and no other way leads there.

    RSTP, which breaks loops elsewhere, would see two switches where hosts see one, and could cut the pair.
    """
    links = defaults.links(lab)
    between = sum(set(link) == set(pair) for link in links)
    if between != 1:
        many = f"{between} links" if between else "no link"
        findings.error(
            path,
            f"{pair[0]} and {pair[1]} are a pair with {many} between them",
            f"write fabric.links with [{pair[0]}, {pair[1]}] once",
        )
    elif defaults.has_loop(defaults.switches(lab), links):
        findings.error(
            path,
            "the links between the switches close a loop, which goes with no MLAG pair",
            "remove a link, or mlag",
        )


def unreserved_mac(findings: Findings, path: Path_, mac: str) -> None:
    """A MAC address is not one of those that netctl gives to what it makes itself."""
    for prefix, owners in RESERVED_MACS.items():
        if mac.startswith(f"{prefix}:"):
            findings.error(path, f"MAC addresses from {prefix} are for {owners}", "choose another one")


def bare_machines(lab: LabFile, findings: Findings) -> None:
    """Their addresses are a host's in their network, and what they route to is reachable from there."""
    for name, machine in lab.physical.items():
        path: Path_ = ("physical", name)
        if machine.mac is not None:
            unreserved_mac(findings, (*path, "mac"), machine.mac)
        if machine.ip is None:
            if not findings.sound(*path, "ip"):
                continue
            if machine.gateway is not None:
                findings.error(
                    (*path, "gateway"),
                    f"{name} has a gateway but no address",
                    "write ip: ADDRESS/LENGTH as well",
                )
            if machine.routes:
                findings.error(
                    (*path, "routes"), f"{name} has routes but no address", "write ip: ADDRESS/LENGTH as well"
                )
            continue
        network = machine.ip.network
        if network.prefixlen < 31 and machine.ip.ip in (network.network_address, network.broadcast_address):
            what = "network" if machine.ip.ip == network.network_address else "broadcast"
            findings.error(
                (*path, "ip"),
                f"{machine.ip.ip} is the {what} address of {network}",
                f"write an address between, such as {network.network_address + 9}/{network.prefixlen}",
            )
        if machine.ip.ip.is_multicast or machine.ip.ip.is_loopback or machine.ip.ip.is_unspecified:
            findings.error(
                (*path, "ip"), f"{machine.ip.ip} is no machine's address", "write a unicast address"
            )
        if machine.gateway is not None and machine.gateway not in network:
            findings.error(
                (*path, "gateway"),
                f"the gateway {machine.gateway} is not in {name}'s network {network}",
                f"write an address of {network}",
            )
        elif machine.gateway == machine.ip.ip:
            findings.error(
                (*path, "gateway"),
                f"{name} is its own gateway",
                "write another machine's address, or leave it out",
            )
        for index, route in enumerate(machine.routes):
            if route.via not in network or route.via == machine.ip.ip:
                findings.error(
                    (*path, "routes", index, "via"),
                    f"{name} cannot reach {route.via}: its network is {network}",
                    f"write another address of {network}",
                )


RULES = (a_switch_at_least, links_join_two, all_switches_joined, mlag_pairs, bare_machines)
