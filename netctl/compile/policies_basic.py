"""Security policies on VLAN basic subnets: the flows of br.microseg (ovs-fields(7), ovs-actions(7)).

Every NIC has a conntrack zone of its own, as in OVN: both ends of a connection may be on one host. What rules
look at is the first packet of a connection (`ct_nw_src`, `ct_tp_dst`, ...), and they are asked again for each
packet, also of replies: a change of policies holds for connections that are there, in both directions.

A rule is a conjunction of its NICs, its peers and its services: n NICs with m peers and k services cost
n + m + k flows, and rules share them.

What br0.local has to know is in the upper half of pkt_mark, which patch ports keep. On the way up it is the
number of the NIC that sent. On the way down it is 0 for everybody who is concerned, ALL_OPEN for all of them
but the NICs that a policy secures, or the number of the only NIC that gets it: what is for many is judged for
each secured one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from netctl.compile.flows import GROUP_ADDRESS, FlowSet, Pipeline
from netctl.compile.policies_peers import Directory, Peers
from netctl.compile.policies_rules import Band, Direction, Policing, Rule
from netctl.model import basic
from netctl.model.intent import Hypervisor, Intent, Port
from netctl.model.service import Range

CONTROLLER_ID = 24946
"""The `id` of the actions that are for the daemon that logs and rejects (dataplane.punt)."""

LOG, REJECT = 1, 2
"""What it is to do: the first octet of what an action tells it."""

WATCHED = 4
"""Of the second octet, 1 for outbound or 2 for inbound: the policy is only monitored."""

FIRST_ZONE, ZONES = 60000, 5536
"""Conntrack zones of br.microseg: OVN counts up from 1, and 16 bits end here."""

ALL_OPEN = 0xFFFF
"""The mark of frames for all NICs that no policy secures."""

MICROSEG = Pipeline(
    {
        "admission": "at which NIC a frame is judged (reg1), in which zone (reg6); ARP, RARP and ND pass",
        "tracking": "what connection it belongs to",
        "direction": "who began that: the NIC (reg2=1) or its peer (reg2=2)",
        "quarantine": "quarantine and isolation policies",
        "policies": "shared-service and application policies",
        "commitment": "connections that pass are remembered",
        "passage": "up or down; down with a mark (reg3) for br0.local",
    }
)
"""br.microseg, with policies."""

_DIRECTIONS: Mapping[Direction, str] = {"outbound": "reg2=0x1", "inbound": "reg2=0x2"}
_STAGES = ("quarantine", "policies")
_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "icmp6": 58}
_VALID = "ct_state=-inv+trk"
_NEIGHBOURS = (130, 131, 132, 133, 134, 135, 136, 143)
"""ICMPv6 types of neighbour discovery (RFC 4861) and of who listens to which group (RFC 2710, 3810)."""


def zones(ports: Iterable[Port]) -> dict[int, int]:
    """The conntrack zone of each NIC of a host, by its number.

    A NIC keeps its zone whoever comes and goes, as long as a lab has less NICs than there are zones.
    """
    found: dict[int, int] = {}
    taken: set[int] = set()
    for port in sorted(ports, key=lambda port: port.number):
        zone = port.number % ZONES
        while zone in taken:
            zone = (zone + 1) % ZONES
        taken.add(zone)
        found[port.number] = FIRST_ZONE + zone
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
    for kind in _NEIGHBOURS:
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
    _rules(here, flows)
    return guarded


_ZONE = "NXM_NX_REG6[0..15]"
_MARK = "move:NXM_NX_REG3[0..15]->NXM_NX_PKT_MARK[16..31]"


def _began(direction: Direction) -> str:
    register, value = _DIRECTIONS[direction].split("=")
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
        add("admission", 150, (*match, f"dl_dst={GROUP_ADDRESS}"), *_each(judged, zone_of))
        add("admission", 100, match, *_each(loose, zone_of))
    add("admission", 0, (f"in_port={up}",), MICROSEG.goto("passage"))


def _each(ports: Sequence[Port], zone_of: Mapping[int, int]) -> Iterator[str]:
    """A frame for whoever is open, and a copy for each of these NICs, if the policies let it pass."""
    yield f"set_field:{ALL_OPEN:#x}->reg3"
    yield MICROSEG.look_up("passage")
    for port in sorted(ports, key=lambda port: port.number):
        yield f"set_field:{port.number:#x}->reg1"
        yield f"set_field:{port.number:#x}->reg3"
        yield f"set_field:{zone_of[port.number]:#x}->reg6"
        yield MICROSEG.look_up("tracking")


# --- rules -------------------------------------------------------------------------------------------------

_Key = tuple[str, int, tuple[str, ...]]
"""Table, priority and match."""


@dataclass
class _Parts:
    """Flows that are parts of conjunctions, which share them; and the names of the conjunctions."""

    of: dict[_Key, list[tuple[int, str]]] = field(default_factory=dict)
    numbers: dict[int, str] = field(default_factory=dict)

    def number(self, words: str) -> int:
        """A number that stands for these words; the same in every lab that has no others like it."""
        number = int.from_bytes(sha256(words.encode()).digest()[:4], "big") or 1
        while self.numbers.setdefault(number, words) != words:
            number = number % 0xFFFFFFFF + 1
        return number

    def add(self, key: _Key, number: int, part: str) -> None:
        """A flow that is this part of a conjunction."""
        self.of.setdefault(key, []).append((number, part))


def _rules(here: Policing, flows: FlowSet) -> None:
    parts = _Parts()
    plain: dict[_Key, tuple[tuple[str, ...], str]] = {}
    for space, rules in here.lists.items():
        for rule in sorted(rules, key=lambda rule: (rule.band, rule.why, rule.group.key)):
            _rule(space, rule, here.directory, parts, plain, flows)
    for (table, priority, match), found in parts.of.items():
        shared = [f"conjunction({number},{part})" for number, part in sorted(found)]
        flows.add(basic.MICROSEG, MICROSEG[table], priority, match, shared, "policies")
    for (table, priority, match), (action, why) in plain.items():
        flows.add(basic.MICROSEG, MICROSEG[table], priority, match, action, why)


def _rule(
    space: str,
    rule: Rule,
    there: Directory,
    parts: _Parts,
    plain: dict[_Key, tuple[tuple[str, ...], str]],
    flows: FlowSet,
) -> None:
    """The flows of one rule. Of two rules that are the same for a NIC the first is there."""
    table = _STAGES[rule.stage]
    priority = 10 * (len(Band) - rule.band)
    nics: list[tuple[str, ...]] = [
        (f"reg1={there.ports[nic].number:#x}", _DIRECTIONS[rule.direction]) for nic in sorted(rule.group.nics)
    ]
    terms = [_peers(rule.peers, rule.direction)] if not rule.peers.everyone else []
    terms += [list(_services(rule.services, _families(rule.peers)))] if rule.services else []
    actions = list(_actions(rule))
    if not terms:
        families: Sequence[tuple[str, ...]] = [("ip",), ("ipv6",)] if rule.outcome != "drop" else [()]
        for more, extra, action in actions:
            for nic in nics:
                for family in families:
                    key = (table, priority + 2 + more, (*family, *nic, *extra))
                    plain.setdefault(key, (action, rule.why))
        return
    number = parts.number(f"{space} {rule.group.key} {rule.why} {rule.direction} {rule.band.name}")
    for position, matches in enumerate([nics, *terms], start=1):
        for match in matches:
            parts.add((table, priority, match), number, f"{position}/{len(terms) + 1}")
    for more, extra, action in actions:
        match = (f"conj_id={number}", *extra)
        flows.add(basic.MICROSEG, MICROSEG[table], priority + more, match, action, rule.why)


def _actions(rule: Rule) -> Iterator[tuple[int, tuple[str, ...], tuple[str, ...]]]:
    """What is done with the packets of a rule: how much more priority, what must fit besides, the actions."""
    passes = rule.monitored or rule.outcome == "allow"
    on = (MICROSEG.goto(_STAGES[1] if rule.monitored and not rule.stage else "commitment"),) if passes else ()
    kind = LOG * rule.log + REJECT * (rule.outcome == "reject" and not passes)
    told = 1 + (rule.direction == "inbound") + WATCHED * rule.monitored
    punt = (f"controller(id={CONTROLLER_ID},userdata={kind:02x}.{told:02x})",) if kind else ()
    if punt and passes:
        # A connection once, not every packet of it.
        yield 1, ("ct_state=+new+trk",), (*punt, *on)
        punt = ()
    yield 0, (), (*punt, *on)


def _families(peers: Peers) -> list[str]:
    return [
        *(["ip"] if peers.every4 or peers.ipv4 else []),
        *(["ipv6"] if peers.every6 or peers.ipv6 else []),
    ]


def _peers(peers: Peers, direction: Direction) -> list[tuple[str, ...]]:
    side = "dst" if direction == "outbound" else "src"
    every = [("ip",)] if peers.every4 else [], [("ipv6",)] if peers.every6 else []
    return [
        *every[0],
        *every[1],
        *(("ip", _VALID, f"ct_nw_{side}={address}") for address in peers.ipv4 if not peers.every4),
        *(("ipv6", _VALID, f"ct_ipv6_{side}={address}") for address in peers.ipv6 if not peers.every6),
    ]


def _services(services: Iterable[Range], families: Iterable[str]) -> Iterator[tuple[str, ...]]:
    for family in families:
        for one in services:
            if one.protocol == ("icmp6" if family == "ip" else "icmp"):
                continue
            number = _NUMBERS[one.protocol]
            match = (family, _VALID, f"ct_nw_proto={number}")
            if one.first is None or one.last is None:
                yield match
                continue
            side = "ct_tp_src" if one.protocol.startswith("icmp") else "ct_tp_dst"
            for value in masks(one.first, one.last):
                yield (*match, f"{side}={value}")


def masks(first: int, last: int) -> Iterator[str]:
    """The fewest values with masks that stand for a range of ports, as OVS prints them."""
    while first <= last:
        size = min(first & -first if first else 1 << 16, 1 << ((last - first + 1).bit_length() - 1))
        yield str(first) if size == 1 else f"{first:#x}/{0x10000 - size:#x}"
        first += size
