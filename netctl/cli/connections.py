"""Ends the connections that a change no longer allows, where OVN leaves something to do.

OVN asks its ACLs about packets that go the way of a connection's first one, and ends the connection when one
is stopped (ovn-nb(5), ACL). It does not ask about replies: a stream of datagrams in which only the one who
was asked still speaks would go on for ever. Forgotten, its next datagram is judged as if it began something.
TCP always has acknowledgments, and is left to OVN.

Nor does it ask again how a connection is translated: one that goes on keeps the address outside that its VM
no longer has. Forgotten, its next packet is translated as the first one of a connection is now.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataplane.connections import Connection
    from dataplane.rack import Rack
    from netctl.compile.policies_peers import Directory
    from netctl.model import Intent


def end_forbidden(rack: Rack, intent: Intent) -> None:
    """Forget, on all hosts, what the policies no longer allow."""
    from dataplane import connections
    from netctl.compile.policies_peers import Directory
    from netctl.compile.policies_rules import in_force

    if not in_force(intent):
        return

    there = Directory(intent)
    numbers = {port.name: number for number, port in enumerate(intent.ports)}
    for host in intent.hosts:
        if host in rack.silent:
            continue
        forbidden = [
            one
            for one in connections.tracked(rack.runner, host)
            if one.protocol != "tcp"
            and one.port in numbers
            and _forbidden(intent, there, numbers[one.port], one)
        ]
        connections.forget(rack.runner, host, forbidden)


def _forbidden(intent: Intent, there: Directory, nic: int, one: Connection) -> bool:
    """Whether the policies stop the first packet of a connection, at this NIC or at its peer."""
    from netctl.compile.policies_verdict import Packet, verdict

    space, name = there.space(nic), there.ports[nic].name
    begun_here = nic in there.at(space, one.source)
    peers: Collection[int] = there.at(space, one.target if begun_here else one.source)
    peer = there.ports[next(iter(peers))].name if len(peers) == 1 else None
    if peer == name:
        return False
    sender, receiver = (name, peer) if begun_here else (peer, name)
    packet = Packet(sender, receiver, one.source, one.target, one.protocol, one.number)
    return verdict(intent, packet, there).outcome != "allow"


def end_retranslated(rack: Rack, intent: Intent) -> None:
    """Forget, on all hosts, what VPCs translate to or from addresses that are no longer its own."""
    from dataplane import connections

    translating = {gateway.vpc for gateway in intent.gateways if gateway.snat_ip is not None}
    if not translating:
        return
    zones = {f"{vpc}_{kind}": vpc for vpc in translating for kind in ("snat", "dnat")}
    for host in intent.hosts:
        if host in rack.silent:
            continue
        connections.forget(
            rack.runner,
            host,
            [
                one
                for one in connections.tracked(rack.runner, host)
                if one.port in zones and not rightly_translated(intent, zones[one.port], one)
            ],
        )


def rightly_translated(intent: Intent, vpc: str, one: Connection) -> bool:
    """Whether a VPC would translate a connection now as it did when it began."""
    definition = intent.file.vpcs[vpc]
    floating: dict[object, object] = {
        address: intent.port(target).ip for address, target in definition.floating_ips.items()
    }
    if one.seen_target != one.target:
        if one.target in floating:
            return floating[one.target] == one.seen_target
        return any(balancer.vip == one.target for balancer in definition.load_balancers.values())
    if one.seen_source == one.source:
        return True
    own = {address for address, inside in floating.items() if inside == one.source}
    ways = [way for way in intent.gateways if way.vpc == vpc and way.snat_ip is not None]
    shared = set()
    for way in ways:
        cidr = intent.file.subnets[way.subnet].cidr
        if cidr is not None and not any(isinstance(it, IPv4Address) and it in cidr for it in own):
            shared.add(way.snat_ip)
    return one.seen_source in own | shared
