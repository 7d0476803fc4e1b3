"""BGP: who speaks, what is announced, and the commands that lead bgpd from one state to another."""

from __future__ import annotations

from ipaddress import IPv4Network
from itertools import permutations

import pytest

from dataplane.bgp import configuration, difference
from dataplane.bgp_feed import SPEAKERS_AS, Wanted, commands
from dataplane.inventory import inventory
from netctl.intent import loads
from netctl.model.bgp import GATEWAYS_AS, announced, learned, routers, speakers

LAB = """
name: lab
hosts: {hv1: {}, hv2: {}, hv3: {}}
subnets:
  out: {type: external, vlan: 30, cidr: 203.0.113.0/24, gateway: 203.0.113.1,
        pool: [203.0.113.50-203.0.113.59]}
  lan: {type: external, vlan: 31, cidr: 172.20.0.0/24, gateway: 172.20.0.1}
  web: {type: overlay, vpc: red, cidr: 192.168.1.0/24}
  db: {type: overlay, vpc: blue, cidr: 192.168.2.0/24}
vpcs:
  red:
    type: transit
    external: [{subnet: out, gateway_hosts: [hv1, hv2]}, {subnet: lan, nat: false, gateway_hosts: [hv3]}]
    floating_ips: {203.0.113.60: web1}
  blue: {attach: [red]}
vms: {web1: {host: hv1, nics: [{subnet: web}]}}
"""
ISP = "  isp: {kind: router, switch: tor1, vlan: 30, ip: 203.0.113.1/24}\n"
CORE = "  core: {kind: router, switch: tor1, vlan: 31, ip: 172.20.0.1/24}\n"


def test_nobody_speaks_without_a_router() -> None:
    plain = loads(LAB)
    with_routers = loads(f"{LAB}physical:\n{ISP}{CORE}")
    assert speakers(plain) == []
    assert plain.gateways == with_routers.gateways, "a router moves nobody's address"


def test_each_gateway_host_has_a_speaker_with_an_address_of_its_own() -> None:
    found = speakers(loads(f"{LAB}physical:\n{ISP}{CORE}"))
    assert [(one.host, one.way.subnet, str(one.address.ip)) for one in found] == [
        ("hv3", "lan", "172.20.0.3"),
        ("hv1", "out", "203.0.113.51"),
        ("hv2", "out", "203.0.113.52"),
    ]
    assert len({one.name for one in found} | {one.mac for one in found}) == 6


def test_speakers_stay_what_they_are() -> None:
    one = loads(f"{LAB}physical:\n{ISP}")
    more = loads(f"{LAB}physical:\n{ISP}{CORE}", assignments=one.assignments)
    assert [speaker for speaker in speakers(more) if speaker.way.subnet == "out"] == speakers(one)


def test_what_is_announced_and_learned() -> None:
    intent = loads(f"{LAB}physical:\n{ISP}{CORE}")
    lan, out = intent.gateways
    assert [str(one.prefix) for one in announced(intent, out)] == ["203.0.113.60/32"]
    # Without externally routable prefixes all subnets are, those of an attached VPC too.
    assert [str(one.prefix) for one in announced(intent, lan)] == ["192.168.1.0/24", "192.168.2.0/24"]
    [core] = routers(intent, lan)
    assert learned(intent, core) == {
        IPv4Network("192.168.1.0/24"): lan.router_ip,
        IPv4Network("192.168.2.0/24"): lan.router_ip,
    }


def test_a_router_that_is_not_on_the_external_subnet_learns_nothing() -> None:
    intent = loads(f"{LAB}physical:\n  r: {{kind: router, switch: tor1, vlan: 40, ip: 203.0.113.1/24}}\n")
    assert speakers(intent) == [] and learned(intent, intent.machines["r"]) == {}
    assert "it learns nothing" in intent.warnings[-1].message


def test_configurations_name_who_they_are_and_what_they_announce() -> None:
    nodes = inventory(loads(f"{LAB}physical:\n{ISP}")).nodes
    texts = [configuration(node, node.bgp) for node in nodes.values() if node.bgp]
    assert len(texts) == len(set(texts)) == 3
    assert sum("bgp listen range 203.0.113.0/24" in text for text in texts) == 1
    assert sum(text.startswith("! red/out hv") for text in texts) == 2


STATES = (
    Wanted(),
    Wanted("10.0.0.1", frozenset({"10.0.0.9"}), frozenset({"1.0.0.0/8", "2.0.0.0/8"})),
    Wanted("10.0.0.2", frozenset({"10.0.0.8", "10.0.0.9"}), frozenset({"2.0.0.0/8"})),
    Wanted("10.0.0.2", frozenset({"10.0.0.8"})),
)


@pytest.mark.parametrize(("told", "wanted"), list(permutations(STATES, 2)))
def test_commands_lead_from_any_state_to_any_other(told: Wanted, wanted: Wanted) -> None:
    peers, prefixes, hop = set(told.peers), set(told.prefixes), told.hop
    for block in commands(told, wanted):
        assert block[0] in (f"router bgp {SPEAKERS_AS}", "route-map announce permit 10")
        for line in block[1:]:
            words = line.split()
            if words[:3] == ["set", "ip", "next-hop"]:
                hop = words[3]
            elif words[0] == "neighbor" and words[2] == "peer-group":
                peers.add(words[1])
            elif words[:2] == ["no", "neighbor"]:
                peers.remove(words[2])
            elif words[0] == "network":
                prefixes.add(words[1])
            elif words[:2] == ["no", "network"]:
                prefixes.remove(words[2])
    assert (peers, prefixes) == (wanted.peers, wanted.prefixes)
    assert hop == (wanted.hop or told.hop)
    assert commands(wanted, wanted) == []


def test_both_sides_know_the_same_autonomous_system() -> None:
    assert SPEAKERS_AS == GATEWAYS_AS


def test_differences_in_words() -> None:
    intent = loads(f"{LAB}physical:\n{ISP}")
    wanted = learned(intent, intent.machines["isp"])
    assert difference("isp", wanted, wanted) == []
    assert difference("isp", wanted, {}) == ["isp has not learned 203.0.113.60/32 via 203.0.113.50 by BGP"]
    assert difference("isp", {}, wanted) == ["isp still knows 203.0.113.60/32 by BGP"]
