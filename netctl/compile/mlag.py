"""MLAG: two ToRs that answer LACP as one switch (IEEE 802.1AX).

Each port to a bond's uplink is a *leg*. Both switches run LACP on their legs of a bond under one system ID
and one key, so the host sees one partner and uses both. The two forward by flows of ours, not by OVS's own
learning: what the peer has served must not be served again, and a MAC behind a bond must not seem to move
from the leg to the peer link and back.

Between the two a frame carries an outer 802.1ad tag. Its VLAN ID is the number of a bond, its priority says
what that bond has to do with the frame:

    PLAIN     the bond that it came in over, 0 for none; you know where it goes
    FLOODED   the same; every bond has it already, only who hangs on you alone has not
    DIRECTED  the bond that it is for, of which I have no live leg

So both switches know that a frame is from a bond, wherever it came in, and its MAC stays where it is. One
that came over the peer link never goes back, and a flooded one never to a leg: nothing loops, nothing arrives
twice. A leg that is dead (no carrier, no LACP) is left out by `bundle_load`; then the frame goes DIRECTED.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

from netctl.compile.bridges import add_port
from netctl.compile.flows import GROUP_ADDRESS, UNTAGGED, FlowSet
from netctl.compile.partners import Aggregate, aggregates
from netctl.compile.rows import Rows
from netctl.model import devices
from netctl.model.flow import learned_cookie
from netctl.model.intent import Intent
from netctl.model.state import Ref

SYSTEM_PREFIX = "0a:61:6d"
"""First octets of the LACP system ID of a pair, then a hash of its switches' names."""

PORTS_OF_A_BOND = 16
"""LACP port numbers that each bond has on a pair."""

AGING, MOST_ADDRESSES = 300, 8192
"""Seconds that a learned MAC is kept after its last frame, and how many are: OVS's own defaults."""

ADMISSION, LEARNING, PLACES, DELIVERY, PORT, PEER, BOND, LEG, CROSSING, FLOOD = range(10)
"""The tables. PLACES holds what LEARNING learned: by VLAN and MAC the place, in PLACE."""

SOURCE, FROM_BOND, TO_BOND, ORIGIN, PLACE, LIVE = (f"reg{number}" for number in range(6))
"""The registers: place and bond that a frame is from, bond it is for, how it came, its place, a live port.

A place is a port that this switch has alone, the peer, or a bond (`_BOND` and its number).
"""

PRIORITY_TAGGED = "dl_vlan=0"
"""Frames with an 802.1Q tag that has a priority and no VLAN."""

_BRIDGE = devices.SWITCH_BRIDGE
_LOCAL, _PLAIN, _FLOODED = 0, 1, 2
_TAG_PLAIN, _TAG_DIRECTED, _TAG_FLOODED = 0, 1, 2
_AT_PEER, _BOND = 0xFFFF, 0x10000
_NOBODY = 0xFFFF
_SLOW_PROTOCOLS = "dl_dst=01:80:c2:00:00:00/ff:ff:ff:ff:ff:f0"


def peer(intent: Intent, switch: str) -> str | None:
    """The switch that a switch is in an MLAG pair with; None without one."""
    for one, other in intent.file.fabric.mlag:
        if switch in (one, other):
            return other if switch == one else one
    return None


def add_legs(rows: Rows, intent: Intent, switch: str, aggregate: Aggregate) -> Iterator[Ref]:
    """The ports of a switch to one bond. Each has a port number that no other port of the pair has."""
    pair = sorted((switch, peer(intent, switch) or ""))
    system = f"{SYSTEM_PREFIX}:{sha256(' '.join(pair).encode()).digest()[:3].hex(':')}"
    for index, (at, device) in enumerate(aggregate.ports):
        if at == switch:
            yield add_port(
                rows,
                device,
                f"host {aggregate.host}",
                lacp="active",
                limited=aggregate.limited,
                port_config={"lacp-time": "fast", "lacp-system-id": system},
                device_config={
                    "lacp-aggregation-key": str(aggregate.number),
                    "lacp-port-id": str(aggregate.number * PORTS_OF_A_BOND + index + 1),
                },
            )


def compile_flows(intent: Intent, switch: str, flows: FlowSet) -> None:
    """The flows of a switch: those of a pair, or that it is a learning switch."""
    other = peer(intent, switch)
    if other is None:
        flows.switch(_BRIDGE, f"switch {switch}")
    else:
        _Pipeline(intent, switch, other, flows).add()


class _Pipeline:
    """The flows of one switch of a pair."""

    def __init__(self, intent: Intent, switch: str, other: str, flows: FlowSet) -> None:
        self._flows = flows
        self._why = f"switch {switch}"
        self._owner = intent.name
        self._peer = devices.link(other)
        pair = frozenset((switch, other))
        self._bonds = [bond for bond in aggregates(intent) if bond.switches <= pair]
        self._legs = {bond.number: bond.on(switch) for bond in self._bonds}
        bonded = {device for legs in self._legs.values() for device in legs}
        self._alone: dict[str, str] = {}
        """Ports that this switch has alone, with every VLAN, and what they are for."""
        for host in intent.hosts.values():
            for nic, cabled in host.nics.items():
                device = devices.cable(host.name, nic)
                if cabled.switch == switch and device not in bonded:
                    self._alone[device] = f"host {host.name}"
        for link in intent.links:
            if switch in link and other not in link:
                end = link[1] if link[0] == switch else link[0]
                self._alone[devices.link(end)] = self._why
        self._machines = {
            devices.machine_cable(machine.name): (machine.definition.vlan or 0, f"physical {machine.name}")
            for machine in intent.machines.values()
            if machine.definition.switch == switch
        }
        self._places = _numbered([*self._alone, *self._machines])

    def add(self) -> None:
        self._add_admission()
        self._add_learning()
        self._add_delivery()
        self._add_bonds()
        self._add_flood()

    def _flow(
        self, table: int, priority: int, match: Iterable[str], actions: Iterable[str], why: str = ""
    ) -> None:
        self._flows.add(_BRIDGE, table, priority, match, actions, why or self._why)

    def _add_admission(self) -> None:
        """Where a frame comes from; what no switch forwards (IEEE 802.1D, 7.12.6)."""
        to_learning = f"resubmit(,{LEARNING})"
        self._flow(ADMISSION, 0, (), ())
        self._flow(ADMISSION, 100, (f"dl_src={GROUP_ADDRESS}",), ())
        self._flow(ADMISSION, 100, (_SLOW_PROTOCOLS,), ())
        for device, why in self._alone.items():
            come = (_set(self._places[device], SOURCE), to_learning)
            self._flow(ADMISSION, 50, (f"in_port={device}",), come, why)
        for device, (vlan, why) in self._machines.items():
            come = (_set(self._places[device], SOURCE), to_learning)
            tagged = (f"set_field:{vlan | 0x1000}->vlan_vid", *come)
            if vlan:
                self._flow(ADMISSION, 50, (f"in_port={device}", UNTAGGED), ("push_vlan:0x8100", *tagged), why)
                self._flow(ADMISSION, 50, (f"in_port={device}", PRIORITY_TAGGED), tagged, why)
            else:
                self._flow(ADMISSION, 50, (f"in_port={device}", "vlan_tci=0x0000/0x0fff"), come, why)
        for bond in self._bonds:
            from_bond = (_set(bond.number, FROM_BOND), _set(_BOND | bond.number, SOURCE), to_learning)
            for device in self._legs[bond.number]:
                self._flow(ADMISSION, 50, (f"in_port={device}",), from_bond, f"host {bond.host}")
        for tag, origin in ((_TAG_PLAIN, _PLAIN), (_TAG_FLOODED, _FLOODED)):
            common = (_set(origin, ORIGIN), "pop_vlan", to_learning)
            match = (f"in_port={self._peer}", f"dl_vlan_pcp={tag}")
            self._flow(ADMISSION, 60, (*match, "dl_vlan=0"), (_set(_AT_PEER, SOURCE), *common))
            self._flow(
                ADMISSION,
                50,
                match,
                (
                    _move("OXM_OF_VLAN_VID[]", f"{_wide(FROM_BOND)}[0..11]"),
                    _set(_BOND, SOURCE),
                    _move("OXM_OF_VLAN_VID[]", f"{_wide(SOURCE)}[0..11]"),
                    *common,
                ),
            )
        self._flow(
            ADMISSION,
            50,
            (f"in_port={self._peer}", f"dl_vlan_pcp={_TAG_DIRECTED}"),
            (
                _set(_PLAIN, ORIGIN),
                _move("OXM_OF_VLAN_VID[]", f"{_wide(TO_BOND)}[0..11]"),
                "pop_vlan",
                f"resubmit(,{LEG})",
            ),
        )

    def _add_learning(self) -> None:
        learn = (
            f"learn(table={PLACES},hard_timeout={AGING},priority=10,cookie={learned_cookie(self._owner):#x},"
            f"limit={MOST_ADDRESSES},NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],"
            f"load:{_wide(SOURCE)}[]->{_wide(PLACE)}[])"
        )
        self._flow(LEARNING, 0, (), (learn, f"resubmit(,{PLACES})", f"resubmit(,{DELIVERY})"))
        self._flow(PLACES, 0, (), ())

    def _add_delivery(self) -> None:
        """To the place that was learned; to all, where none was or its port is dead."""
        self._flow(DELIVERY, 0, (), (f"resubmit(,{FLOOD})",))
        for device, why in self._alone.items():
            here = f"{PLACE}={self._places[device]:#x}"
            self._flow(DELIVERY, 10, (here,), (*_live([device]), f"resubmit(,{PORT})"), why)
        self._flow(PORT, 10, (f"{LIVE}={_NOBODY:#x}",), (f"resubmit(,{FLOOD})",))
        self._flow(PORT, 0, (), (f"output:{_wide(LIVE)}[]",))
        for device, (vlan, why) in self._machines.items():
            here = f"{PLACE}={self._places[device]:#x}"
            self._flow(DELIVERY, 10, (here, _in_vlan(vlan)), (*_untag(vlan), f"output:{device}"), why)
        match = (f"{PLACE}={_AT_PEER:#x}", f"{ORIGIN}={_LOCAL}")
        self._flow(DELIVERY, 10, match, (*_live([self._peer]), f"resubmit(,{PEER})"))
        self._flow(PEER, 10, (f"{LIVE}={_NOBODY:#x}",), (f"resubmit(,{FLOOD})",))
        self._flow(PEER, 0, (), self._over(FROM_BOND, _TAG_PLAIN))

    def _add_bonds(self) -> None:
        """To a leg, or to the peer for one of its legs; never back to the bond that a frame came from."""
        self._flow(BOND, 20, (f"{ORIGIN}={_FLOODED:#x}",), ())
        self._flow(BOND, 0, (), (f"resubmit(,{LEG})",))
        for bond in self._bonds:
            number, why = bond.number, f"host {bond.host}"
            to = (_set(number, TO_BOND), f"resubmit(,{BOND})")
            self._flow(DELIVERY, 10, (f"{PLACE}={_BOND | number:#x}",), to, why)
            self._flow(BOND, 10, (f"{FROM_BOND}={number:#x}", f"{TO_BOND}={number:#x}"), (), why)
            live = _live(self._legs[number])
            self._flow(LEG, 10, (f"{TO_BOND}={number:#x}",), (*live, f"resubmit(,{CROSSING})"), why)
        self._flow(LEG, 0, (), ())
        self._flow(
            CROSSING,
            20,
            (f"{LIVE}={_NOBODY:#x}", f"{ORIGIN}={_LOCAL}"),
            self._over(TO_BOND, _TAG_DIRECTED),
        )
        self._flow(CROSSING, 10, (f"{LIVE}={_NOBODY:#x}",), ())
        self._flow(CROSSING, 0, (), (f"output:{_wide(LIVE)}[]",))

    def _add_flood(self) -> None:
        """To every port that has the VLAN; OVS itself leaves out the one that the frame came in at."""
        alone = [f"output:{device}" for device in sorted(self._alone)]
        bonds = [f"{_set(bond.number, TO_BOND)},clone(resubmit(,{BOND}))" for bond in self._bonds]
        across = f"clone({','.join(self._over(FROM_BOND, _TAG_FLOODED))})"
        by_origin = {
            _LOCAL: [*alone, *bonds, across],
            _PLAIN: [*alone, *bonds],
            _FLOODED: alone,
        }
        for origin, out in by_origin.items():
            self._flow(FLOOD, 0 if origin == _LOCAL else 10, _from(origin), out)
            for vlan in sorted({vlan for vlan, _ in self._machines.values()}):
                ends = sorted(device for device, (at, _) in self._machines.items() if at == vlan)
                actions = (*out, *_untag(vlan), *(f"output:{device}" for device in ends))
                self._flow(FLOOD, 20 + (origin != _LOCAL), (*_from(origin), _in_vlan(vlan)), actions)

    def _over(self, bond: str, tag: int) -> tuple[str, ...]:
        """Hand a frame to the peer, with the bond in a register of it."""
        return (
            "push_vlan:0x88a8",
            _move(f"{_wide(bond)}[0..11]", "OXM_OF_VLAN_VID[]"),
            *([f"set_field:{tag}->vlan_pcp"] if tag else []),
            f"output:{self._peer}",
        )


def _numbered(ports: Iterable[str]) -> dict[str, int]:
    """A place for each port, 1 to 0xfffe, that does not depend on the others but in the rarest of cases.

    What a switch has learned of one port then never means another, while a change is under way.
    """
    places: dict[str, int] = {}
    taken: set[int] = set()
    for port in sorted(ports):
        number = int.from_bytes(sha256(port.encode()).digest()[:2], "big")
        while number in taken or not 0 < number < _AT_PEER:
            number = (number + 1) & 0xFFFF
        taken.add(number)
        places[port] = number
    return places


def _live(ports: Sequence[str]) -> tuple[str, ...]:
    """Set LIVE to one of the ports that has carrier and, where it runs LACP, a partner; else to _NOBODY.

    Of several the same for all frames of a flow.
    """
    if not ports:
        return (_set(_NOBODY, LIVE),)
    how = "eth_src,0,active_backup" if len(ports) == 1 else "symmetric_l4,0,hrw"
    return (f"bundle_load({how},ofport,{_wide(LIVE)}[0..15],members:{','.join(ports)})",)


def _from(origin: int) -> tuple[str, ...]:
    return (f"{ORIGIN}={origin:#x}",) if origin != _LOCAL else ()


def _in_vlan(vlan: int) -> str:
    return f"dl_vlan={vlan}" if vlan else "vlan_tci=0x0000/0x0fff"


def _untag(vlan: int) -> tuple[str, ...]:
    return ("pop_vlan",) if vlan else ()


def _set(value: int, register: str) -> str:
    return f"set_field:{value:#x}->{register}"


def _move(source: str, to: str) -> str:
    return f"move:{source}->{to}"


def _wide(register: str) -> str:
    """A register as actions name it: NXM_NX_REG3 for reg3."""
    return f"NXM_NX_{register.upper()}"
