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

from netctl.compile.policies_spans import BITS, Span, prefixes, span, without
from netctl.model.intent import Intent, Port
from netctl.model.ipv6 import LINK_LOCAL, autoconfigured
from netctl.model.policy import Chooser, Peer, Policy, Scope, selector_text
from netctl.model.service import Range, ranges
from netctl.model.subnet import Subnet

VLAN = "vlan"
"""The space of all VLANs."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


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
        self._seen: dict[tuple[str, int], tuple[Address, ...]] = {}
        self._texts: dict[int, str] = {}
        self._services: dict[int, tuple[Range, ...]] = {}
        self._known: dict[str, Mapping[Address, frozenset[int]]] = {}

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

    def seen(self, nic: int, space: str) -> tuple[Address, ...]:
        """The addresses under which a NIC is known in a space; none where it cannot be known."""
        key = (space, nic)
        if key not in self._seen:
            self._seen[key] = tuple(self._addresses(nic, space))
        return self._seen[key]

    def at(self, space: str, address: Address) -> frozenset[int]:
        """The NICs that an address in a space stands for."""
        if space not in self._known:
            found: dict[Address, set[int]] = {}
            for nic in range(len(self.ports)):
                for one in self.seen(nic, space):
                    found.setdefault(one, set()).add(nic)
            self._known[space] = {one: frozenset(nics) for one, nics in found.items()}
        return self._known[space].get(address, frozenset())

    def _addresses(self, nic: int, space: str) -> Iterable[Address]:
        port = self.ports[nic]
        if self.space(nic) == space:
            # Whoever has an IPv6 address has one more, which needs no router.
            own = (port.ip, port.ip6, port.ip6 and autoconfigured(LINK_LOCAL, port.mac))
            return [*(address for address in own if address), *self._floating.get(port.name, ())]
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

    def _outside(self, port: Port) -> list[Address]:
        """The addresses of a NIC outside of its own space. IPv6 is never translated."""
        vpc = self.file.subnets[port.subnet].vpc
        found: list[Address] = list(self._floating.get(port.name, ()))
        if port.ip and (vpc is None or any(port.ip in network for network in self._bare(vpc))):
            found.append(port.ip)
        if port.ip6 and (vpc is None or f"vpc {vpc}" not in self._closed):
            found.append(port.ip6)
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

    def _networks_in(self, space: str) -> list[Network]:
        """The networks of a space that VMs are in, of both versions of IP."""
        if space not in self._inner:
            ipv6 = [
                subnet.cidr6
                for name, subnet in self.file.subnets.items()
                if subnet.cidr6 is not None and self.space_of[name] == space and subnet.type != "external"
            ]
            self._inner[space] = [*self._cidrs(space), *ipv6]
        return self._inner[space]

    @cached_property
    def _inner(self) -> dict[str, list[Network]]:
        return {}

    def networks(self, peer: str, space: str) -> list[Network]:
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

    def _of_subnets(self, names: Iterable[str], space: str) -> list[Network]:
        found: list[Network] = []
        for name in names:
            subnet = self.file.subnets[name]
            if self.space_of[name] == space or subnet.vpc is None:
                found += _whole(subnet)
                continue
            bare = self._bare(subnet.vpc)
            cidr = subnet.cidr
            if subnet.cidr6 is not None and f"vpc {subnet.vpc}" not in self._closed:
                found.append(subnet.cidr6)
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
        numbers = self._numbers_of(nics, space)
        return Peers(key, _single(numbers[4], 4), _single(numbers[6], 6))

    def _numbers_of(self, nics: Iterable[int], space: str) -> dict[int, set[int]]:
        """The addresses of NICs in a space, by the version of IP."""
        found: dict[int, set[int]] = {version: set() for version in BITS}
        for nic in nics:
            for address in self.seen(nic, space):
                found[address.version].add(int(address))
        return found

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
        taken = self._numbers_of(secured, space)
        if isinstance(peer, dict):
            found = self._numbers_of(self.selected(peer, policy.scope), space)
            return Peers(key, _single(found[4] - taken[4], 4), _single(found[6] - taken[6], 6))
        if peer == "any":
            if not any(taken.values()):
                return EVERYONE
            left = {
                version: prefixes(without([(0, 2**bits - 1)], sorted(taken[version])), version)
                for version, bits in BITS.items()
                if taken[version]
            }
            return Peers(key, left.get(4, ()), left.get(6, ()), every4=4 not in left, every6=6 not in left)
        spans: dict[int, list[Span]] = {version: [] for version in BITS}
        for network in self.networks(peer, space):
            spans[network.version].append(span(network))
        left = {
            version: prefixes(without(spans[version], sorted(taken[version])), version) for version in BITS
        }
        return Peers(key, left[4], left[6])


def _single(numbers: Iterable[int], version: int) -> tuple[str, ...]:
    """Single addresses, in order."""
    made = IPv4Address if version == 4 else IPv6Address
    return tuple(str(made(number)) for number in sorted(numbers))


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
    """The subnets of which a network overlaps another's."""
    found: set[str] = set()
    for version in BITS:
        named = sorted(
            (span(network), name)
            for name, subnet in subnets.items()
            for network in _whole(subnet)
            if network.version == version
        )
        widest: tuple[Span, str] | None = None
        for here, name in named:
            if widest is not None and here[0] <= widest[0][1]:
                found |= {name, widest[1]}
            if widest is None or here[1] > widest[0][1]:
                widest = (here, name)
    return found


def _whole(subnet: Subnet) -> list[Network]:
    return [network for network in (subnet.cidr, subnet.cidr6) if network is not None]
