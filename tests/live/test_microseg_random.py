"""Security policies: packets do what the policies say, on every kind of network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from netctl.compile.policies_peers import Directory
from netctl.compile.policies_verdict import Packet, verdict
from netctl.intent import loads
from netctl.model import Intent
from netctl.model.intent import Port
from tests.live.conftest import Lab, netctl, private_lab
from tests.property.policy_sets import ADDRESS_GROUPS, SERVICE_GROUPS, categories, policy_sets

CASES = int(os.environ.get("NETCTL_POLICY_SETS", "20"))
"""How many random sets of policies are tried on packets."""

SUBNETS: dict[str, Any] = {
    "lan": {"type": "vlan", "vlan": 10, "cidr": "10.10.0.0/24", "cidr6": "2001:db8:10::/64"},
    "old": {"type": "vlan-basic", "vlan": 20, "cidr": "10.20.0.0/24", "cidr6": "2001:db8:20::/64"},
    "red": {"type": "overlay", "vpc": "v1", "cidr": "192.168.1.0/24", "cidr6": "2001:db8:1::/64"},
    "six": {"type": "overlay", "vpc": "v1", "cidr6": "2001:db8:2::/64"},
    "green": {"type": "overlay", "vpc": "v1", "cidr": "192.168.2.0/24"},
    "blue": {"type": "overlay", "vpc": "v2", "cidr": "192.168.1.0/24"},
}
VMS = {"lan": 4, "old": 4, "red": 3, "green": 2, "six": 2, "blue": 2}
PEERS = ("any", "some", "lan", "old", "red", "v1", "10.0.0.0/8", "192.168.1.0/24", "10.10.0.3")
PEERS += ("2001:db8:10::/64", "six", "fe80::/10")
PACKETS: tuple[tuple[str, int | None], ...] = (
    ("tcp", 8080),
    ("tcp", 443),
    ("udp", 53),
    ("udp", 5001),
    ("icmp", None),
)
ECHO_REQUEST = {4: 8, 6: 128}

Address = IPv4Address | IPv6Address

ARP = "known"
"""Checks with this in their name come first: switches that know the receiver flood nothing."""

WORDS = {"allow": "delivered", "drop": "dropped", "reject": "rejected"}


def vms() -> dict[str, Any]:
    """VMs on every subnet, each on the other host than the one before."""
    found = {}
    for subnet, count in VMS.items():
        for number in range(count):
            found[f"{subnet}{number}"] = {"host": f"hv{number % 2 + 1}", "nics": [{"subnet": subnet}]}
    return found


def lab_file(policies: dict[str, Any], of_vms: dict[str, dict[str, str]]) -> dict[str, Any]:
    return {
        "hosts": {"hv1": {}, "hv2": {}},
        "vpcs": {"v1": {}, "v2": {}},
        "subnets": SUBNETS,
        "vms": {name: {**vm, "categories": of_vms.get(name, {})} for name, vm in vms().items()},
        "address_groups": ADDRESS_GROUPS,
        "service_groups": SERVICE_GROUPS,
        "policies": policies,
    }


def checks(intent: Intent) -> Iterator[dict[str, Any]]:
    """What must become of every packet between any two NICs that can reach each other, by the oracle."""
    there = Directory(intent)
    subnets = intent.file.subnets
    for sender in intent.ports:
        for receiver in intent.ports:
            together = sender.subnet == receiver.subnet or (
                subnets[sender.subnet].vpc is not None
                and subnets[sender.subnet].vpc == subnets[receiver.subnet].vpc
            )
            if sender is receiver or not together:
                continue
            ends = {"from": sender.name, "to": receiver.name}
            if sender.subnet == receiver.subnet == "old":
                yield {"name": f"{ARP} {sender.name} {receiver.name}", "protocol": "arp", **ends}
            both = [(one, other) for one in sender.addresses for other in receiver.addresses]
            for source, target in both:
                if source.version == target.version:
                    yield from by_the_oracle(intent, there, sender, receiver, source, target)


def by_the_oracle(
    intent: Intent, there: Directory, sender: Port, receiver: Port, source: Address, target: Address
) -> Iterator[dict[str, Any]]:
    """A check for each kind of packet from one address to another."""
    for word, port in PACKETS:
        protocol = "icmp6" if word == "icmp" and source.version == 6 else word
        number = ECHO_REQUEST[source.version] if port is None else port
        packet = Packet(sender.name, receiver.name, source, target, protocol, number)
        decided = verdict(intent, packet, there)
        check = {
            "name": f"{sender.name} {receiver.name} {protocol} {port} IPv{source.version} {decided.path}",
            "from": sender.name,
            "to": str(target),
            "protocol": protocol,
            "expect": WORDS[decided.outcome],
        }
        yield check if port is None else {**check, "port": port}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with private_lab("g", tmp_path_factory.mktemp("microseg")) as made:
        made.up(lab_file({}, {}))
        yield made


@pytest.mark.slow
@pytest.mark.timeout(7200)
@settings(
    max_examples=CASES,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
@given(
    policies=policy_sets(PEERS, ("v1", "v2")),
    of_vms=st.fixed_dictionaries({name: categories() for name in vms()}),
)
def test_packets_do_what_random_policies_say(
    running: Lab, policies: dict[str, Any], of_vms: dict[str, dict[str, str]]
) -> None:
    data = lab_file(policies, of_vms)
    intent = loads(yaml.safe_dump({"name": running.name, **data}), "lab.yaml")
    running.apply({**data, "checks": list(checks(intent))})
    netctl("test", running.file, "--select", ARP)
    report = netctl("test", running.file, "--json", code=None).json()
    wrong = [
        (check["name"], check["expected"], check["seen"])
        for check in report["checks"]
        if check["verdict"] != "passed"
    ]
    assert not wrong, yaml.safe_dump({"policies": policies, "categories": of_vms, "wrong": wrong})
    assert len(report["checks"]) > 100
