"""BGP: routers learn of VPCs from their gateways, packets follow, and what has gone is known to have gone."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.conftest import Lab, Ping, netctl, private_lab

INTENT = """
hosts: {hv1: {}, hv2: {}, hv3: {}}
subnets:
  internet: {type: external, vlan: 30, cidr: 203.0.113.0/24, gateway: 203.0.113.1,
             pool: [203.0.113.2-203.0.113.14]}
  office: {type: external, vlan: 31, cidr: 172.20.0.0/24, gateway: 172.20.0.1,
           pool: [172.20.0.51-172.20.0.99]}
  web: {type: overlay, vpc: red, cidr: 192.168.1.0/24}
  db: {type: overlay, vpc: red, cidr: 192.168.2.0/24}
vpcs:
  red:
    external:
      - {subnet: internet, gateway_hosts: [hv1, hv3]}
      - {subnet: office, nat: false, router_ip: 172.20.0.50, gateway_hosts: [hv1, hv3]}
    routes: [{to: 0.0.0.0/0, via: internet}, {to: 172.16.0.0/12, via: office}]
    routable: [192.168.2.0/24]
    floating_ips: {203.0.113.60: web1, 203.0.113.61: web2}
vms:
  web1: {host: hv2, nics: [{subnet: web, ip: 192.168.1.11}]}
  web2: {host: hv3, nics: [{subnet: web, ip: 192.168.1.12}]}
  db1: {host: hv2, nics: [{subnet: db, ip: 192.168.2.11}]}
physical:
  isp: {kind: router, switch: tor1, vlan: 30, ip: 203.0.113.1/28}
  customer: {switch: tor2, vlan: 30, ip: 203.0.113.9/28, gateway: 203.0.113.1}
  core: {kind: router, switch: tor2, vlan: 31, ip: 172.20.0.1/24}
  desk: {switch: tor1, vlan: 31, ip: 172.20.0.9/24, gateway: 172.20.0.1}
checks:
  - {name: a floating IP, from: customer, to: 203.0.113.60, protocol: tcp, port: 22}
  - {name: another, from: customer, to: 203.0.113.61, protocol: udp, port: 53}
  - {name: leaves as it, from: web1, to: customer, snat: 203.0.113.60}
  - {name: leaves as it to the router, from: web2, to: isp, snat: 203.0.113.61}
  - {name: a routable VM, from: desk, to: db1, protocol: tcp, port: 5432}
  - {name: as itself, from: db1, to: desk, snat: 192.168.2.11}
  - {name: not a routable one, from: desk, to: web1, expect: dropped}
"""

FLOATING = {"203.0.113.60": "203.0.113.2", "203.0.113.61": "203.0.113.2"}
ROUTABLE = {"192.168.2.0/24": "172.20.0.50"}


@pytest.fixture(scope="module")
def intent() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(INTENT)
    return data


@pytest.fixture(scope="module")
def bgp(intent: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all tests here; each leaves it as it was."""
    with private_lab("bgp-", tmp_path_factory.mktemp("bgp")) as lab:
        lab.up(intent)
        yield lab


def learned(lab: Lab, router: str) -> dict[str, str]:
    """What the router's kernel has from BGP."""
    found = json.loads(lab.run(router, "ip", "-4", "-json", "route", "show", "proto", "bgp"))
    return {route["dst"]: route["gateway"] for route in found}


def tellers(lab: Lab, router: str, prefix: str) -> set[str]:
    """The speakers from whom the router has a prefix, as its bgpd tells."""
    words = "vtysh", "-c", f"show bgp ipv4 unicast {prefix} json"
    paths = json.loads(netctl("exec", "--lab", lab.name, router, "--", *words).out).get("paths", [])
    return {path["peer"]["peerId"] for path in paths}


def speakers(lab: Lab) -> dict[str, str]:
    """The addresses of the speakers, by `host vpc/subnet`."""
    told = netctl("status", lab.name, "--json").json()["bgp"]["speakers"]
    return {f"{it['host']} {it['vpc']}/{it['subnet']}": it["address"] for it in told}


def until(limit: float, *, is_so: Any) -> float:
    """Seconds until it is so."""
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() < begun + limit
        time.sleep(0.05)
    return time.monotonic() - begun


def test_packets_follow_what_is_learned(bgp: Lab) -> None:
    assert learned(bgp, "isp") == FLOATING
    assert learned(bgp, "core") == ROUTABLE
    netctl("test", bgp.file, "--lab", bgp.name)
    netctl("plan", bgp.file)
    told = netctl("trace", "desk", "db1", "--lab", bgp.name).out
    assert told.startswith("delivered to db1/0") and "forwards it: to 172.20.0.50" in told


def test_status_tells_what_is_learned_and_from_whom(bgp: Lab) -> None:
    told = netctl("status", bgp.name, "--json").json()["bgp"]
    assert [router["name"] for router in told["routers"]] == ["core", "isp"]
    assert {it["host"] for it in told["speakers"]} == {"hv1", "hv3"} and all(
        it["runs"] for it in told["speakers"]
    )
    by_name = speakers(bgp)
    assert tellers(bgp, "core", "192.168.2.0/24") == {by_name["hv1 red/office"]}


def test_a_floating_ip_is_known_while_its_vm_is_there(bgp: Lab, intent: dict[str, Any]) -> None:
    beside = Ping(bgp, "customer", "203.0.113.61")
    quiet = deepcopy(intent)
    quiet["vms"]["web1"]["nics"][0]["link"] = "down"
    bgp.apply(quiet)
    assert learned(bgp, "isp") == {"203.0.113.61": "203.0.113.2"}
    assert "0 received" in bgp.run("customer", "ping", "-c1", "-W1", "203.0.113.60", code=1)
    without = deepcopy(intent)
    del without["vms"]["web1"], without["vpcs"]["red"]["floating_ips"]["203.0.113.60"]
    without["vpcs"]["red"]["routable"].append("192.168.1.0/24")
    without["checks"] = []
    bgp.apply(without)
    assert learned(bgp, "isp") == {"203.0.113.61": "203.0.113.2"}
    assert learned(bgp, "core") == {**ROUTABLE, "192.168.1.0/24": "172.20.0.50"}
    bgp.apply(intent)
    assert (learned(bgp, "isp"), learned(bgp, "core")) == (FLOATING, ROUTABLE)
    assert beside.lost() == 0
    netctl("plan", bgp.file)


def test_a_vm_that_is_unplugged_takes_its_floating_ip_along(bgp: Lab) -> None:
    """As AHV does it when a VM is switched off: its tap leaves the bridge."""
    [tap] = [nic["tap"] for nic in netctl("status", bgp.name, "--json").json()["nics"] if nic["vm"] == "web1"]
    bgp.tool("hv2", "ovs-vsctl", "del-port", tap)
    until(10, is_so=lambda: learned(bgp, "isp") == {"203.0.113.61": "203.0.113.2"})
    netctl("apply", bgp.file)
    assert learned(bgp, "isp") == FLOATING


def test_the_standby_tells_when_the_gateway_dies_and_nobody_when_both_do(bgp: Lab) -> None:
    by_name = speakers(bgp)
    ping = bgp.start("desk", "ping", "-D", "-n", "-i", "0.05", "192.168.2.11")
    assert ping.stdout
    ping.stdout.readline()
    netctl("fail", "host", "hv1", "--lab", bgp.name)
    until(10, is_so=lambda: tellers(bgp, "core", "192.168.2.0/24") == {by_name["hv3 red/office"]})
    assert (learned(bgp, "isp"), learned(bgp, "core")) == (FLOATING, ROUTABLE)
    lines = []
    begun = time.monotonic()
    while time.monotonic() < begun + 1:
        lines.append(float(ping.stdout.readline()[1:18]))
    ping.kill()
    ping.wait()
    assert max(later - earlier for earlier, later in pairwise(lines)) < 3
    netctl("fail", "host", "hv3", "--lab", bgp.name)
    until(10, is_so=lambda: (learned(bgp, "isp"), learned(bgp, "core")) == ({}, {}))
    netctl("heal", "all", "--lab", bgp.name)
    assert (learned(bgp, "isp"), learned(bgp, "core")) == (FLOATING, ROUTABLE)
    netctl("plan", bgp.file)


def test_what_was_killed_is_started_again(bgp: Lab) -> None:
    killed = (("core", "bgpd"), ("core", "zebra"), ("hv1.bgp3", "bgp-feed"), ("hv1.bgp1", "bgpd"))
    for node, role in killed:
        pid = Path(f"/run/netctl/{bgp.name}/{node}/{role}.pid").read_text().strip()
        subprocess.run(["kill", "-9", pid], check=True)
    told = netctl("plan", bgp.file, code=10).out
    for node, role in killed:
        assert f"{node}: daemon {role} is not running" in told
    netctl("apply", bgp.file)
    assert (learned(bgp, "isp"), learned(bgp, "core")) == (FLOATING, ROUTABLE)
    netctl("plan", bgp.file)


def test_a_machine_that_is_no_router_any_more_learns_and_forwards_nothing(
    bgp: Lab, intent: dict[str, Any]
) -> None:
    plain = deepcopy(intent)
    plain["physical"]["core"]["kind"] = "machine"
    plain["checks"] = []
    bgp.apply(plain)
    assert learned(bgp, "core") == {} and learned(bgp, "isp") == FLOATING
    assert bgp.run("core", "cat", "/proc/sys/net/ipv4/ip_forward").strip() == "0"
    assert {name.partition(" ")[2] for name in speakers(bgp)} == {"red/internet"}
    netctl("plan", bgp.file)
    bgp.apply(intent)
    assert learned(bgp, "core") == ROUTABLE
    netctl("plan", bgp.file)
