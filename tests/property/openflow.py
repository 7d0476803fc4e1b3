"""What the flows of a lab do with a frame: just enough of Open vSwitch to ask compiled flows.

Bridges with flows run them; an uplink bridge hands a frame to those of all other hosts that carry its VLAN,
as a network does that has learned nothing. Whatever this does not know is an error, not a guess.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace

from netctl.model.flow import Flow
from netctl.model.state import State

UPLINK = re.compile(r"br\d+\.d")
PRESENT = 0x1000


@dataclass
class Frame:
    """A frame: TCIs from the outermost in, addresses, and other fields as a match writes them."""

    src: str
    dst: str
    tags: list[int] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    protocols: frozenset[str] = frozenset()


@dataclass
class Place:
    """A frame in a bridge."""

    frame: Frame
    port: str
    mark: int = 0
    registers: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class Network:
    """All hosts of a lab with what their flows have learned."""

    def __init__(self, state: State) -> None:
        self._flows: dict[tuple[str, str, int], list[Flow]] = defaultdict(list)
        self._learned: dict[tuple[str, str, int], dict[tuple[tuple[str, object], ...], dict[str, int]]] = (
            defaultdict(dict)
        )
        self._patches: dict[tuple[str, str], str] = {}
        self._bridge_of: dict[tuple[str, str], str] = {}
        self._trunks: dict[tuple[str, str], tuple[int, ...]] = {}
        for node, flows in state.flows.items():
            for flow in flows.values():
                self._flows[node, flow.bridge, flow.table].append(flow)
        for node, rows in state.nodes.items():
            for (table, name), row in rows.items():
                if table == "Bridge":
                    for port in row.columns["ports"]:  # type: ignore[union-attr]
                        self._bridge_of[node, port.name] = name  # type: ignore[union-attr]
                elif table == "Interface" and row.columns.get("type") == "patch":
                    self._patches[node, name] = row.columns["options"]["peer"]  # type: ignore[index,call-overload]
                elif table == "Port" and "trunks" in row.columns:
                    self._trunks[node, name] = row.columns["trunks"]  # type: ignore[assignment]
        self.delivered: list[tuple[str, str, Frame]] = []

    def send(self, node: str, tap: str, frame: Frame) -> list[tuple[str, str, tuple[int, ...]]]:
        """Let a VM send; returns each tap that sends a frame out, with its node and the VLANs of its tags."""
        self.delivered = []
        self._enter(node, tap, frame, 0)
        return sorted((to, port, tuple(tag & 0xFFF for tag in out.tags)) for to, port, out in self.delivered)

    def arrive(self, node: str, port: str, frame: Frame) -> list[tuple[str, str, tuple[int, ...]]]:
        """Let a frame come from the network to a host, by a port of an uplink bridge; returns as `send`."""
        self.delivered = []
        self._enter(node, self._patches[node, port], frame, 0)
        return sorted((to, tap, tuple(tag & 0xFFF for tag in out.tags)) for to, tap, out in self.delivered)

    def uplinks(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """The ports of uplink bridges towards VLAN basic NICs: host, port and the VLANs that it carries."""
        return sorted(
            (node, port, vlans) for (node, port), vlans in self._trunks.items() if UPLINK.fullmatch(port)
        )

    def _enter(self, node: str, port: str, frame: Frame, mark: int) -> None:
        bridge = self._bridge_of[node, port]
        if UPLINK.fullmatch(port):
            self._cross(node, port, frame)
            return
        self._table(node, bridge, 0, Place(replace(frame, tags=list(frame.tags)), port, mark))

    def _cross(self, node: str, port: str, frame: Frame) -> None:
        for (other, name), trunks in self._trunks.items():
            if other != node and name == port and frame.tags[0] & 0xFFF in trunks:
                self._enter(other, self._patches[other, name], frame, 0)

    def _table(self, node: str, bridge: str, table: int, place: Place) -> None:
        candidates = [flow for flow in self._flows[node, bridge, table] if _matches(flow.match, place)]
        if candidates:
            best = max(candidates, key=lambda flow: flow.priority)
            rivals = [flow for flow in candidates if flow.priority == best.priority]
            assert {flow.actions for flow in rivals} == {best.actions}, f"undefined: {rivals}"
            self._act(node, bridge, best.actions, place)
            return
        for match, registers in self._learned[node, bridge, table].items():
            if all(_field(place, name) == value for name, value in match):
                place.registers.update(registers)

    def _act(self, node: str, bridge: str, actions: str, place: Place) -> None:
        actions = re.sub(r"clone\([^()]*(?:\[\][^()]*)*\),?", "", actions)  # copies to the CVM: nobody's here
        for action in re.findall(
            r"[a-z_A-Z]+(?:\([^()]*\)|:[^,]+)?(?:->[^,]+)?", actions.replace("load:", "load=")
        ):
            name, _, rest = action.partition(":")
            if action.startswith("learn("):
                self._learn(node, bridge, action, place)
            elif action.startswith("resubmit(,"):
                self._table(node, bridge, int(action[10:-1]), place)
            elif name == "goto_table":
                self._table(node, bridge, int(rest), place)
            elif name == "output":
                self._output(node, rest, place)
            elif name == "set_field":
                value, target = rest.split("->")
                _set(place, target, int(value, 0))
            elif name == "move":
                _move(place, rest)
            elif name == "push_vlan":
                place.frame.tags.insert(0, PRESENT)
            elif action == "pop_vlan":
                place.frame.tags.pop(0)
            elif action not in ("drop", "encap(nsh)", "decap()"):
                raise AssertionError(f"unknown action {action} in {actions}")

    def _output(self, node: str, port: str, place: Place) -> None:
        if port == place.port:
            return
        frame = replace(place.frame, tags=list(place.frame.tags))
        if (node, port) in self._patches:
            self._enter(node, self._patches[node, port], frame, place.mark)
        else:
            self.delivered.append((node, port, frame))

    def _learn(self, node: str, bridge: str, action: str, place: Place) -> None:
        table, match, registers = None, [], {}
        for word in action[len("learn(") : -1].split(","):
            if word.startswith("table="):
                table = int(word.removeprefix("table="))
            elif word.startswith("load="):
                value, target = word.removeprefix("load=").split("->")
                source = place.registers[_register(value)] if "[" in value else int(value, 0)
                registers[_register(target)] = source
            elif word == "NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]":
                match.append(("dst", place.frame.src))
            elif word == "NXM_OF_VLAN_TCI[0..11]":
                match.append(("vlan", place.frame.tags[0] & 0xFFF))
            elif word.startswith("NXM_NX_REG"):
                mask = 0xFFF if "0..11" in word else 0xFFFFFFFF
                name = _register(word)
                match.append((f"{name}/{mask}", place.registers[name] & mask))
            else:
                assert word.partition("=")[0] in ("hard_timeout", "priority", "cookie", "limit"), word
        assert table is not None
        self._learned[node, bridge, table][tuple(match)] = registers


def _field(place: Place, name: str) -> object:
    if name == "dst":
        return place.frame.dst
    if name == "vlan":
        return place.frame.tags[0] & 0xFFF
    register, _, mask = name.partition("/")
    return place.registers[register] & int(mask)


def _register(text: str) -> str:
    return text.partition("[")[0].removeprefix("NXM_NX_").lower()


def _set(place: Place, target: str, value: int) -> None:
    if target == "pkt_mark":
        place.mark = value
    elif target == "in_port":
        assert value == 0
        place.port = ""
    else:
        assert target.startswith("reg"), target
        place.registers[target] = value


_PORTS: list[str] = [""]
"""Numbers of ports by their place here: 0 is no port."""


def _move(place: Place, text: str) -> None:
    source, target = (re.fullmatch(r"(\w+)\[(?:(\d+)\.\.(\d+))?\]", end) for end in text.split("->"))
    assert source and target, text
    low, high = (int(source[2]), int(source[3])) if source[2] else (0, 31)
    value = _read(place, source[1]) >> low & (1 << high - low + 1) - 1
    low, high = (int(target[2]), int(target[3])) if target[2] else (0, 31)
    mask = (1 << high - low + 1) - 1 << low
    _write(place, target[1], _read(place, target[1]) & ~mask | value << low & mask)


def _read(place: Place, name: str) -> int:
    if name == "NXM_OF_IN_PORT":
        if place.port not in _PORTS:
            _PORTS.append(place.port)
        return _PORTS.index(place.port)
    if name == "NXM_NX_PKT_MARK":
        return place.mark
    if name == "NXM_OF_VLAN_TCI":
        return place.frame.tags[0]
    assert name.startswith("NXM_NX_REG"), name
    return place.registers[_register(name)]


def _write(place: Place, name: str, value: int) -> None:
    if name == "NXM_OF_IN_PORT":
        place.port = _PORTS[value]
    elif name == "NXM_NX_PKT_MARK":
        place.mark = value
    elif name == "NXM_OF_VLAN_TCI":
        place.frame.tags[0] = value
    else:
        place.registers[_register(name)] = value


def _matches(match: str, place: Place) -> bool:
    return all(_matches_one(one, place) for one in match.split(",") if one)


def _matches_one(one: str, place: Place) -> bool:
    name, _, value = one.partition("=")
    frame = place.frame
    if not value:
        return name in frame.protocols
    if name == "in_port":
        return place.port == value
    if name == "dl_vlan":
        return bool(frame.tags) and frame.tags[0] & 0xFFF == int(value)
    if name == "vlan_tci":
        return {"0x0000/0x1fff": not frame.tags, "0x1000/0x1000": bool(frame.tags)}[value]
    if name in ("dl_src", "dl_dst"):
        return _mac_matches(frame.src if name == "dl_src" else frame.dst, value)
    if name.startswith("reg") or name == "pkt_mark":
        wanted, _, mask = value.partition("/")
        have = place.mark if name == "pkt_mark" else place.registers[name]
        return have & (int(mask, 0) if mask else 0xFFFFFFFF) == int(wanted, 0)
    assert name in ("arp_sha", "arp_spa", "arp_tpa", "nw_src", "nw_dst", "tp_src", "tp_dst"), name
    return frame.fields.get(name) == value


def _mac_matches(mac: str, value: str) -> bool:
    wanted, _, mask = value.partition("/")
    bits = int(mask.replace(":", ""), 16) if mask else (1 << 48) - 1
    return int(mac.replace(":", ""), 16) & bits == int(wanted.replace(":", ""), 16)
