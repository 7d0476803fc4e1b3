"""Whom a policy means: its selectors, groups, subnets and VPCs as NICs and as addresses. Pure; no OVN in it.

The same NIC is seen under another address from elsewhere (a floating IP), and two VPCs may use the same ones.
So what an address means depends on where the packet is looked at, its *space*: a VPC, or all VLANs
together. A VLAN whose network overlaps another's is a space of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any

from netctl.model.intent import Intent, Port
from netctl.model.policy import Chooser, Peer, Policy, Scope, selector_text
from netctl.model.service import Range, ranges
from netctl.model.subnet import Subnet

VLAN = "vlan"
"""The space of all VLANs."""

Span = tuple[int, int]
"""Addresses as numbers, from the first to the last."""

EVERYTHING = (0, 2**32 - 1)


@dataclass(frozen=True, slots=True)
class Peers:
    """The other end of what a rule matches, as it is seen from one space.

    `key` says in words who they are: the same words, the same peers. `ipv4` and `ipv6` are networks and
    addresses, in order; `every4` and `every6` that every address is meant.
    """

    key: str
    ipv4: tuple[str, ...] = ()
    ipv6: tuple[str, ...] = ()
    every4: bool = False
    every6: bool = False

    @property
    def everyone(self) -> bool:
        """Whether every peer is meant."""
        return self.every4 and self.every6

    @property
    def nobody(self) -> bool:
        """Whether no peer is meant."""
        return not (self.ipv4 or self.ipv6 or self.every4 or self.every6)


EVERYONE = Peers("any", every4=True, every6=True)


class Directory:
    """The NICs of an intent by category, by space and by address. NICs are numbers: the index in `ports`."""

    def __init__(self, intent: Intent) -> None:
        self.file = intent.file
        self.ports: Sequence[Port] = intent.ports
        self._intent = intent
        self._numbers = {port.name: number for number, port in enumerate(intent.ports)}
        self._selected: dict[str, frozenset[int]] = {}
        self._peers: dict[tuple[str, str, str, str], Peers] = {}
        self._seen: dict[tuple[str, int], tuple[IPv4Address, ...]] = {}
        self._texts: dict[int, str] = {}
        self._services: dict[int, tuple[Range, ...]] = {}
        self._known: dict[str, Mapping[IPv4Address | IPv6Address, frozenset[int]]] = {}

    # --- spaces ----------------------------------------------------------------------------------------

    @cached_property
    def space_of(self) -> Mapping[str, str]:
        """The space of each subnet."""
        flat = {name: subnet for name, subnet in self.file.subnets.items() if subnet.type != "overlay"}
        crowded = _overlapping(flat)
        return {
            name: f"vpc {subnet.vpc}"
            if subnet.type == "overlay"
            else f"{VLAN} {name}"
            if name in crowded
            else VLAN
            for name, subnet in self.file.subnets.items()
        }

    @cached_property
    def spaces(self) -> Mapping[str, frozenset[int]]:
        """The NICs of each space that has any, sorted by name."""
        found: dict[str, set[int]] = {}
        for number in range(len(self.ports)):
            found.setdefault(self.space(number), set()).add(number)
        return {name: frozenset(found[name]) for name in sorted(found)}

    def space(self, nic: int) -> str:
        """The space of a NIC."""
        return self.space_of[self.ports[nic].subnet]

    # --- categories ------------------------------------------------------------------------------------

    @cached_property
    def categories(self) -> Sequence[Mapping[str, str]]:
        """The categories of each NIC: its VM's, and its own, which win."""
        vms = self.file.vms
        return [
            {**vms[port.vm].categories, **vms[port.vm].nics[port.index].categories} for port in self.ports
        ]

    @cached_property
    def _chooser(self) -> Chooser:
        return Chooser(self.categories)

    @cached_property
    def _everybody(self) -> frozenset[int]:
        return frozenset(range(len(self.ports)))

    def select(self, selector: Mapping[str, Any]) -> frozenset[int]:
        """The NICs that a selector of categories selects (netctl.model.policy.selects, for all at once)."""
        text = self.text(selector)
        if text not in self._selected:
            self._selected[text] = self._chooser.select(selector)
        return self._selected[text]

    def text(self, selector: Mapping[str, Any]) -> str:
        """A selector of the intent in words (`selector_text`)."""
        if not selector:
            return ""
        if id(selector) not in self._texts:  # they live as long as the intent
            self._texts[id(selector)] = selector_text(selector)
        return self._texts[id(selector)]

    def services(self, names: list[str]) -> tuple[Range, ...]:
        """What a list of services of the intent stands for; empty for every packet."""
        if not names:
            return ()
        if id(names) not in self._services:
            self._services[id(names)] = ranges(names, self.file.service_groups)
        return self._services[id(names)]

    def within(self, scope: Scope, nics: frozenset[int]) -> frozenset[int]:
        """Those of the NICs that are in a policy's scope."""
        if scope == "all":
            return nics
        return frozenset(nic for nic in nics if in_scope(scope, self.space(nic)))

    # --- addresses -------------------------------------------------------------------------------------

    def seen(self, nic: int, space: str) -> tuple[IPv4Address, ...]:
        """The addresses under which a NIC is known in a space; none where it cannot be known."""
        key = (space, nic)
        if key not in self._seen:
            self._seen[key] = tuple(self._addresses(nic, space))
        return self._seen[key]

    def at(self, space: str, address: IPv4Address | IPv6Address) -> frozenset[int]:
        """The NICs that an address in a space stands for."""
        if space not in self._known:
            found: dict[IPv4Address | IPv6Address, set[int]] = {}
            for nic in range(len(self.ports)):
                for one in self.seen(nic, space):
                    found.setdefault(one, set()).add(nic)
            self._known[space] = {one: frozenset(nics) for one, nics in found.items()}
        return self._known[space].get(address, frozenset())

    def _addresses(self, nic: int, space: str) -> Iterable[IPv4Address]:
        port = self.ports[nic]
        if self.space(nic) == space:
            return [*([port.ip] if port.ip else []), *self._floating.get(port.name, ())]
        if space in self._closed:
            return []
        inner = self._networks_in(space)
        return [
            address for address in self._outside(port) if not any(address in network for network in inner)
        ]

    @cached_property
    def _closed(self) -> frozenset[str]:
        """The VPCs without a way out."""
        open_ = {way.vpc for way in self._intent.gateways}
        return frozenset(f"vpc {vpc}" for vpc in self.file.vpcs if vpc not in open_)

    def _outside(self, port: Port) -> list[IPv4Address]:
        """The addresses of a NIC outside of its own space."""
        vpc = self.file.subnets[port.subnet].vpc
        found = list(self._floating.get(port.name, ()))
        if port.ip and (vpc is None or any(port.ip in network for network in self._bare(vpc))):
            found.append(port.ip)
        return found

    @cached_property
    def _floating(self) -> Mapping[str, list[IPv4Address]]:
        """Floating IPs by NIC."""
        found: dict[str, list[IPv4Address]] = {}
        for vpc in self.file.vpcs.values():
            for address, target in sorted(vpc.floating_ips.items()):
                found.setdefault(self._intent.port(target).name, []).append(address)
        return found

    def _bare(self, vpc: str) -> list[IPv4Network]:
        """The networks of a VPC that leave it without NAT."""
        if all(way.snat_ip is not None for way in self._intent.gateways if way.vpc == vpc):
            return []
        routable = self.file.vpcs[vpc].routable
        return list(routable) if routable else self._cidrs(f"vpc {vpc}")

    def _cidrs(self, space: str) -> list[IPv4Network]:
        """The networks of a space that VMs are in."""
        return [
            subnet.cidr
            for name, subnet in self.file.subnets.items()
            if subnet.cidr is not None and self.space_of[name] == space and subnet.type != "external"
        ]

    def _networks_in(self, space: str) -> list[IPv4Network]:
        if space not in self._inner:
            self._inner[space] = self._cidrs(space)
        return self._inner[space]

    @cached_property
    def _inner(self) -> dict[str, list[IPv4Network]]:
        return {}

    def networks(self, peer: str, space: str) -> list[IPv4Network | IPv6Network]:
        """What an address group, a subnet, a VPC, a network or an address is in a space, other than `any`."""
        if peer in self.file.address_groups:
            return list(self.file.address_groups[peer])
        if peer in self.file.subnets:
            return self._of_subnets([peer], space)
        if peer in self.file.vpcs:
            own = [name for name, subnet in self.file.subnets.items() if subnet.vpc == peer]
            found = self._of_subnets(own, space)
            if space != f"vpc {peer}":
                ways = [way for way in self._intent.gateways if way.vpc == peer]
                found += [IPv4Network(way.snat_ip) for way in ways if way.snat_ip is not None]
            return found
        return [ip_network(peer)]

    def _of_subnets(self, names: Iterable[str], space: str) -> list[IPv4Network | IPv6Network]:
        found: list[IPv4Network | IPv6Network] = []
        for name in names:
            subnet = self.file.subnets[name]
            if self.space_of[name] == space or subnet.vpc is None:
                found += _whole(subnet)
                continue
            bare = self._bare(subnet.vpc)
            cidr = subnet.cidr
            found += [network for network in bare if cidr is not None and network.subnet_of(cidr)]
            found += [cidr for network in bare if cidr is not None and cidr.subnet_of(network)]
            for number in self._by_subnet.get(name, ()):
                addresses = self._floating.get(self.ports[number].name, ())
                found += [IPv4Network(address) for address in addresses]
        return found

    @cached_property
    def _by_subnet(self) -> Mapping[str, list[int]]:
        found: dict[str, list[int]] = {}
        for number, port in enumerate(self.ports):
            found.setdefault(port.subnet, []).append(number)
        return found

    def selected(self, peer: Peer, scope: Scope) -> frozenset[int]:
        """The NICs that a rule names as peers, in its policy's scope: by categories or by addresses."""
        if isinstance(peer, dict):
            return self.within(scope, self.select(peer))
        if peer == "any":
            return self.within(scope, self._everybody)
        found = set()
        for nic in self.within(scope, self._everybody):
            networks = self.networks(peer, self.space(nic))
            own = {*self.seen(nic, self.space(nic)), *self._outside(self.ports[nic])}
            if any(address in network for address in own for network in networks):
                found.add(nic)
        return frozenset(found)

    def of_nics(self, key: str, nics: Iterable[int], space: str) -> Peers:
        """NICs as the peers of a rule."""
        addresses = sorted({address for nic in nics for address in self.seen(nic, space)})
        return Peers(key, tuple(map(str, addresses)))

    def _peer_text(self, peer: Peer) -> str:
        return self.text(peer) if isinstance(peer, dict) else peer

    def peers(self, peer: Peer, policy: Policy, space: str) -> Peers:
        """The peers that a rule of a policy names, without those that the policy itself secures.

        Between VMs of the secured group only `intra_group` decides.
        """
        who, scope = self._peer_text(peer), scope_text(policy.scope)
        but = self.text(policy.secured or {})
        key = (who, scope, space, but)
        if key not in self._peers:
            self._peers[key] = self._find_peers(peer, policy, space)
        return self._peers[key]

    def _find_peers(self, peer: Peer, policy: Policy, space: str) -> Peers:
        secured = self.within(policy.scope, self.select(policy.secured)) if policy.secured else frozenset()
        who = self._peer_text(peer)
        key = who if policy.scope == "all" else f"{who} in {scope_text(policy.scope)}"
        if policy.secured and secured:
            key += f" but {self.text(policy.secured)}"
        taken = sorted({int(address) for nic in secured for address in self.seen(nic, space)})
        if isinstance(peer, dict):
            left = {int(one) for nic in self.selected(peer, policy.scope) for one in self.seen(nic, space)}
            return Peers(key, tuple(str(IPv4Address(one)) for one in sorted(left.difference(taken))))
        if peer == "any":
            if not taken:
                return EVERYONE
            return Peers(key, _prefixes(_without([EVERYTHING], taken)), every6=True)
        networks = self.networks(peer, space)
        spans = [_span(network) for network in networks if isinstance(network, IPv4Network)]
        ipv6 = {str(network) for network in networks if isinstance(network, IPv6Network)}
        return Peers(key, _prefixes(_without(spans, taken)), tuple(sorted(ipv6)))


def in_scope(scope: Scope, space: str) -> bool:
    """Whether a policy of that scope is looked at in a space."""
    kind, _, name = space.partition(" ")
    if isinstance(scope, list):
        return kind == "vpc" and name in scope
    return scope == "all" or kind == VLAN


def scope_text(scope: Scope) -> str:
    """A scope in words."""
    return f"vpcs {' '.join(sorted(set(scope)))}" if isinstance(scope, list) else scope


def _overlapping(subnets: Mapping[str, Subnet]) -> set[str]:
    """The subnets whose network overlaps another's."""
    named = sorted((_span(subnet.cidr), name) for name, subnet in subnets.items() if subnet.cidr is not None)
    found: set[str] = set()
    widest: tuple[Span, str] | None = None
    for span, name in named:
        if widest is not None and span[0] <= widest[0][1]:
            found |= {name, widest[1]}
        if widest is None or span[1] > widest[0][1]:
            widest = (span, name)
    return found


def _whole(subnet: Subnet) -> list[IPv4Network | IPv6Network]:
    return [network for network in (subnet.cidr, subnet.cidr6) if network is not None]


def _span(network: IPv4Network) -> Span:
    return int(network.network_address), int(network.broadcast_address)


def _without(spans: Iterable[Span], taken: Sequence[int]) -> list[Span]:
    """The spans, joined where they touch, without single addresses (in order)."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    left: list[Span] = []
    at = 0
    for first, last in found:
        while at < len(taken) and taken[at] < first:
            at += 1
        while at < len(taken) and taken[at] <= last:
            if taken[at] > first:
                left.append((first, taken[at] - 1))
            first = taken[at] + 1
            at += 1
        if first <= last:
            left.append((first, last))
    return left


def _prefixes(spans: Iterable[Span]) -> tuple[str, ...]:
    """The fewest networks that make up the spans, in order."""
    found = []
    for first, last in spans:
        while first <= last:
            size = min(first & -first if first else 1 << 32, 1 << ((last - first + 1).bit_length() - 1))
            length = 33 - size.bit_length()
            address = str(IPv4Address(first))
            found.append(address if length == 32 else f"{address}/{length}")
            first += size
    return tuple(found)
