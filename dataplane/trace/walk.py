"""Follow one packet through a lab, switch after switch, by asking each what it would do.

    NIC -> tap -> bridges of the host -> uplink -> ToR ... -> uplink -> bridges -> tap -> NIC

Where a switch floods, every branch is followed; the story is that of the branch that reaches the receiver, or
else of the one that came closest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from dataplane import netns, stack
from dataplane.checks.places import Place
from dataplane.daemons import Runner
from dataplane.inventory import End, Inventory
from dataplane.trace import actions, logical, switch
from dataplane.trace.actions import Output, Tunnel
from dataplane.trace.logical import Logic
from dataplane.trace.packet import BROADCAST, Packet
from dataplane.trace.switch import Port, Rule, Traced
from netctl.errors import ChangeError
from netctl.model import Intent, devices
from netctl.model.flow import owner_cookie

MOST_HOPS = 12
"""Switches that a packet may cross before we take it for a loop."""


NEIGHBOUR_LIMIT = 2.0
"""Seconds that a node that forwards may take to learn its next hop's MAC address."""

_GENEVE = 6081
"""Geneve's UDP port (RFC 8926)."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step: on which node, what happens there, and why (things of the intent, rules that decided)."""

    node: str
    what: str
    why: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Story:
    """What becomes of the packet: the verdict first. `also` are NICs that get a copy because a switch floods.

    `whys` are the things of the intent that decided, by their marks such as `policy app inbound 0`.
    """

    verdict: str
    delivered: bool
    stages: tuple[Stage, ...]
    also: tuple[str, ...] = ()
    whys: tuple[str, ...] = ()


@dataclass
class _Branch:
    """A way that the packet takes; `end` is the NIC that it reaches, `died` why it goes no further."""

    stages: list[Stage] = field(default_factory=list)
    end: Place | None = None
    died: str = ""
    own: bool = False

    def then(self, stage: Stage) -> _Branch:
        return _Branch([*self.stages, stage])


def walk(
    intent: Intent,
    inventory: Inventory,
    runner: Runner,
    known: Mapping[str, Place],
    source: Place,
    receivers: Mapping[Place, object],
    label: str,
    packet: Packet,
) -> Story:
    """Trace a packet that a NIC sends.

    Args:
        intent: the lab's.
        inventory: its rack, with what is broken on purpose.
        runner: asks its daemons.
        known: all NICs by name.
        source: where the packet comes from.
        receivers: the NICs any of which is the right one; none: an address that is no NIC's.
        label: what the receiver is called.
        packet: as it leaves the sender.
    """
    walker = _Walker(intent, inventory, runner, known)
    branches = list(walker.leave(source, packet))
    right = [branch for branch in branches if branch.end in receivers]
    others = {branch.end.name for branch in branches if branch.end and branch.end not in receivers}
    thought = walker.thought(source, packet)
    back = [branch for branch in branches if branch.end is source]
    if right:
        chosen = right[0]
        verdict = f"delivered to {chosen.end.name if chosen.end else label}"
        if chosen.end and chosen.end.host:
            verdict += f" on {chosen.end.host}"
        return Story(verdict, True, tuple(chosen.stages), tuple(sorted(others)), _whys(chosen.stages))
    if back:
        verdict = (
            f"answered on {source.host or source.node} by OVN itself: the answer goes back to {source.name}"
        )
        return Story(verdict, not receivers, tuple(back[0].stages), (), _whys(back[0].stages))
    hosts = {place.host or place.node for place in receivers}
    dead = [branch for branch in branches if branch.end is None]
    chosen = max(
        dead or branches,
        key=lambda branch: (
            branch.own,
            not branch.died.endswith(_COPIES),
            bool(branch.stages) and branch.stages[-1].node in hosts,
            bool(branch.died),
            len(branch.stages),
        ),
        default=_Branch(died="no switch has a port for it"),
    )
    where = chosen.stages[-1].node if chosen.stages else source.node
    if chosen.own and not receivers:
        return Story(f"{label}: reaches {chosen.died}", True, tuple(chosen.stages), (), _whys(chosen.stages))
    if chosen.died.endswith(_COPIES) or not chosen.died:
        verdict = "dropped: the switches flood it, and none of the copies gets to anybody who takes it"
    else:
        verdict = f"dropped at {where}: {chosen.died}"
    if thought:
        verdict += f"; OVN by itself would send it to {', '.join(thought)}"
    return Story(verdict, False, tuple(chosen.stages), tuple(sorted(others)), _whys(chosen.stages))


def _whys(stages: list[Stage]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(why for stage in stages for why in stage.why))


class _Walker:
    def __init__(
        self, intent: Intent, inventory: Inventory, runner: Runner, known: Mapping[str, Place]
    ) -> None:
        self._intent, self._inventory, self._runner = intent, inventory, runner
        self._nics = {(place.node, place.device): place for place in known.values()}
        self._ports: dict[str, list[Port]] = {}
        self._peers: dict[tuple[str, str], End] = {}
        for link in inventory.links:
            self._peers[link.a.node, link.a.device.name] = link.b
            self._peers[link.b.node, link.b.device.name] = link.a
        self._logic: Logic | None = None

    @property
    def logic(self) -> Logic:
        if self._logic is None:
            self._logic = logical.read(self._runner)
        return self._logic

    def thought(self, source: Place, packet: Packet) -> list[str]:
        """Where OVN would send it, in names of NICs; nothing for a NIC that OVN does not carry."""
        port = next((port for port in self._intent.ports if port.name == source.name), None)
        network = self._network(source)
        if port is None or network is None or packet.vlans:
            return []
        found = logical.outputs(self._runner, network, source.name, packet) or []
        return [name for name in found if name in {place.name for place in self._nics.values()}]

    def _network(self, source: Place) -> str | None:
        subnet = next((port.subnet for port in self._intent.ports if port.name == source.name), None)
        return subnet if subnet in self.logic.networks.values() else None

    def leave(self, source: Place, packet: Packet) -> Iterator[_Branch]:
        """All ways of a packet that a NIC sends."""
        where = f" on {source.host}" if source.host else ""
        yield from self._cross(
            source.node, source.device, packet, None, _Branch(), 0, f"{source.name}{where}"
        )

    def _cross(
        self,
        node: str,
        device: str,
        packet: Packet,
        tunnel: Tunnel | None,
        way: _Branch,
        hops: int,
        told: str = "",
    ) -> Iterator[_Branch]:
        """Over the cable from a device to what is at the other end."""
        peer = self._peers.get((node, device))
        form = _form(packet, tunnel)
        if peer is None:
            yield _end(way, node, f"{device} leads nowhere", form)
            return
        far, name = peer.node, peer.device.name
        if not self._carrier(node, device):
            yield _end(way, node, f"{device} has no carrier: the cable to {far} {name} is dead", form)
            return
        wire = Stage(node, f"leaves {told or f'{node} {device}'} for {far} {name}{form}")
        way = way.then(wire)
        if self._inventory.nodes[far].kind == "cvm":
            yield from self._manage(far, tunnel, way)
            return
        place = self._nics.get((far, name))
        if place is not None and place.forwards and _for_others(packet, place):
            yield from self._forward(place, packet, way, hops)
            return
        if place is not None:
            wanted = packet.dst in (BROADCAST, place.mac.hex(":"))
            way = way.then(
                Stage(far, f"arrives at {place.name}" + ("" if wanted else ", for whom it is not"))
            )
            way.end = place
            yield way
            return
        if self._inventory.nodes[far].kind == "function":
            yield _end(way, far, "a network function decides what becomes of it", form)
            return
        if hops >= MOST_HOPS:
            yield _end(way, far, "it goes round in a loop", form)
            return
        outer = tunnel.outer if tunnel else packet
        inner = (packet, tunnel) if tunnel else None
        yield from self._switch(far, name, outer, inner, way, hops + 1)

    def _forward(self, place: Place, packet: Packet, way: _Branch, hops: int) -> Iterator[_Branch]:
        """Through the stack of a node that forwards, by its own routes and neighbours."""
        if hops >= MOST_HOPS:
            yield _end(way, place.node, "it goes round in a loop", "")
            return
        found = netns.inside(
            self._inventory.namespace(place.node), lambda: stack.next_hop(packet.nw_dst, NEIGHBOUR_LIMIT)
        )
        if isinstance(found, str):
            yield _end(way, place.node, found, "")
            return
        out = self._nics.get((place.node, found.device), place)
        sent = replace(packet, src=out.mac.hex(":"), dst=found.mac, ttl=packet.ttl - 1)
        here = way.then(Stage(place.node, f"forwards it: {found.words}"))
        yield from self._cross(place.node, found.device, sent, None, here, hops + 1)

    def _manage(self, cvm: str, tunnel: Tunnel | None, way: _Branch) -> Iterator[_Branch]:
        """In a CVM: what is for a DHCP server reaches it; copies of ARP, from which it learns, are no way."""
        if tunnel is None:
            return
        ends = {
            (end.vni, end.udp_port): end.device.name for end in self._inventory.tunnels if end.node == cvm
        }
        device = ends.get((tunnel.vni, tunnel.outer.port))
        for subnet, server in self._inventory.nodes[cvm].servers.items():
            if server.device == device:
                branch = way.then(Stage(cvm, f"the DHCP server of {subnet} gets it", (f"subnet {subnet}",)))
                branch.died, branch.own = f"the DHCP server of {subnet}, in the CVM of its host", True
                yield branch

    def _switch(
        self,
        node: str,
        device: str,
        packet: Packet,
        inner: tuple[Packet, Tunnel] | None,
        way: _Branch,
        hops: int,
    ) -> Iterator[_Branch]:
        """Through a switch, in at a device."""
        try:
            ports = self._ports_of(node)
            port = next((port for port in ports if port.name == device), None)
            if port is None:
                yield _end(way, node, f"{device} is no port of any bridge on {node}", "")
                return
            traced = switch.trace(self._runner, node, port.bridge, f"in_port={device}", packet)
        except ChangeError as error:
            yield _end(way, node, error.message, "")
            return
        yield from self._after(node, traced, packet, inner, way, hops)

    def _after(
        self,
        node: str,
        traced: Traced,
        packet: Packet,
        inner: tuple[Packet, Tunnel] | None,
        way: _Branch,
        hops: int,
    ) -> Iterator[_Branch]:
        done = actions.apply(list(traced.actions), packet)
        decided, why = self._decided(node, traced)
        words = " -> ".join(traced.bridges)
        if decided:
            words += f": {'; '.join(decided)}"
        if done.notes:
            words += f" ({'; '.join(done.notes)})"
        here = way.then(Stage(node, words, tuple(why)))
        reached = self._terminates(node, traced, inner)
        if reached is not None:
            outer, tunnel = reached
            yield from self._decapsulate(node, outer, tunnel, here, hops)
        by_number = {port.datapath: port for port in self._ports_of(node) if port.datapath is not None}
        went = False
        for output in done.outputs:
            port = by_number.get(output.port)
            if port is None or port.kind == "tap":
                continue  # a bridge's own port: the stack of the host
            went = True
            yield from self._output(node, port, output, inner, here, hops)
        if not went and reached is None:
            died = _End(here.stages, self._reason(node, traced, done.notes))
            branch = _Branch(died.stages, died=died.text)
            branch.own = self._answered(traced)
            yield branch

    def _output(
        self,
        node: str,
        port: Port,
        output: Output,
        inner: tuple[Packet, Tunnel] | None,
        way: _Branch,
        hops: int,
    ) -> Iterator[_Branch]:
        if inner is not None:
            yield from self._cross(
                node, port.name, inner[0], replace_outer(inner[1], output.packet), way, hops
            )
        else:
            yield from self._cross(node, port.name, output.packet, output.tunnel, way, hops)

    def _terminates(
        self, node: str, traced: Traced, inner: tuple[Packet, Tunnel] | None
    ) -> tuple[Packet, Tunnel] | None:
        """The inner packet, where this host is the end of the tunnel."""
        host = self._intent.hosts.get(node)
        if inner is None or host is None or str(host.address.ip) != inner[1].outer.nw_dst:
            return None
        return inner

    def _decapsulate(
        self, node: str, packet: Packet, tunnel: Tunnel, way: _Branch, hops: int
    ) -> Iterator[_Branch]:
        port = next(
            (
                port
                for port in self._ports_of(node)
                if port.kind == "geneve" and f"remote_ip={tunnel.outer.nw_src}" in port.options
            ),
            None,
        )
        if port is None:
            yield _end(way, node, f"{node} has no tunnel from {tunnel.outer.nw_src}", "")
            return
        where = f"in_port={port.name},tun_id={tunnel.vni:#x},tun_metadata0={tunnel.option}"
        try:
            traced = switch.trace(self._runner, node, devices.INTEGRATION_BRIDGE, where, packet)
        except ChangeError as error:
            yield _end(way, node, error.message, "")
            return
        yield from self._after(node, traced, packet, None, way, hops)

    # --- why ---------------------------------------------------------------------------------------------

    def _decided(self, node: str, traced: Traced) -> tuple[list[str], list[str]]:
        """What of a passage is worth telling: networks, rules of the intent, floods, strangers."""
        words: list[str] = []
        whys: list[str] = []
        for rule in traced.rules:
            if rule.bridge == devices.INTEGRATION_BRIDGE:
                self._logical(rule, words, whys)
            elif self._strange(rule):
                words.append(f"a flow that is not netctl's in {rule.bridge}: {_rule(rule)}")
            for note in rule.notes:
                if "flooding" in note and rule.bridge != devices.INTEGRATION_BRIDGE:
                    words.append(f"{rule.bridge} does not know {'the MAC address'}, and floods")
        return list(dict.fromkeys(words)), list(dict.fromkeys(whys))

    def _logical(self, rule: Rule, words: list[str], whys: list[str]) -> None:
        network = re.search(r"metadata=(0x[0-9a-f]+)", rule.match)
        if network:
            name = self.logic.networks.get(int(network[1], 16), "")
            if name:
                words.append(_network_words(self._intent, name))
        meaning = self.logic.meanings.get(rule.cookie)
        if meaning and meaning.why and meaning.stage.startswith(_TELLING):
            words.append(meaning.why)
            whys.append(meaning.why)

    def _strange(self, rule: Rule) -> bool:
        """Whether nobody that we know of made this flow: neither netctl, nor the switch itself."""
        if rule.priority == 0 and rule.cookie == 0:
            return False
        return rule.priority >= 0 and rule.cookie >> 32 != owner_cookie(self._intent.name) >> 32

    def _answered(self, traced: Traced) -> bool:
        """Whether a router or OVN itself takes the packet, rather than drops it."""
        if not traced.rules:
            return False
        meaning = self.logic.meanings.get(traced.rules[-1].cookie)
        return bool(meaning and meaning.stage in ("lr_in_ip_input", "ls_in_arp_rsp"))

    def _reason(self, node: str, traced: Traced, notes: tuple[str, ...]) -> str:
        """Why a switch lets a packet go no further."""
        if not traced.rules:
            return f"{node} has no flow for it"
        rules = [rule for rule in traced.rules if rule.table not in _LOOKUPS or rule.bridge != "brAtlas"]
        last = rules[-1]
        for rule in reversed(traced.rules):
            for note in rule.notes:
                if "drop" in note or "disallow" in note or "disabled" in note:
                    return f"{rule.bridge}: {note.strip()}"
        if last.bridge == devices.INTEGRATION_BRIDGE:
            meaning = self.logic.meanings.get(last.cookie)
            if meaning and meaning.stage:
                return self._logical_reason(meaning.stage, meaning.why, traced)
            if last.table == 0 and last.priority <= 0:
                return "brAtlas knows no NIC or network at the port where it comes in"
            if self.logic.trouble:
                return self.logic.trouble
            return f"brAtlas has nobody on this host to give it to (table {last.table})"
        if self._strange(last):
            return f"a flow that is not netctl's in {last.bridge}: {_rule(last)}"
        if last.actions and last.actions[-1] == "drop":
            return f"{last.bridge} drops it: {_rule(last)}"
        return f"{last.bridge} has no other port for it"

    def _logical_reason(self, stage: str, why: str, traced: Traced) -> str:
        network = ""
        for rule in traced.rules:
            found = re.search(r"metadata=(0x[0-9a-f]+)", rule.match)
            if found:
                network = self.logic.networks.get(int(found[1], 16), network)
        place = _network_words(self._intent, network) if network else "brAtlas"
        words = next((text for name, text in _STAGES if stage.startswith(name)), stage)
        return f"{place}: {words}" + (f" ({why})" if why and why not in place else "")

    # --- the rack -----------------------------------------------------------------------------------------

    def _ports_of(self, node: str) -> list[Port]:
        if node not in self._ports:
            self._ports[node] = switch.ports(self._runner, node)
        return self._ports[node]

    def _carrier(self, node: str, device: str) -> bool:
        try:
            seen = netns.inside(self._inventory.namespace(node), stack.snapshot).devices.get(device)
        except (OSError, ChangeError):
            return False
        return seen is not None and seen.carrier and seen.up


@dataclass(frozen=True, slots=True)
class _End:
    stages: list[Stage]
    text: str


_TELLING = (
    "ls_in_acl",
    "ls_out_acl",
    "ls_in_lb",
    "lr_in_policy",
    "lr_in_ip_routing",
    "lr_in_dnat",
    "lr_out_snat",
    "lr_in_unsnat",
    "lr_out_undnat",
    "ls_in_network_function",
    "ls_out_network_function",
)
"""Logical stages whose rules are a person's decisions; the others are how switches work."""

_COPIES = ("bonding refused admissibility, dropping", "has no other port for it")
"""How copies of a flooded packet end that were never to arrive."""

_LOOKUPS = frozenset({73, 74, 75, 79, 67, 71})
"""brAtlas' tables that are looked up on the way, such as port security's; a miss there is no verdict."""

_STAGES = (
    ("ls_in_check_port_sec", "port security: not the sender's MAC or IP address"),
    ("ls_in_apply_port_sec", "port security: not the sender's MAC or IP address"),
    ("ls_out_check_port_sec", "port security: not the receiver's MAC or IP address"),
    ("ls_out_apply_port_sec", "port security: not the receiver's MAC or IP address"),
    ("ls_in_acl", "a policy drops it on its way in"),
    ("ls_out_acl", "a policy drops it on its way out"),
    ("ls_in_l2_unknown", "nobody in the subnet has that MAC address"),
    ("ls_in_l2_lkup", "nobody in the subnet has that MAC address"),
    ("ls_in_arp_rsp", "answered by the subnet itself"),
    ("lr_in_admission", "the router takes no such MAC address"),
    ("lr_in_ip_input", "for the router itself"),
    ("lr_in_ip_routing", "no route"),
    ("lr_in_policy", "a routing policy drops it"),
    ("lr_in_arp_resolve", "the next hop is not known"),
    ("lr_in_arp_request", "the router asks for the next hop's MAC address first"),
    ("lr_in_larger_pkts", "larger than the next link's MTU"),
    ("lr_in_gw_redirect", "the gateway is on no host"),
)
"""What it means to end in a logical stage (ovn-northd(8))."""


def _for_others(packet: Packet, place: Place) -> bool:
    return packet.dst == place.mac.hex(":") and packet.nw_dst != str(place.ip) and packet.protocol != "arp"


def replace_outer(tunnel: Tunnel, outer: Packet) -> Tunnel:
    """The tunnel with its outer headers as they are now."""
    return replace(tunnel, outer=outer)


def _end(way: _Branch, node: str, reason: str, form: str) -> _Branch:
    branch = way.then(Stage(node, f"stops{form}: {reason}"))
    branch.died = reason
    return branch


def _form(packet: Packet, tunnel: Tunnel | None) -> str:
    if tunnel is not None:
        kind = "Geneve" if tunnel.outer.port == _GENEVE else "VXLAN"
        return f" in {kind} {tunnel.vni} to {tunnel.outer.nw_dst}"
    return "".join(f" with VLAN {vlan}" for vlan in packet.vlans)


def _rule(rule: Rule) -> str:
    match = f", {rule.match}" if rule.match else ""
    does = "; ".join(rule.actions) or "drop"
    return f"table {rule.table}, priority {rule.priority}{match}: {does}"


def _network_words(intent: Intent, name: str) -> str:
    if name in intent.file.subnets:
        return f"subnet {name}"
    return f"VPC {name}" if name in intent.file.vpcs else name
