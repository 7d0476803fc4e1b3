"""Hosts and bare machines as boxes: VMs on top, then the bridges, then bond and NICs on the lower edge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netctl.cli.picture.network import homes, natural, subnet_of
from netctl.cli.picture.shapes import NEUTRAL, Sheet, text_width

if TYPE_CHECKING:
    from netctl.model import Hypervisor, Intent, Machine, Port, UplinkBridge


PAD = 14.0
CARD_GAP = 10.0
NIC_ROW = 19.0
BAR = 25.0
MOST_HOSTS_IN_DETAIL = 6
MOST_VMS_IN_DETAIL = 12
CARDS_A_ROW = 3


@dataclass(frozen=True, slots=True)
class NicPoint:
    """Where a NIC leaves its box, and the switch that it is cabled to."""

    x: float
    y: float
    switch: str
    label: str = ""


class Block(ABC):
    """A box in a row; `draw` puts its upper left corner somewhere and tells where its NICs are."""

    width: float
    height: float

    @abstractmethod
    def draw(self, sheet: Sheet, x: float, y: float) -> list[NicPoint]:
        """Draw it."""


def blocks(intent: Intent, colours: Mapping[str, str]) -> list[Block]:
    """A box for each host and bare machine, in detail where there is room for it."""
    found: list[Block] = []
    where = homes(intent)
    on_host: dict[str, list[str]] = {name: [] for name in intent.hosts}
    for vm, home in sorted(where.items(), key=lambda item: natural(item[0])):
        on_host.setdefault(home, []).append(vm)
    most = max((len(vms) for vms in on_host.values()), default=0)
    detail = len(intent.hosts) <= MOST_HOSTS_IN_DETAIL and most <= MOST_VMS_IN_DETAIL
    for host in intent.hosts.values():
        if detail:
            found.append(Detailed(intent, host, on_host[host.name], colours))
        else:
            found.append(Compact(intent, host, on_host[host.name], colours, most))
    for machine in intent.machines.values():
        found.append(Bare(intent, machine, colours))
    return found


# --- VMs ------------------------------------------------------------------------------------------


class Card:
    """A VM: its name, its categories, and a coloured line for each NIC."""

    def __init__(self, intent: Intent, name: str, ports: Sequence[Port], colours: Mapping[str, str]) -> None:
        self.name = name
        self.ports = ports
        self._colours = colours
        vm = intent.file.vms[name]
        self._badge = "QEMU" if vm.kind == "qemu" else ""
        self._tags = "  ".join(f"{key}:{value}" for key, value in sorted(vm.categories.items()))
        self._lines = [_nic_words(port) for port in ports]
        name_width = text_width(name, 13, bold=True) + (44 if self._badge else 0)
        nic_width = max(
            (text_width(left, 11) + text_width(right, 10.5, mono=True) + 32 for left, right in self._lines),
            default=0.0,
        )
        self.width = max(96.0, name_width + 20, nic_width, text_width(self._tags, 10) + 20)
        self.height = 28 + (14 if self._tags else 0) + NIC_ROW * max(1, len(ports)) + 6

    def draw(self, sheet: Sheet, x: float, y: float, width: float) -> None:
        """The card itself; its wires start at `plugs`."""
        sheet.rect(x, y, width, self.height, "card")
        sheet.text(x + 10, y + 19, self.name, "bold", 13)
        if self._badge:
            sheet.rect(x + width - 48, y + 8, 40, 15, colour=NEUTRAL, radius=4)
            sheet.text(x + width - 28, y + 19, self._badge, "dim bold", 9, "middle")
        top = y + 28
        if self._tags:
            sheet.text(x + 10, top + 7, self._tags, "dim", 10)
            top += 14
        for port, (left, right) in zip(self.ports, self._lines, strict=True):
            colour = self._colours[port.subnet]
            sheet.rect(x + 7, top, width - 14, NIC_ROW - 3, colour=colour, radius=3)
            sheet.rect(x + 7, top, 3, NIC_ROW - 3, colour=colour, radius=1, opacity=1)
            sheet.text(x + 15, top + 12, left, "", 11)
            sheet.text(x + width - 11, top + 11.5, right, "mono", 10.5, "end")
            top += NIC_ROW

    def plugs(self, x: float, width: float, row: int) -> list[float]:
        """Where the wire of each NIC leaves the lower edge; rows of cards leave at different places."""
        start = x + 14 + 9 * row if row % 2 == 0 else x + width - 14 - 9 * row - 14 * (len(self.ports) - 1)
        return [start + 14 * index for index in range(len(self.ports))]


def _nic_words(port: Port) -> tuple[str, str]:
    left = port.subnet
    if port.mode == "trunk":
        left += " trunk " + ",".join(map(str, port.trunked))
    return left, str(port.addresses[0]) if port.addresses else ""


# --- a host in detail -----------------------------------------------------------------------------


class Detailed(Block):
    """A host with cards for its VMs and all of its bridges."""

    def __init__(
        self, intent: Intent, host: Hypervisor, vms: Sequence[str], colours: Mapping[str, str]
    ) -> None:
        self._intent = intent
        self._host = host
        self._colours = colours
        by_vm: dict[str, list[Port]] = {vm: [] for vm in vms}
        for port in intent.ports:
            if port.vm in by_vm:
                by_vm[port.vm].append(port)
        # Those of a VLAN basic subnet to the right, where br0.local is.
        ordered = sorted(vms, key=lambda vm: (_basic_share(intent, by_vm[vm]), natural(vm)))
        self._cards = [Card(intent, vm, by_vm[vm], colours) for vm in ordered]
        self._per_row = _cards_a_row(len(self._cards))
        self._card_width = max((card.width for card in self._cards), default=0.0)
        self._rows = [
            self._cards[start : start + self._per_row] for start in range(0, len(self._cards), self._per_row)
        ]
        self._local = any(subnet.type == "vlan-basic" for subnet in intent.file.subnets.values())
        self._atlas = not self._local or any(
            subnet.type != "vlan-basic" for subnet in intent.file.subnets.values()
        )
        self._functions = _functions(intent, host.name)
        self._lane = ["br0.local"] if self._local else []
        self._lane += ["br.microseg"] if self._local and intent.file.policies else []
        self._lane += ["br.nf"] if self._functions else []
        columns = min(self._per_row, max(1, len(self._cards)))
        cards = columns * self._card_width + (columns - 1) * CARD_GAP
        self._lane_least = sum(_function_width(name, mode) + 8 for name, mode in self._functions) + 64
        uplinks = sum(_uplink_width(bridge) for bridge in host.bridges) + 10 * max(0, len(host.bridges) - 1)
        lanes = (self._lane_least if self._functions else 0.0) + (110.0 if self._atlas else 0.0)
        self.width = max(250.0, cards + 2 * PAD, uplinks + 2 * PAD, lanes + 2 * PAD)
        self._heights = [max(card.height for card in row) for row in self._rows]
        self._channel = 36.0 if self._cards else 6.0
        self._stack = max(1, len(self._lane))
        self.height = (
            36
            + sum(self._heights)
            + CARD_GAP * max(0, len(self._rows) - 1)
            + self._channel
            + self._stack * BAR
            + 14 * (self._stack - 1)
            + 14
            + BAR
            + 52
        )

    def draw(self, sheet: Sheet, x: float, y: float) -> list[NicPoint]:
        """The box, from its title down to its NICs."""
        host = self._host
        sheet.rect(x, y, self.width, self.height, "box", radius=10)
        sheet.text(x + PAD, y + 23, host.name, "bold", 15)
        sheet.text(
            x + PAD + text_width(host.name, 15, bold=True) + 8, y + 23, str(host.address.ip), "dim mono", 11
        )
        sheet.rect(x + self.width - PAD - 44, y + 10, 44, 18, "ghost", radius=4)
        sheet.tip(f"the controller VM of {host.name}, on virbr0")
        sheet.text(x + self.width - PAD - 22, y + 23, "CVM", "dim", 10, "middle")
        plugs = self._plugs(x)
        top = y + 36 + sum(self._heights) + CARD_GAP * max(0, len(self._rows) - 1)
        bars = self._bars(sheet, x, top + self._channel)
        self._wires(sheet, plugs, y + 36, bars, top + self._channel)
        self._draw_cards(sheet, x, y + 36, plugs)
        return self._uplinks(sheet, x, y + self.height - 52 - BAR)

    def _columns(self, x: float, row: Sequence[Card]) -> list[tuple[float, float]]:
        """Left edge and width of each card of a row; the row fills the box."""
        room = self.width - 2 * PAD
        columns = min(self._per_row, len(self._cards)) if len(self._rows) > 1 else len(row)
        width = (room - CARD_GAP * (columns - 1)) / columns
        return [(x + PAD + number * (width + CARD_GAP), width) for number in range(len(row))]

    def _plugs(self, x: float) -> list[tuple[int, Port, float]]:
        """Row, port and x of every wire's upper end."""
        found = []
        for number, row in enumerate(self._rows):
            for card, (left, width) in zip(row, self._columns(x, row), strict=True):
                for port, plug in zip(
                    card.ports, card.plugs(left, width, len(self._rows) - 1 - number), strict=True
                ):
                    found.append((number, port, plug))
        return found

    def _wires(
        self,
        sheet: Sheet,
        plugs: Sequence[tuple[int, Port, float]],
        top: float,
        bars: Mapping[str, tuple[float, float]],
        bar_y: float,
    ) -> None:
        """From each NIC to its bridge; wires of upper rows pass behind the lower cards."""
        bottoms = []
        y = top
        for height in self._heights:
            bottoms.append(y + height)
            y += height + CARD_GAP
        for bridge, (left, width) in bars.items():
            mine = sorted((plug, row, port) for row, port, plug in plugs if self._bridge(port) == bridge)
            inside = [plug for plug, _, _ in mine if left + 6 <= plug <= left + width - 6]
            straight = len(inside) == len(mine)
            for number, (plug, row, port) in enumerate(mine):
                end = plug if straight else left + width * (number + 1) / (len(mine) + 1)
                colour = self._colours[port.subnet]
                last = bottoms[-1]
                if row < len(bottoms) - 1:
                    sheet.line([(plug, bottoms[row]), (plug, last)], colour)
                sheet.wire(plug, last, end, bar_y, colour)
                sheet.square(end, bar_y, 7, colour)

    def _draw_cards(self, sheet: Sheet, x: float, y: float, plugs: Sequence[tuple[int, Port, float]]) -> None:
        bottoms = []
        for row, height in zip(self._rows, self._heights, strict=True):
            for card, (left, width) in zip(row, self._columns(x, row), strict=True):
                card.draw(sheet, left, y + height - card.height, width)
            bottoms.append(y + height)
            y += height + CARD_GAP
        for number, port, plug in plugs:
            sheet.square(plug, bottoms[number], 7, self._colours[port.subnet])

    def _bridge(self, port: Port) -> str:
        return "br0.local" if self._intent.file.subnets[port.subnet].type == "vlan-basic" else "brAtlas"

    def _bars(self, sheet: Sheet, x: float, y: float) -> dict[str, tuple[float, float]]:
        """The bridges between VMs and uplinks; returns where VMs attach (left and width by bridge).

        brAtlas stands beside the lane of br0.local, br.microseg and br.nf; both reach the uplink bridges.
        """
        room, left = self.width - 2 * PAD, x + PAD
        tall = self._stack * BAR + 14 * (self._stack - 1)
        ends: dict[str, tuple[float, float]] = {}
        lane = left
        if self._atlas:
            width = (room - 14) * self._atlas_share(room - 14) if self._lane else room
            _bar(sheet, left, y, width, "brAtlas", "OVN", tall)
            ends["brAtlas"] = (left, width)
            self._patches_down(sheet, x, left, width, y + tall)
            lane = left + width + 14
        width = left + room - lane
        for number, name in enumerate(self._lane):
            top = y + number * (BAR + 14)
            _bar(sheet, lane, top, width, name)
            if name == "br0.local":
                ends[name] = (lane, width)
            if name == "br.nf":
                self._draw_functions(sheet, lane, top)
                if self._atlas:
                    for side in (-2, 2):
                        sheet.line([(lane - 14, top + BAR / 2 + side), (lane, top + BAR / 2 + side)])
            if number + 1 < len(self._lane):
                _patch(sheet, lane + width / 2, top + BAR, 14)
            elif self._local:
                self._patches_down(sheet, x, lane, width, y + tall)
        return ends

    def _patches_down(self, sheet: Sheet, x: float, left: float, width: float, y: float) -> None:
        """Patch ports to every uplink bridge that lies below."""
        for start, span, _ in self._uplink_places(x):
            low, high = max(left, start), min(left + width, start + span)
            if high - low > 20:
                _patch(sheet, (low + high) / 2, y, 14)

    def _draw_functions(self, sheet: Sheet, left: float, y: float) -> None:
        at = left + text_width("br.nf", 11, bold=True) + 20
        for name, mode in self._functions:
            width = _function_width(name, mode)
            sheet.rect(at, y + 4, width, BAR - 8, "card", radius=4)
            sheet.text(at + 8, y + 16.5, name, "", 10.5)
            if mode == "tap":
                sheet.text(at + width - 6, y + 16, "tap", "dim", 9, "end")
            at += width + 8

    def _atlas_share(self, room: float) -> float:
        """How much of the width brAtlas gets beside the lane: by the NICs that each carries."""
        ports = [port for card in self._cards for port in card.ports]
        atlas = sum(1 for port in ports if self._bridge(port) == "brAtlas")
        share = min(0.65, max(0.35, atlas / len(ports))) if ports else 0.5
        return min(share, 1 - self._lane_least / room) if self._functions else share

    def _uplink_places(self, x: float) -> list[tuple[float, float, UplinkBridge]]:
        """Left edge and width of each uplink bridge."""
        bridges = self._host.bridges
        total = sum(_uplink_width(bridge) for bridge in bridges)
        spare = (self.width - 2 * PAD - 10 * (len(bridges) - 1)) / total if bridges else 1.0
        places = []
        left = x + PAD
        for bridge in bridges:
            places.append((left, _uplink_width(bridge) * spare, bridge))
            left += _uplink_width(bridge) * spare + 10
        return places

    def _uplinks(self, sheet: Sheet, x: float, y: float) -> list[NicPoint]:
        """Uplink bridges side by side, each with its bond and NICs."""
        points: list[NicPoint] = []
        for left, width, bridge in self._uplink_places(x):
            mtu = "" if bridge.mtu == self._intent.file.fabric.mtu else f"MTU {bridge.mtu}"
            _bar(sheet, left, y, width, bridge.bridge, " · ".join(filter(None, (bridge.switch, mtu))))
            points += self._bond(sheet, bridge, left, width, y + BAR)
        return points

    def _bond(
        self, sheet: Sheet, bridge: UplinkBridge, left: float, width: float, y: float
    ) -> list[NicPoint]:
        count = len(bridge.uplinks)
        if not count:
            return []
        middle = left + width / 2
        step = min(76.0, width / count)
        xs = [middle + step * (number - (count - 1) / 2) for number in range(count)]
        edge = y + 52
        words = bond_words(bridge)
        if count > 1 or words != "no bond":
            sheet.line([(middle, y), (middle, y + 5)])
            sheet.text(middle, y + 16, words, "dim", 10.5, "middle")
            sheet.line([(middle, y + 20), (middle, y + 25)])
            sheet.line([(xs[0], y + 31), (xs[0], y + 25), (xs[-1], y + 25), (xs[-1], y + 31)])
        points = []
        for nic, at in zip(bridge.uplinks, xs, strict=True):
            sheet.line([(at, y + 25 if count > 1 or words != "no bond" else y), (at, edge)])
            sheet.rect(at - 19, edge - 17, 38, 17, "bar", radius=3)
            sheet.text(at, edge - 5, nic, "mono", 10, "middle")
            cable = self._host.nics[nic]
            points.append(NicPoint(at, edge, cable.switch, _rate(cable.rate)))
        return points


def _functions(intent: Intent, host: str) -> list[tuple[str, str]]:
    """Name and mode of the network functions of a host, in the order in which chains use them."""
    found = {
        name: function.mode
        for name, function in sorted(intent.file.network_functions.items())
        if function.hosts == "all" or host in function.hosts
    }
    chained = [name for _, chain in sorted(intent.file.service_chains.items()) for name in chain.functions]
    order = dict.fromkeys(name for name in (*chained, *found) if name in found)
    return [(name, found[name]) for name in order]


def _function_width(name: str, mode: str) -> float:
    return text_width(name, 10.5) + (36 if mode == "tap" else 16)


def bond_words(bridge: UplinkBridge) -> str:
    """How the uplinks work together, such as `br0-up balance-tcp, LACP active`."""
    if bridge.mode == "none":
        return "no bond"
    lacp = f", LACP {bridge.lacp}" if bridge.lacp != "off" else ""
    return f"{bridge.bond} · {bridge.mode}{lacp}"


def _uplink_width(bridge: UplinkBridge) -> float:
    return max(110.0, 46.0 * len(bridge.uplinks), text_width(bond_words(bridge), 10.5) + 12)


def _cards_a_row(count: int) -> int:
    """Rows of at most three cards, about equally long."""
    rows = max(1, -(-count // CARDS_A_ROW))
    return max(1, -(-count // rows))


def _basic_share(intent: Intent, ports: Sequence[Port]) -> float:
    basic = sum(1 for port in ports if intent.file.subnets[port.subnet].type == "vlan-basic")
    return basic / len(ports) if ports else 0.0


def _bar(
    sheet: Sheet, x: float, y: float, width: float, name: str, note: str = "", height: float = BAR
) -> None:
    sheet.rect(x, y, width, height, "bar", radius=4)
    sheet.text(x + 9, y + height / 2 + 4, name, "bold", 11)
    if note:
        sheet.text(x + width - 9, y + height / 2 + 4, note, "dim", 10, "end")


def _patch(sheet: Sheet, x: float, y: float, length: float) -> None:
    """A pair of patch ports between two bridges."""
    for side in (-2, 2):
        sheet.line([(x + side, y), (x + side, y + length)])


def _rate(rate: int | None) -> str:
    if rate is None:
        return ""
    for unit, name in ((10**9, "Gbit/s"), (10**6, "Mbit/s"), (10**3, "kbit/s")):
        if rate >= unit:
            return f"{rate / unit:g} {name}"
    return f"{rate} bit/s"


# --- a host among many ----------------------------------------------------------------------------


class Compact(Block):
    """A host with a pill for each VM, for racks in which there is no room for more."""

    PILL = 20.0
    MOST = 24

    def __init__(
        self, intent: Intent, host: Hypervisor, vms: Sequence[str], colours: Mapping[str, str], most: int
    ) -> None:
        self._host = host
        self._colours = colours
        self._more = max(0, len(vms) - self.MOST)
        self._vms = [
            (vm, [port.subnet for port in intent.ports_by_host[host.name] if port.vm == vm]) for vm in vms
        ]
        self._vms = self._vms[: self.MOST]
        names = [text_width(vm, 10.5) + 9 * max(1, len(subnets)) + 16 for vm, subnets in self._vms]
        self._columns = 3 if most > 12 else 2
        self._pill = max(names, default=60.0)
        self.width = max(170.0, self._columns * (self._pill + 5) + 2 * 10 - 5)
        rows = max(1, -(-min(most, self.MOST) // self._columns))
        self.height = 32 + rows * (self.PILL + 4) + (14 if most > self.MOST else 0) + 44

    def draw(self, sheet: Sheet, x: float, y: float) -> list[NicPoint]:
        """The box with its pills and NICs."""
        host = self._host
        sheet.rect(x, y, self.width, self.height, "box", radius=8)
        sheet.text(x + 10, y + 20, host.name, "bold", 13)
        sheet.text(x + self.width - 10, y + 20, str(host.address.ip), "dim mono", 10, "end")
        width = (self.width - 20 - 5 * (self._columns - 1)) / self._columns
        for number, (vm, subnets) in enumerate(self._vms):
            left = x + 10 + number % self._columns * (width + 5)
            top = y + 30 + number // self._columns * (self.PILL + 4)
            colour = self._colours[subnets[0]] if subnets else NEUTRAL
            sheet.rect(left, top, width, self.PILL, colour=colour, radius=4)
            sheet.text(left + 7, top + 14, vm, "", 10.5)
            for index, subnet in enumerate(reversed(subnets)):
                sheet.square(left + width - 9 - 9 * index, top + self.PILL / 2, 6, self._colours[subnet])
        if self._more:
            sheet.text(x + 10, y + self.height - 46, f"and {self._more} more", "dim", 10)
        nics = [(nic, bridge) for bridge in host.bridges for nic in bridge.uplinks]
        words = "  ".join(bond_words(bridge) for bridge in host.bridges[:1])
        if len(host.bridges) > 1:
            words += f"  +{len(host.bridges) - 1}"
        bottom = y + self.height
        sheet.text(x + self.width / 2, bottom - 25, words, "dim", 10, "middle")
        points = []
        for number, (nic, _) in enumerate(nics):
            at = x + self.width * (number + 1) / (len(nics) + 1)
            sheet.rect(at - 17, bottom - 17, 34, 17, "bar", radius=3)
            sheet.text(at, bottom - 5, nic, "mono", 9.5, "middle")
            cable = host.nics[nic]
            points.append(NicPoint(at, bottom, cable.switch, _rate(cable.rate)))
        return points


# --- a bare machine -------------------------------------------------------------------------------


class Bare(Block):
    """A bare machine on a port of a switch."""

    def __init__(self, intent: Intent, machine: Machine, colours: Mapping[str, str]) -> None:
        self._machine = machine
        made = machine.definition
        subnet = subnet_of(intent, machine)
        self._colour = colours[subnet] if subnet else NEUTRAL
        self._left = subnet or (f"VLAN {made.vlan}" if made.vlan else "untagged")
        self._right = "" if made.ip is None else str(made.ip.ip)
        self._what = "router, BGP" if made.kind == "router" else "bare machine"
        self.width = max(
            130.0,
            text_width(self._left, 11) + text_width(self._right, 10.5, mono=True) + 40,
            text_width(machine.name, 14, bold=True) + text_width(self._what, 10) + 40,
        )
        self.height = 84.0

    def draw(self, sheet: Sheet, x: float, y: float) -> list[NicPoint]:
        """The box with its one NIC."""
        sheet.rect(x, y, self.width, self.height, "box", radius=8)
        sheet.text(x + 10, y + 21, self._machine.name, "bold", 14)
        sheet.text(x + self.width - 10, y + 21, self._what, "dim", 10, "end")
        sheet.rect(x + 8, y + 34, self.width - 16, NIC_ROW - 1, colour=self._colour, radius=3)
        sheet.rect(x + 8, y + 34, 3, NIC_ROW - 1, colour=self._colour, radius=1, opacity=1)
        sheet.text(x + 16, y + 47, self._left, "", 11)
        sheet.text(x + self.width - 12, y + 46.5, self._right, "mono", 10.5, "end")
        at, bottom = x + self.width / 2, y + self.height
        sheet.rect(at - 19, bottom - 17, 38, 17, "bar", radius=3)
        sheet.text(at, bottom - 5, "eth0", "mono", 10, "middle")
        return [NicPoint(at, bottom, self._machine.definition.switch)]
