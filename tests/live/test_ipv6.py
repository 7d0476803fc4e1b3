"""IPv6 on VLAN basic, VLAN and overlay subnets: addresses, packets of all sizes, what a guest may not say."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.conftest import NETCTL, Lab, Ping, netctl, private_lab
from tests.live.frames import Wires, marker, wires

pytestmark = pytest.mark.live

INTENT = """
hosts: {hv1: {}, hv2: {}, hv3: {}}
subnets:
  lan: {type: vlan, vlan: 10, cidr: 10.10.0.0/24, cidr6: "2001:db8:10::/64"}
  old: {type: vlan-basic, vlan: 20, cidr: 10.20.0.0/24, cidr6: "2001:db8:20::/64"}
  bare: {type: vlan-basic, vlan: 21, cidr6: "2001:db8:21::/64"}
  web: {type: overlay, vpc: red, cidr: 192.168.1.0/24, cidr6: "2001:db8:1::/64", domain: red.example}
  db: {type: overlay, vpc: red, cidr6: "2001:db8:2::/64", domain: red.example}
  small: {type: overlay, vpc: red, cidr6: "2001:db8:3::/64", mtu: 1280}
  blue: {type: overlay, vpc: blue, cidr6: "2001:db8:1::/64"}
vpcs:
  red:
    routing_policies:
      - {priority: 100, from: web, to: db, protocol: tcp, port: 25, action: deny}
  blue: {}
vms:
  lan1: {host: hv1, nics: [{subnet: lan}]}
  lan2: {host: hv2, nics: [{subnet: lan}]}
  lan3: {host: hv3, nics: [{subnet: lan}]}
  trunk: {host: hv1, nics: [{subnet: old, mode: trunk, trunked: [10, 21]}]}
  old1: {host: hv1, nics: [{subnet: old}]}
  old2: {host: hv2, nics: [{subnet: old}]}
  old3: {host: hv2, nics: [{subnet: old, port_security: false}]}
  bare1: {host: hv1, nics: [{subnet: bare}]}
  bare3: {host: hv3, nics: [{subnet: bare}]}
  web1: {host: hv1, nics: [{subnet: web}]}
  web2: {host: hv2, nics: [{subnet: web}]}
  db1: {host: hv1, nics: [{subnet: db}]}
  db2: {host: hv2, nics: [{subnet: db}]}
  db3: {host: hv3, nics: [{subnet: db}, {subnet: lan}]}
  small1: {host: hv1, nics: [{subnet: small}]}
  small2: {host: hv2, nics: [{subnet: small}]}
  blue1: {host: hv1, nics: [{subnet: blue, mac: "50:6b:8d:00:00:01"}]}
"""

GROUPS = {
    "lan": ["lan1/0", "lan2/0", "lan3/0", "db3/1"],
    "old": ["old1/0", "old2/0", "old3/0"],
    "bare": ["bare1/0", "bare3/0"],
    "red": ["web1/0", "web2/0", "db1/0", "db2/0", "db3/0"],
    "small": ["small1/0", "small2/0"],
}
LARGEST = {"icmp6": 1500 - 40 - 8, "udp": 1500 - 40 - 8}


@pytest.fixture(scope="module")
def intent() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(INTENT)
    return data


@pytest.fixture(scope="module")
def six(intent: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with private_lab("six-", tmp_path_factory.mktemp("six")) as lab:
        lab.up(intent)
        yield lab


@pytest.fixture(scope="module")
def nics(six: Lab) -> dict[str, dict[str, Any]]:
    """The NICs as status has them, when the lab is as INTENT says."""
    return status(six)


def status(lab: Lab) -> dict[str, dict[str, Any]]:
    report = netctl("status", lab.name, "--json").json()
    return {f"{nic['vm']}/{nic['nic']}": nic for nic in report["nics"]}


def own(lab: Lab, node: str, device: str = "eth0") -> list[dict[str, Any]]:
    """The addresses beyond its link that a guest's kernel says it has."""
    links = json.loads(lab.run(node, "ip", "-6", "-json", "address", "show", "scope", "global"))
    return [one for link in links if link.get("ifname") == device for one in link["addr_info"] if one]


def checks(lab: Lab, intent: dict[str, Any], wanted: list[dict[str, Any]]) -> None:
    netctl("test", lab.write({**intent, "checks": wanted}), "--lab", lab.name)


def probes(**more: Any) -> list[dict[str, Any]]:
    """A check for each ordered pair of NICs that reach each other, of different VMs."""
    return [
        {"from": one, "to": other, "expect": "delivered", **more}
        for group in GROUPS.values()
        for one, other in itertools.permutations(group, 2)
    ]


def test_guests_have_the_address_that_follows_from_their_mac(
    six: Lab, intent: dict[str, Any], nics: dict[str, dict[str, Any]]
) -> None:
    for name, nic in nics.items():
        subnet = intent["subnets"][nic["subnet"]]
        octets = bytearray(bytes.fromhex(nic["mac"].replace(":", "")))
        octets[0] ^= 2
        identifier = int.from_bytes(octets[:3] + b"\xff\xfe" + octets[3:])
        assert IPv6Address(nic["ip6"]) == IPv6Network(subnet["cidr6"])[identifier], name
        [address] = own(six, nic["vm"], f"eth{nic['nic']}")
        assert (address["local"], address["prefixlen"]) == (nic["ip6"], 64)
        assert "tentative" not in address and "dadfailed" not in address
        # Where OVN routes, the guest's kernel has made it of an advertisement, and has its way out of one.
        assert bool(address.get("dynamic")) == (subnet["type"] == "overlay"), name
    [way] = json.loads(six.run("db1", "ip", "-6", "-json", "route", "show", "default"))
    assert way["protocol"] == "ra" and IPv6Address(way["gateway"]).is_link_local


def test_every_pair_of_hosts(six: Lab, intent: dict[str, Any]) -> None:
    kinds: list[dict[str, Any]] = [
        {"protocol": "icmp6"},
        {"protocol": "icmp6", "size": 0},
        {"protocol": "tcp", "port": 80},
        {"protocol": "udp", "port": 53, "size": 1000},
    ]
    checks(six, intent, [probe for more in kinds for probe in probes(**more)])


def test_full_size_and_in_fragments(six: Lab, intent: dict[str, Any]) -> None:
    pairs = [("lan1", "lan2"), ("old1", "old2"), ("bare1", "bare3"), ("web1", "db2"), ("db1", "db3")]
    wanted = [
        {"from": one, "to": other, "protocol": protocol, "size": size, "expect": "delivered"}
        | ({"port": 53} if protocol == "udp" else {})
        for one, other in pairs
        for protocol, largest in LARGEST.items()
        for size in (largest - 1, largest, largest + 1, 5000)
    ]
    checks(six, intent, wanted)


def test_a_packet_too_big_is_told_and_the_sender_learns(six: Lab, intent: dict[str, Any]) -> None:
    too_big = {"from": "web1", "to": "small2", "protocol": "icmp6", "size": 1400}
    done = netctl(
        "test",
        six.write({**intent, "checks": [{**too_big, "expect": "rejected"}]}),
        "--lab",
        six.name,
        "--json",
    )
    [result] = done.json()["checks"]
    assert "packet too big from 2001:db8:1::1" in result["seen"]
    # Now its stack knows, and sends fragments.
    checks(six, intent, [{**too_big, "expect": "delivered"}])
    wanted = [
        {"from": "db2", "to": "small1", "protocol": "tcp", "port": 80, "size": 40000, "expect": "delivered"}
    ]
    wanted += [
        {"from": "small2", "to": "web2", "protocol": "tcp", "port": 80, "size": 40000, "expect": "delivered"}
    ]
    checks(six, intent, wanted)


def test_what_must_not_arrive(six: Lab, intent: dict[str, Any], nics: dict[str, dict[str, Any]]) -> None:
    wanted: list[dict[str, Any]] = [
        {"from": one, "to": other, "protocol": protocol, "expect": "dropped"}
        | ({"port": 80} if protocol == "tcp" else {})
        for one, other in (
            ("lan1", "old1"),
            ("web1", "lan1"),
            ("old1", "bare1"),
            ("blue1", "web1"),
            ("bare1", "db1"),
        )
        for protocol in ("icmp6", "tcp")
    ]
    # Two VPCs with one network: the same address is another machine there.
    wanted.append({"from": "blue1", "to": nics["web1/0"]["ip6"], "protocol": "icmp6", "expect": "dropped"})
    wanted.append({"from": "web1", "to": "2001:db8:77::1", "protocol": "icmp6", "expect": "dropped"})
    mail = {"from": "web1", "to": "db2", "protocol": "tcp"}
    wanted.append({**mail, "port": 25, "expect": "dropped", "name": "a routing policy means IPv6 too"})
    wanted.append({**mail, "port": 26, "expect": "delivered"})
    checks(six, intent, wanted)


def test_both_versions_side_by_side(
    six: Lab, intent: dict[str, Any], nics: dict[str, dict[str, Any]]
) -> None:
    """Without a word IPv4 is meant where both have it, and IPv6 where one has nothing else."""
    plain = [
        {"from": "lan1", "to": "lan2", "expect": "delivered"},
        {"from": "web1", "to": "db1", "expect": "delivered"},
    ]
    document = netctl("test", six.write({**intent, "checks": plain}), "--lab", six.name, "--json").json()
    assert all(each["verdict"] == "passed" for each in document["checks"])
    packets = netctl("ping", "lan1", nics["lan2/0"]["ip6"], "--lab", six.name, "--json").json()
    assert packets["answered"] == 3
    assert netctl("ping", "web1", "db2", "--lab", six.name, "--json").json()["answered"] == 3


def test_tagged_frames(six: Lab, intent: dict[str, Any]) -> None:
    tagged = [
        {"from": "trunk", "to": other, "vlan": vlan, "expect": "delivered", **what}
        for vlan, other in ((10, "lan1"), (10, "lan3"), (21, "bare3"))
        for what in ({"protocol": "icmp6"}, {"protocol": "tcp", "port": 80})
    ]
    tagged.append({"from": "trunk", "to": "old2", "vlan": 20, "protocol": "icmp6", "expect": "dropped"})
    checks(six, intent, tagged)


def test_matrix(six: Lab) -> None:
    document = netctl(
        "matrix", "--lab", six.name, "--json", "--protocol", "icmp6", "lan1", "web1", "db2", "blue1"
    ).json()
    assert {(pair["from"], pair["to"]): pair["delivered"] for pair in document["pairs"]} == {
        (one, other): {one, other} == {"web1/0", "db2/0"}
        for one, other in itertools.permutations(("lan1/0", "web1/0", "db2/0", "blue1/0"), 2)
    }


@pytest.mark.parametrize(
    ("one", "other", "words"), [("web1", "db2", "VPC red"), ("lan1", "lan3", "subnet lan")]
)
def test_trace(six: Lab, one: str, other: str, words: str) -> None:
    for more in (("--protocol", "icmp6"), ("--protocol", "tcp", "--port", "80")):
        document = netctl("trace", one, other, *more, "--lab", six.name, "--json").json()
        assert document["delivered"], document["verdict"]
        assert any(words in stage["what"] for stage in document["stages"])


def test_names(six: Lab, nics: dict[str, dict[str, Any]]) -> None:
    said = netctl("exec", "db2", "--lab", six.name, "--", "getent", "ahostsv6", "web2.red.example").out
    assert nics["web2/0"]["ip6"] in said
    said = netctl("exec", "web1", "--lab", six.name, "--", "getent", "ahostsv4", "web2.red.example").out
    assert nics["web2/0"]["ip"] in said


PACKET_TESTS = """
import pytest
from scapy.all import ICMPv6EchoRequest, IPv6, UDP

pytestmark = pytest.mark.lab("lab.yaml")

def udp(to, **fields):
    return IPv6(dst=to, **fields) / UDP(sport=4000, dport=5000) / b"hello"

@pytest.mark.parametrize(("one", "other"), [("lan1", "lan2"), ("old1", "old2"), ("bare1", "bare3")])
def test_on_one_link(lab, one, other):
    sent = lab.vm(one).send(udp(lab.vm(other).ip6))
    got = lab.vm(other).expect(sent)
    assert got[IPv6].src == lab.vm(one).ip6 and got.dst == lab.vm(other).mac
    lab.verify_no_other_packets()

def test_a_router_counts_hops(lab):
    web1, db2 = lab.vm("web1"), lab.vm("db2")
    web1.send(udp(db2.ip6, hlim=9))
    db2.expect(IPv6(src=web1.ip6, hlim=8) / UDP(dport=5000) / b"hello")
    web1.send(IPv6(dst=lab.vm("small1").ip6) / ICMPv6EchoRequest(data=b"ping"))
    lab.vm("small1").expect(IPv6(src=web1.ip6) / ICMPv6EchoRequest())

def test_a_vpc_is_closed(lab):
    blue1, web1 = lab.vm("blue1"), lab.vm("web1")
    blue1.send(udp("2001:db8:3::1"))
    web1.expect_nothing()
"""


def test_packet_tests(six: Lab, intent: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(PACKET_TESTS.replace("lab.yaml", str(six.write(intent))))
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -p no:cacheprovider\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--tb=short"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "NETCTL": NETCTL},
    )
    assert done.returncode == 0 and "5 passed" in done.stdout, done.stdout + done.stderr


@pytest.fixture(scope="module")
def taps(six: Lab, nics: dict[str, dict[str, Any]]) -> Iterator[Wires]:
    """Raw sockets at all NICs."""
    places = {name: (six.namespace(nic["vm"]), f"eth{nic['nic']}") for name, nic in nics.items()}
    macs = {name: nic["mac"] for name, nic in nics.items()}
    with wires(places, macs, {name: nic["ip"] for name, nic in nics.items() if nic["ip"]}) as made:
        yield made


def said(nic: dict[str, Any], what: str, forged: str, of: str) -> bytes:
    """A frame that a NIC may not send, to all nodes or to somebody's MAC address."""
    from scapy.layers import inet6
    from scapy.layers.inet import UDP
    from scapy.layers.l2 import Ether

    own_link = str(IPv6Network("fe80::/64")[int(IPv6Address(nic["ip6"])) & (2**64 - 1)])
    ether = Ether(src=nic["mac"], dst="33:33:00:00:00:01")
    every = "ff02::1"
    made = {
        "a source of another's": Ether(src=nic["mac"], dst=of)
        / inet6.IPv6(src=forged, dst=forged)
        / UDP(dport=9),
        "a source of nobody's": Ether(src=nic["mac"], dst=of)
        / inet6.IPv6(src="2001:db8:bad::1", dst=forged)
        / UDP(dport=9),
        "another MAC address": Ether(src="50:6b:8d:ff:ff:ff", dst=of)
        / inet6.IPv6(src=nic["ip6"], dst=forged)
        / UDP(dport=9),
        "an advertisement of another's address": ether
        / inet6.IPv6(src=own_link, dst=every, hlim=255)
        / inet6.ICMPv6ND_NA(tgt=forged, R=0, S=0, O=1)
        / inet6.ICMPv6NDOptDstLLAddr(lladdr=nic["mac"]),
        "its own address at another MAC address": ether
        / inet6.IPv6(src=own_link, dst=every, hlim=255)
        / inet6.ICMPv6ND_NA(tgt=nic["ip6"], R=0, S=0, O=1)
        / inet6.ICMPv6NDOptDstLLAddr(lladdr="50:6b:8d:ff:ff:ff"),
        "a question from another's MAC address": ether
        / inet6.IPv6(src=own_link, dst=every, hlim=255)
        / inet6.ICMPv6ND_NS(tgt=forged)
        / inet6.ICMPv6NDOptSrcLLAddr(lladdr="50:6b:8d:ff:ff:ff"),
        "a router's advertisement": ether
        / inet6.IPv6(src=own_link, dst=every, hlim=255)
        / inet6.ICMPv6ND_RA(routerlifetime=1800)
        / inet6.ICMPv6NDOptPrefixInfo(prefix="2001:db8:bad::", prefixlen=64),
        "a redirect": ether
        / inet6.IPv6(src=own_link, dst=every, hlim=255)
        / inet6.ICMPv6ND_Redirect(tgt=nic["ip6"], dst="2001:db8:bad::1"),
        "its own advertisement": ether
        / inet6.IPv6(src=own_link, dst=every, hlim=255)
        / inet6.ICMPv6ND_NA(tgt=nic["ip6"], R=0, S=0, O=1)
        / inet6.ICMPv6NDOptDstLLAddr(lladdr=nic["mac"]),
    }
    return bytes(made[what])


FORGED = [
    "a source of another's",
    "a source of nobody's",
    "another MAC address",
    "an advertisement of another's address",
    "its own address at another MAC address",
    "a question from another's MAC address",
]
ROUTERS = ["a router's advertisement", "a redirect"]


@pytest.mark.parametrize(
    ("liar", "victim", "lies"),
    [
        ("old1/0", "old2/0", [*FORGED, *ROUTERS]),
        # OVN passes on what says to be a router: its ACLs never see neighbour discovery.
        ("lan1/0", "lan2/0", FORGED),
        ("web1/0", "web2/0", FORGED),
    ],
    ids=["VLAN basic", "VLAN", "overlay"],
)
def test_a_guest_speaks_for_itself_only(
    taps: Wires, nics: dict[str, dict[str, Any]], liar: str, victim: str, lies: list[str]
) -> None:
    for what in lies:
        mark = marker()
        frame = said(nics[liar], what, nics[victim]["ip6"], nics[victim]["mac"]) + mark
        assert taps.who_gets(liar, frame, mark, [victim]) == {}, what
    # And the same way is open to what it may say.
    mark = marker()
    true = said(nics[liar], "its own advertisement", nics[victim]["ip6"], nics[victim]["mac"]) + mark
    assert victim in taps.who_gets(liar, true, mark, [victim])


def test_without_port_security_a_guest_may(taps: Wires, nics: dict[str, dict[str, Any]]) -> None:
    for what in ("an advertisement of another's address", "a router's advertisement"):
        mark = marker()
        frame = said(nics["old3/0"], what, nics["old1/0"]["ip6"], nics["old1/0"]["mac"]) + mark
        assert "old1/0" in taps.who_gets("old3/0", frame, mark, ["old1/0"])


def test_addresses_come_and_go(six: Lab, intent: dict[str, Any], nics: dict[str, dict[str, Any]]) -> None:
    """A to B to A; who is not concerned notices nothing."""
    ping = Ping(six, "lan1", nics["lan2/0"]["ip6"])
    changed = deepcopy(intent)
    del changed["subnets"]["web"]["cidr6"]
    changed["subnets"]["db"]["cidr6"] = "2001:db8:22::/64"
    changed["subnets"]["bare"]["cidr"] = "10.21.0.0/24"
    changed["vms"]["blue1"]["nics"][0]["mac"] = "50:6b:8d:00:00:02"
    changed["vms"]["old1"]["nics"][0]["link"] = "down"
    six.apply(changed)
    now = status(six)
    assert own(six, "web1") == [] and now["web1/0"]["ip6"] is None
    assert [one["local"] for one in own(six, "db1")] == [now["db1/0"]["ip6"]]
    assert now["db1/0"]["ip6"].startswith("2001:db8:22:")
    assert [one["local"] for one in own(six, "blue1")] == ["2001:db8:1:0:526b:8dff:fe00:2"]
    assert own(six, "old1") == []
    wanted = [{"from": "db1", "to": "db2", "protocol": "icmp6", "expect": "delivered"}]
    wanted.append({"from": "bare1", "to": "bare3", "protocol": "icmp6", "expect": "delivered"})
    wanted.append({"from": "bare1", "to": "bare3", "protocol": "icmp", "expect": "delivered"})
    netctl("test", six.write({**changed, "checks": wanted}), "--lab", six.name)
    six.apply(intent)
    assert {name: nic["ip6"] for name, nic in status(six).items()} == {
        name: nic["ip6"] for name, nic in nics.items()
    }
    assert ping.lost() == 0
    checks(six, intent, [*probes(protocol="icmp6")[:6], {"from": "web1", "to": "db2", "protocol": "icmp6"}])


def test_a_lost_address_is_noticed_and_mended(six: Lab, intent: dict[str, Any]) -> None:
    for node in ("web1", "bare1"):
        six.run(node, "ip", "-6", "address", "flush", "dev", "eth0", "scope", "global")
    six.run("db1", "ip", "-6", "route", "del", "default")
    report = netctl("status", six.name, "--json").json()
    assert report["state"] == "degraded"
    for node in ("web1", "bare1", "db1"):
        assert any(node in line and "IPv6" in line for line in report["trouble"]), node
    netctl("plan", six.write(intent), code=10)
    six.apply(intent)
    checks(
        six, intent, [{"from": "web2", "to": "web1", "protocol": "icmp6"}, {"from": "bare3", "to": "bare1"}]
    )


POLICIES: dict[str, Any] = {
    "db": {
        "type": "application",
        "secured": {"Tier": "db"},
        "inbound": [
            {"from": {"Tier": "web"}, "services": ["tcp/5432", "udp/53", "icmp6"]},
            {"from": "any", "services": ["udp/7"], "action": "reject"},
        ],
    },
    "four": {
        "type": "application",
        "secured": {"Tier": "four"},
        "inbound": [{"from": "0.0.0.0/0"}, {"from": "2001:db8:10::/64", "services": ["tcp/443"]}],
    },
}
TIERS = {"web": ("lan1", "old1", "web1"), "db": ("lan2", "old2", "db2"), "four": ("lan3",)}
OTHERS = ("db3/1", "old3", "db1")
"""Of each network one that no policy names."""


def test_policies_mean_ipv6_too(six: Lab, intent: dict[str, Any]) -> None:
    policed = {**deepcopy(intent), "policies": POLICIES}
    for tier, names in TIERS.items():
        for name in names:
            policed["vms"][name]["categories"] = {"Tier": tier}
    to6 = {name: nic["ip6"] for name, nic in status(six).items()}
    wanted: list[dict[str, Any]] = []

    def state(one: str, other: str, expect: str, **what: Any) -> None:
        target = to6[other if "/" in other else f"{other}/0"]
        wanted.append({"from": one, "to": target, "expect": expect, **what})

    for web, db, another in zip(TIERS["web"], TIERS["db"], OTHERS, strict=True):
        state(web, db, "delivered", protocol="icmp6")
        state(web, db, "delivered", protocol="tcp", port=5432, size=20000)
        state(web, db, "delivered", protocol="udp", port=53, size=5000)  # in fragments
        state(web, db, "dropped", protocol="tcp", port=80)
        state(another, db, "dropped", protocol="icmp6")
        state(another, db, "dropped", protocol="tcp", port=5432)
        state(another, db, "rejected", protocol="udp", port=7)
        state(db, another, "delivered", protocol="icmp6")
    state("old1", "old2", "delivered", protocol="icmp6", size=5000)
    state("lan1", "lan3", "delivered", protocol="tcp", port=443)
    state("lan1", "lan3", "dropped", protocol="tcp", port=80)
    wanted.append({"from": "lan1", "to": "lan3", "protocol": "tcp", "port": 80, "expect": "delivered"})
    six.apply({**policed, "checks": wanted})
    netctl("test", six.file, "--lab", six.name)
