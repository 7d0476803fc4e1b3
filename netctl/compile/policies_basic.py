"""Security policies on VLAN basic subnets: the flows of br.microseg (ovs-fields(7), ovs-actions(7)).

Every NIC has a conntrack zone of its own, as in OVN: both ends of a connection may be on one host. What rules
look at is the first packet of a connection (`ct_nw_src`, `ct_tp_dst`, ...), and they are asked again for each
packet, also of replies: a change of policies holds for connections that are there, in both directions.

What br0.local has to know is in the upper half of pkt_mark, which patch ports keep. On the way up it is the
number of the NIC that sent. On the way down it is 0 for everybody who is concerned, ALL_OPEN for all of them
but the NICs that a policy secures, or the number of the only NIC that gets it: what is for many is judged for
each secured one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from netctl.compile.flows import GROUP_ADDRESS, FlowSet
from netctl.compile.policies_flows import DIRECTIONS, MICROSEG, compile_rules
from netctl.compile.policies_rules import Direction, Policing
from netctl.model import basic
from netctl.model.intent import Hypervisor, Intent, Port

FIRST_ZONE, ZONES = 60000, 5536
"""Conntrack zones of br.microseg: OVN counts up from 1, and 16 bits end here."""

ALL_OPEN = 0xFFFF
"""The mark of frames for all NICs that no policy secures."""

NEIGHBOURS = (130, 131, 132, 133, 134, 135, 136, 143)
"""ICMPv6 types of neighbour discovery (RFC 4861) and of who listens to which group (RFC 2710, 3810)."""


def zones(ports: Iterable[Port], first: int = FIRST_ZONE) -> dict[int, int]:
    """The conntrack zone of each NIC of a host, by its number; ZONES of them, from the first on.

    A NIC keeps its zone whoever comes and goes, as long as a lab has less NICs than there are zones.
    """
    found: dict[int, int] = {}
    taken: set[int] = set()
    for port in sorted(ports, key=lambda port: port.number):
        zone = port.number % ZONES
        while zone in taken:
            zone = (zone + 1) % ZONES
        taken.add(zone)
        found[port.number] = first + zone
    return found


def _secured(policing: Policing) -> frozenset[int]:
    """The NICs at which some policy looks at what comes in: by their numbers."""
    ports = policing.directory.ports
    return frozenset(
        ports[nic].number for rule in policing.rules if rule.direction == "inbound" for nic in rule.group.nics
    )


def compile_policies(
    intent: Intent, host: Hypervisor, policing: Policing, flows: FlowSet
) -> frozenset[int] | None:
    """The flows of br.microseg on a host, where some VLAN basic NIC of the lab has a policy.

    Returns the numbers of the host's NICs that a policy secures; None where the lab has none on such NICs.
    """
    types = intent.file.subnets
    nics = {nic for nic, port in enumerate(intent.ports) if types[port.subnet].type == "vlan-basic"}
    if not any(not nics.isdisjoint(rule.group.nics) for rule in policing.rules):
        return None
    here = policing.among(frozenset(nic for nic in nics if intent.ports[nic].host == host.name))
    switches = basic.bridges_of(intent, host)
    ports = [port for switch in switches for port in basic.ports_of(intent, host, switch)]
    zone_of = zones(ports)
    guarded = _secured(here)
    add = _Adder(flows, f"host {host.name}")
    for switch in switches:
        number = basic.number(switch)
        up, down = basic.up(basic.MICROSEG, number), basic.down(basic.MICROSEG, number)
        _admission(intent, basic.ports_of(intent, host, switch), zone_of, guarded, up, down, add)
        add("direction", 100, (f"in_port={down}", "ct_state=+rpl+trk"), _began("inbound"))
        add("direction", 100, (f"in_port={up}", "ct_state=+rpl+trk"), _began("outbound"))
        add("direction", 50, (f"in_port={down}",), _began("outbound"))
        add("direction", 50, (f"in_port={up}",), _began("inbound"))
        add("passage", 0, (f"in_port={down}",), f"output:{up}")
        add("passage", 0, (f"in_port={up}",), _MARK, f"output:{down}")
    add("admission", 300, ("arp",), MICROSEG.goto("passage"))
    add("admission", 300, ("rarp",), MICROSEG.goto("passage"))
    for kind in NEIGHBOURS:
        add("admission", 300, ("icmp6", f"icmp_type={kind}"), MICROSEG.goto("passage"))
    track = f"ct(table={MICROSEG['direction']},zone={_ZONE})"
    commit = f"ct(commit,zone={_ZONE})"
    for family in ("ip", "ipv6"):
        add("tracking", 100, (family,), track)
        add("commitment", 100, (family, "ct_state=+new+trk"), commit, MICROSEG.goto("passage"))
    add("tracking", 0, (), MICROSEG.goto("direction"))
    add("direction", 200, ("ct_state=+inv+trk",))
    add("quarantine", 0, (), MICROSEG.goto("policies"))
    add("policies", 0, (), MICROSEG.goto("commitment"))
    add("commitment", 200, (f"dl_dst={GROUP_ADDRESS}",), MICROSEG.goto("passage"))
    add("commitment", 0, (), MICROSEG.goto("passage"))
    compile_rules(here, flows)
    return guarded


_ZONE = "NXM_NX_REG6[0..15]"
_MARK = "move:NXM_NX_REG3[0..15]->NXM_NX_PKT_MARK[16..31]"


def _began(direction: Direction) -> str:
    register, value = DIRECTIONS[direction].split("=")
    return f"set_field:{value}->{register},{MICROSEG.goto('quarantine')}"


class _Adder:
    """Adds flows to br.microseg by the names of its tables."""

    def __init__(self, flows: FlowSet, why: str) -> None:
        self._flows, self._why = flows, why

    def __call__(self, table: str, priority: int, match: Sequence[str], *actions: str, why: str = "") -> None:
        self._flows.add(basic.MICROSEG, MICROSEG[table], priority, match, actions, why or self._why)


def _admission(
    intent: Intent,
    ports: Sequence[Port],
    zone_of: Mapping[int, int],
    guarded: frozenset[int],
    up: str,
    down: str,
    add: _Adder,
) -> None:
    """At which NICs a frame of one virtual switch is judged."""
    on: dict[int, list[Port]] = {}
    for port in ports:
        at = (f"set_field:{port.number:#x}->reg1", f"set_field:{zone_of[port.number]:#x}->reg6")
        sent = f"pkt_mark={port.number << 16:#x}/0xffff0000"
        why = f"vm {port.vm}"
        add("admission", 200, (f"in_port={down}", sent), *at, MICROSEG.goto("tracking"), why=why)
        native = intent.file.subnets[port.subnet].vlan
        for vlan in sorted({*port.trunked, *([native] if native else [])}):
            on.setdefault(vlan, []).append(port)
            to = (f"in_port={up}", f"dl_vlan={vlan}", f"dl_dst={port.mac}")
            add("admission", 200, to, *at, MICROSEG.goto("tracking"), why=why)
    for vlan, members in sorted(on.items()):
        judged = [port for port in members if port.number in guarded]
        loose = [port for port in judged if not port.port_security]
        match = (f"in_port={up}", f"dl_vlan={vlan}")
        for priority, found, to_all in ((150, judged, (f"dl_dst={GROUP_ADDRESS}",)), (100, loose, ())):
            first, *more = _batches(found)
            add("admission", priority, (*match, *to_all), *_TO_THE_OPEN, *_copies(first, zone_of, bool(more)))
            for number, batch in enumerate(more):
                here = (*match, *to_all, f"reg4={number:#x}" if number else "reg4=0")
                onward = (f"set_field:{number + 1:#x}->reg4",) if batch is not more[-1] else ()
                actions = _copies(batch, zone_of, bool(onward))
                add("copies", priority, here, *onward, *actions)
    add("admission", 0, (f"in_port={up}",), MICROSEG.goto("passage"))


BATCH = 64
"""NICs that one flow makes copies for: an OpenFlow message has 64 KiB."""

_TO_THE_OPEN = (f"set_field:{ALL_OPEN:#x}->reg3", MICROSEG.look_up("passage"))


def _batches(ports: Iterable[Port]) -> list[list[Port]]:
    """NICs in order, in batches; at least one, be it empty."""
    found = sorted(ports, key=lambda port: port.number)
    return [found[start : start + BATCH] for start in range(0, max(1, len(found)), BATCH)]


def _copies(ports: Iterable[Port], zone_of: Mapping[int, int], more: bool) -> Iterator[str]:
    """A copy of a frame for each of these NICs, if the policies let it pass."""
    for port in ports:
        yield f"set_field:{port.number:#x}->reg1"
        yield f"set_field:{port.number:#x}->reg3"
        yield f"set_field:{zone_of[port.number]:#x}->reg6"
        yield MICROSEG.look_up("tracking")
    if more:
        yield MICROSEG.look_up("copies")
