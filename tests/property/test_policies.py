"""The ordered list of rules means what the policies mean, packet by packet, at every NIC."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from netctl.cli.hits import Entry
from netctl.cli.suggestion import suggestion, whole
from netctl.compile.policies_peers import Directory
from netctl.compile.policies_rules import Direction, Rule, ordered_rules
from netctl.compile.policies_spans import prefixes, without
from netctl.compile.policies_verdict import Packet, verdict
from netctl.intent import loads
from netctl.model import Intent
from tests.property.policy_sets import ADDRESS_GROUPS, SERVICE_GROUPS, categories, policy_sets

EXAMPLES = max(1, int(os.environ.get("NETCTL_EXAMPLES", "600")) // 4)
examples = settings(
    max_examples=EXAMPLES, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate)
)

SUBNETS: dict[str, Any] = {
    "lan": {"type": "vlan", "vlan": 10, "cidr": "10.10.0.0/24", "cidr6": "2001:db8:10::/64"},
    "old": {"type": "vlan-basic", "vlan": 20, "cidr": "10.20.0.0/24"},
    "twin1": {"type": "vlan", "vlan": 31, "cidr": "10.30.0.0/24"},
    "twin2": {"type": "vlan", "vlan": 32, "cidr": "10.30.0.0/25"},
    "raw": {"type": "vlan", "vlan": 40},
    "out": {"type": "external", "vlan": 50, "cidr": "203.0.113.0/24"},
    "red": {"type": "overlay", "vpc": "v1", "cidr": "192.168.1.0/24", "cidr6": "2001:db8:1::/64"},
    "red2": {"type": "overlay", "vpc": "v1", "cidr": "10.10.0.0/24"},
    "blue": {"type": "overlay", "vpc": "v2", "cidr": "192.168.1.0/24"},
    "bare": {"type": "overlay", "vpc": "v3", "cidr": "192.168.7.0/24"},
}
VPCS: dict[str, Any] = {
    "v1": {"external": [{"subnet": "out"}], "floating_ips": {"203.0.113.60": "vm6", "203.0.113.61": "vm7"}},
    "v2": {"external": [{"subnet": "out"}]},
    "v3": {"external": [{"subnet": "out", "nat": False}], "routable": ["192.168.7.0/28"]},
}
PEERS = (
    "any",
    "2001:db8:10::/64",
    "some",
    "far",
    "lan",
    "red",
    "bare",
    "v1",
    "v3",
    "10.0.0.0/8",
    "192.168.1.0/24",
    "10.10.0.3",
)
PLACES = ["lan", "lan", "old", "twin1", "twin2", "raw", "red", "red2", "blue", "blue", "bare", "bare", "lan"]

PACKETS = (
    ("icmp6", 128),
    ("tcp", 8080),
    ("tcp", 8081),
    ("tcp", 443),
    ("udp", 53),
    ("udp", 5001),
    ("icmp", 8),
    ("icmp", 13),
)


@st.composite
def files(draw: st.DrawFn) -> str:
    vms = {}
    for number, subnet in enumerate(PLACES):
        nics: list[dict[str, Any]] = [{"subnet": subnet}]
        if number % 5 == 3:
            nics.append({"subnet": "lan", "categories": draw(categories())})
        vms[f"vm{number}"] = {"host": "hv1", "nics": nics, "categories": draw(categories())}
    data = {
        "name": "lab",
        "hosts": {"hv1": {}},
        "subnets": SUBNETS,
        "vpcs": VPCS,
        "vms": vms,
        "address_groups": ADDRESS_GROUPS,
        "service_groups": SERVICE_GROUPS,
        "policies": draw(policy_sets(PEERS, tuple(VPCS))),
    }
    return yaml.safe_dump(data)


def fits(rule: Rule, nic: int, address: IPv4Address | IPv6Address, protocol: str, number: int) -> bool:
    if nic not in rule.group.nics:
        return False
    every, networks = (
        (rule.peers.every4, rule.peers.ipv4) if address.version == 4 else (rule.peers.every6, rule.peers.ipv6)
    )
    known = every or any(address in ip_network(one) for one in networks)
    return known and (not rule.services or any(service.covers(protocol, number) for service in rule.services))


def by_the_list(
    rules: tuple[Rule, ...],
    nic: int,
    address: IPv4Address | IPv6Address,
    direction: Direction,
    protocol: str,
    number: int,
) -> tuple[str, bool]:
    """What the list says, and whether a monitored rule would have said no."""
    told = False
    for stage in (0, 1):
        for rule in rules:
            fit = rule.stage == stage and rule.direction == direction
            if fit and fits(rule, nic, address, protocol, number):
                if rule.monitored:
                    told |= rule.outcome != "allow"
                    break
                return rule.outcome, told
    return "allow", told


@examples
@given(files())
def test_the_list_says_what_the_policies_say(file: str) -> None:
    intent = loads(file, "lab.yaml", supported_only=False)
    there = Directory(intent)
    lists = ordered_rules(intent, there)
    strangers = (IPv4Address("198.51.100.7"), IPv6Address("2001:db8:99::1"), IPv6Address("2001:db8:10::99"))
    for nic, port in enumerate(intent.ports):
        space = there.space(nic)
        addresses = {one for other in range(len(intent.ports)) for one in there.seen(other, space)}
        for address in {*addresses, *strangers}:
            for protocol, number in PACKETS:
                if (protocol == "icmp6") > (address.version == 6) or (protocol == "icmp") > (
                    address.version == 4
                ):
                    continue
                for direction in ("outbound", "inbound"):
                    ends = (port.name, None) if direction == "outbound" else (None, port.name)
                    decided = verdict(intent, Packet(*ends, address, address, protocol, number), there)
                    listed = by_the_list(lists.get(space, ()), nic, address, direction, protocol, number)
                    assert listed == (decided.outcome, bool(decided.watched)), (
                        f"{port.name} {direction} {address} {protocol}/{number}: {decided}"
                    )


@settings(examples, max_examples=max(1, EXAMPLES // 3))
@given(files())
def test_what_is_suggested_allows_what_was_seen(file: str) -> None:
    """Of each policy, as if it were the only one, first monitored, then enforced with the suggestion."""
    data = yaml.safe_load(file)
    for name, policy in data["policies"].items():
        if policy["type"] == "isolation":
            continue
        alone = {**data, "policies": {name: {**policy, "mode": "monitor"}}}
        intent = loads(yaml.safe_dump(alone), "lab.yaml", supported_only=False)
        there = Directory(intent)
        seen = [
            (packet, hit)
            for packet in packets_at_one_end(intent, there)
            if verdict(intent, packet, there).watched
            for hit in [as_hit(there, packet)]
        ]
        definition = intent.file.policies[name]
        added = suggestion(intent, definition, [hit for _, hit in seen])
        enforced = {**alone["policies"][name], **whole(definition, added), "mode": "enforce"}
        changed = loads(
            yaml.safe_dump({**data, "policies": {name: enforced}}), "lab.yaml", supported_only=False
        )
        after = Directory(changed)
        for packet, hit in seen:
            assert verdict(changed, packet, after).outcome == "allow", f"{hit}: {enforced}"


def packets_at_one_end(intent: Intent, there: Directory) -> Iterator[Packet]:
    """Packets of and to every NIC, with nothing known of the other end but its address."""
    somebody = IPv4Address("198.51.100.7")
    for nic, port in enumerate(intent.ports):
        space = there.space(nic)
        addresses = {one for other in range(len(intent.ports)) for one in there.seen(other, space)}
        for address in sorted({*addresses, somebody}, key=str):
            echo = ("icmp", 8) if address.version == 4 else ("icmp6", 128)
            for protocol, number in (("tcp", 8081), echo, ("gre", None)):
                yield Packet(port.name, None, address, address, protocol, number)
                yield Packet(None, port.name, address, address, protocol, number)


def as_hit(there: Directory, packet: Packet) -> Entry:
    """How such a packet is logged."""
    own = packet.sender or packet.receiver
    space = there.space(next(number for number, port in enumerate(there.ports) if port.name == own))
    peers = there.at(space, packet.source)
    peer = there.ports[min(peers)].name if peers else ""
    return Entry(
        time=0.0,
        host="hv1",
        policy="",
        rule="",
        line=None,
        outcome="would be dropped",
        direction="outbound" if packet.sender else "inbound",
        source=packet.sender or peer,
        target=packet.receiver or peer,
        addresses=(str(packet.source), str(packet.target)),
        protocol=packet.protocol,
        source_port=None,
        number=packet.number,
    )


@examples
@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)).map(lambda pair: (min(pair), max(pair)))),
    st.sets(st.integers(0, 300)),
)
def test_networks_without_addresses(spans: list[tuple[int, int]], taken: set[int]) -> None:
    left = prefixes(without(spans, sorted(taken)))
    found = [int(address) for network in left for address in ip_network(network)]
    wanted = {number for first, last in spans for number in range(first, last + 1)} - taken
    assert sorted(found) == sorted(wanted)


def test_everything_without_one_ipv6_address() -> None:
    networks = prefixes(without([(0, 2**128 - 1)], [int(IPv6Address("2001:db8::1"))]), 6)
    assert len(networks) == 128
    assert sum(ip_network(one).num_addresses for one in networks) == 2**128 - 1


def test_everything_without_one_address() -> None:
    networks = prefixes(without([(0, 2**32 - 1)], [int(IPv4Address("10.10.0.11"))]))
    assert len(networks) == 32
    assert sum(ip_network(one).num_addresses for one in networks) == 2**32 - 1
    assert prefixes([(0, 2**32 - 1)]) == ("0.0.0.0/0",)
