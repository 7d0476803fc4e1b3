"""Ends the connections that a change of policies no longer allows, where OVN leaves something to do.

OVN asks its ACLs about packets that go the way of a connection's first one, and ends the connection when one
is stopped (ovn-nb(5), ACL). It does not ask about replies: a stream of datagrams in which only the one who
was asked still speaks would go on for ever. Forgotten, its next datagram is judged as if it began something.
TCP always has acknowledgments, and is left to OVN.
"""

from __future__ import annotations

from collections.abc import Collection
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
