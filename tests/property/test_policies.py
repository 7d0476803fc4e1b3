"""The ordered list of rules means what the policies mean, packet by packet, at every NIC."""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from netctl.compile.policies_peers import Directory
from netctl.compile.policies_rules import Direction, Rule, ordered_rules
from netctl.compile.policies_spans import prefixes, without
from netctl.compile.policies_verdict import Packet, verdict
from netctl.intent import loads
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
