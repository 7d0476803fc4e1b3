"""DHCP on VLAN basic subnets: real servers in the CVMs, real clients, and those who should get nothing.

    a open trunk raw1 own1 lan1 app1      b raw2 own2 lan2 app2     (a trunk: VLAN 21 tagged)
              hv1                                  hv2
             /   \\                                /   \\
          tor1 ---+------------ fabric ----------+--- tor2          bare: in the guests' VLAN
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from tests.live.conftest import Lab, netctl, private_lab
from tests.live.frames import BROADCAST, Wires, marker, wires

pytestmark = pytest.mark.live

INTENT = """
hosts: {hv1: {}, hv2: {}}
vpcs: {shop: {}}
subnets:
  legacy: {type: vlan-basic, vlan: 20, cidr: 10.20.0.0/24, gateway: 10.20.0.1, dns: [10.20.0.1, 10.20.0.2],
           domain: legacy.example, mtu: 1400, lease_time: 120, pool: [10.20.0.50-10.20.0.59]}
  same: {type: vlan-basic, vlan: 21, cidr: 10.20.0.0/24, dhcp_server: 10.20.0.9}
  raw: {type: vlan-basic, vlan: 22}
  own: {type: vlan-basic, vlan: 23, cidr: 10.23.0.0/24, dhcp: false}
  lan: {type: vlan, vlan: 30, cidr: 10.20.0.0/24, gateway: 10.20.0.1, dns: [10.20.0.1, 10.20.0.2],
        domain: legacy.example, mtu: 1400, lease_time: 120, dhcp: true, pool: [10.20.0.50-10.20.0.59]}
  app: {type: overlay, vpc: shop, cidr: 192.168.1.0/24, dhcp: true}
vms:
  a: {host: hv1, nics: [{subnet: legacy, ip: dhcp}]}
  b: {host: hv2, nics: [{subnet: legacy, ip: dhcp}]}
  still: {host: hv2, nics: [{subnet: legacy, ip: 10.20.0.77}]}
  open: {host: hv1, nics: [{subnet: legacy, port_security: false}]}
  trunk: {host: hv1, nics: [{subnet: legacy, mode: trunk, trunked: [20, 21]}]}
  twin: {host: hv1, nics: [{subnet: same, ip: dhcp}]}
  raw1: {host: hv1, nics: [{subnet: raw}]}
  raw2: {host: hv2, nics: [{subnet: raw}]}
  raw3: {host: hv2, nics: [{subnet: raw, ip: dhcp}]}
  own1: {host: hv1, nics: [{subnet: own}]}
  own2: {host: hv2, nics: [{subnet: own}]}
  lan1: {host: hv1, nics: [{subnet: lan, ip: dhcp}]}
  lan2: {host: hv2, nics: [{subnet: lan}]}
  app1: {host: hv1, nics: [{subnet: app}]}
  app2: {host: hv2, nics: [{subnet: app}]}
physical:
  bare: {switch: tor1, vlan: 20, ip: 10.20.0.99/24}
  depot: {switch: tor2, vlan: 22, ip: 172.31.0.1/24}
policies:
  none: {type: application, secured: {Tier: closed}, inbound: [], outbound: []}
"""

SAY = """#!/bin/sh
[ $1 = bound ] && env | grep -E '^(ip|mask|router|dns|domain|mtu|lease|serverid)='
exit 0
"""

LIMIT = 20.0


@pytest.fixture(scope="module")
def intent() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(INTENT)
    return data


@pytest.fixture(scope="module")
def running(intent: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with private_lab("h", tmp_path_factory.mktemp("dhcp")) as made:
        made.up(intent)
        script = made.file.with_name("say.sh")
        script.write_text(SAY)
        script.chmod(0o755)
        yield made


@pytest.fixture
def wire(running: Lab) -> Iterator[Wires]:
    """All NICs, and the cables of hv1 as its switches see them."""
    status = netctl("status", running.name, "--json").json()
    nics = {nic["vm"]: (running.namespace(nic["vm"]), f"eth{nic['nic']}") for nic in status["nics"]}
    macs = {nic["vm"]: nic["mac"] for nic in status["nics"]}
    ips = {nic["vm"]: nic["ip"] for nic in status["nics"] if nic["ip"]}
    nics["bare"] = running.namespace("bare"), "eth0"
    macs["bare"] = running.run("bare", "cat", "/sys/class/net/eth0/address").strip()
    ips["bare"] = "10.20.0.99"
    nics |= {
        f"cable {tor}": (running.namespace(tor), f"hv1.eth{i}") for i, tor in enumerate(("tor1", "tor2"))
    }
    with wires(nics, macs, ips) as made:
        yield made


def ask(lab: Lab, node: str) -> dict[str, str]:
    """What a second client in a guest is told; nothing where nobody answers it."""
    said = lab.run(node, "udhcpc", "-i", "eth0", "-n", "-q", "-t", "2", "-T", "1", "-O", "mtu",
                   "-s", str(lab.file.with_name("say.sh")), code=None)  # fmt: skip
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def address(lab: Lab, node: str) -> dict[str, Any]:
    [link] = json.loads(lab.run(node, "ip", "-4", "-json", "address", "show", "dev", "eth0"))
    found: dict[str, Any] = link["addr_info"][0]
    return found


def log(lab: Lab, host: str, subnet: str) -> str:
    return Path(f"/run/netctl/{lab.name}/{host}.cvm/dnsmasq-{subnet}.log").read_text()


def server(lab: Lab, host: str, subnet: str) -> int:
    return int(Path(f"/run/netctl/{lab.name}/{host}.cvm/dnsmasq-{subnet}.pid").read_text())


def until(what: Callable[[], bool], why: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)


def dhcp(
    kind: str, source: str, mark: bytes, *, hardware: str = "", ip: str = "0.0.0.0", target: str = BROADCAST
) -> bytes:
    """A message of a client (discover) or of a server (offer), with a marker."""
    client = kind in ("discover", "request")
    ports = (68, 67) if client else (67, 68)
    chaddr = bytes.fromhex((hardware or source).replace(":", ""))
    frame = (
        Ether(src=source, dst=target)
        / IP(src=ip, dst="255.255.255.255")
        / UDP(sport=ports[0], dport=ports[1])
        / BOOTP(op=1 if client else 2, chaddr=chaddr, xid=0x1234, flags=0x8000)
        / DHCP(options=[("message-type", kind), ("hostname", mark), "end"])
    )
    return bytes(frame)


# --- who gets a lease -------------------------------------------------------------------------------------


def test_guests_have_what_the_intent_says(running: Lab) -> None:
    netctl("plan", running.file)
    a, b = address(running, "a"), address(running, "b")
    assert (a["local"], b["local"]) == ("10.20.0.50", "10.20.0.51")
    assert (a["prefixlen"], 0 < a["valid_life_time"] <= 120) == (24, True)
    assert address(running, "twin")["local"] == "10.20.0.2", "another network with the same addresses"
    assert "default via 10.20.0.1 dev eth0" in running.run("a", "ip", "route")
    resolver = netctl("exec", "--lab", running.name, "a", "--", "cat", "/etc/resolv.conf").out
    assert resolver.split() == [
        "search",
        "legacy.example",
        "nameserver",
        "10.20.0.1",
        "nameserver",
        "10.20.0.2",
    ]
    netctl("ping", "a", "b", "--lab", running.name)


def test_it_tells_what_ovn_tells_on_a_vlan(running: Lab) -> None:
    said = {node: ask(running, node) for node in ("a", "lan1", "still", "twin", "open", "trunk")}
    assert said["a"] == {
        "ip": "10.20.0.50",
        "mask": "24",
        "router": "10.20.0.1",
        "dns": "10.20.0.1 10.20.0.2",
        "domain": "legacy.example",
        "mtu": "1400",
        "lease": "120",
        "serverid": "10.20.0.254",
    }
    assert said["lan1"] == said["a"]
    assert said["still"] == said["a"] | {"ip": "10.20.0.77"}, "a fixed address is leased too"
    assert said["open"]["ip"] != said["trunk"]["ip"]
    assert said["twin"] == {
        "ip": "10.20.0.2",
        "mask": "24",
        "mtu": "1500",
        "lease": "86400",
        "serverid": "10.20.0.9",
    }


def test_a_client_renews_its_lease_with_its_server(running: Lab) -> None:
    pid = int(Path(f"/run/netctl/{running.name}/a/dhcp-eth0.pid").read_text())
    for server_is_new in (False, True):
        if server_is_new:
            os.kill(server(running, "hv1", "legacy"), signal.SIGKILL)
            netctl("apply", running.file)
        before = len(log(running, "hv1", "legacy"))
        os.kill(pid, signal.SIGUSR1)  # udhcpc(8): renew
        until(lambda: "DHCPACK" in log(running, "hv1", "legacy")[before:], "the lease was not renewed")  # noqa: B023
        assert "DISCOVER" not in log(running, "hv1", "legacy")[before:]
        until(lambda: address(running, "a")["valid_life_time"] > 110, "the guest did not take it")


def test_a_guest_that_a_policy_closes_gets_a_lease(running: Lab, intent: dict[str, Any]) -> None:
    closed = deepcopy(intent)
    closed["vms"]["a"]["categories"] = {"Tier": "closed"}
    running.apply(closed)
    running.run("a", "ping", "-c1", "-W1", "10.20.0.51", code=1)
    assert ask(running, "a")["ip"] == "10.20.0.50"
    running.apply(intent)


# --- who does not -----------------------------------------------------------------------------------------


def test_requests_go_to_the_server_only(wire: Wires, running: Lab) -> None:
    mark = marker()
    others = {"b", "still", "open", "trunk", "bare"}
    assert wire.who_gets("a", dhcp("discover", wire.macs["a"], mark), mark, others) == {}
    netctl("exec", "--lab", running.name, "a", "--", "ping", "-c1", "-W1", "10.20.0.51")
    # One from outside is for whoever serves there: all of the VLAN, and its guests do not.
    assert set(wire.who_gets("bare", dhcp("discover", wire.macs["bare"], mark), mark, others - {"bare"}))


def test_what_is_for_the_server_and_no_dhcp_ends_at_its_host(running: Lab) -> None:
    running.run("a", "ping", "-c1", "-W1", "10.20.0.254", code=1)
    assert "0a:58:0a:14:00:fe" in running.run("a", "ip", "neigh", "show", "10.20.0.254"), "ARP is answered"


def test_foreign_macs_are_not_served(wire: Wires, running: Lab) -> None:
    before = len(log(running, "hv1", "legacy"))
    foreign, mark = "02:00:00:00:00:99", marker()
    wire.send("open", dhcp("discover", foreign, mark))
    until(lambda: foreign in log(running, "hv1", "legacy")[before:], "the server did not hear of it")
    assert ask(running, "open")["ip"]
    about = [line for line in log(running, "hv1", "legacy")[before:].splitlines() if foreign in line]
    assert about and all("ignored" in line for line in about)
    # With port security it does not even get there.
    before = len(log(running, "hv1", "legacy"))
    wire.send("a", dhcp("discover", foreign, mark))
    assert ask(running, "a")["ip"]
    assert foreign not in log(running, "hv1", "legacy")[before:]


@pytest.mark.parametrize("kind", ["raw", "own"])
def test_unmanaged_subnets_are_left_alone(wire: Wires, running: Lab, kind: str) -> None:
    mark, asking, other = marker(), f"{kind}1", f"{kind}2"
    got = wire.who_gets(asking, dhcp("discover", wire.macs[asking], mark), mark, {other})
    assert got[other] == [None], "it is the VLAN's own business"
    assert ask(running, asking) == {}
    ip = wire.ips.get(other, "10.22.0.1")
    got = wire.who_gets(other, dhcp("offer", wire.macs[other], mark, ip=ip), mark, {asking})
    assert got[asking] == [None], "so is who serves there"


def test_a_guest_in_an_unmanaged_subnet_asks_whoever_serves_there(running: Lab) -> None:
    leases = running.file.with_name("depot.leases")
    serve = ("--interface=eth0", "--bind-interfaces", "--port=0", "--user=root", "--keep-in-foreground",
             f"--dhcp-leasefile={leases}", "--log-facility=-", "--pid-file=", "-C", "/dev/null")  # fmt: skip
    process = running.start("depot", "dnsmasq", "--dhcp-range=172.31.0.77,172.31.0.77,120", *serve)
    try:
        until(lambda: "172.31.0.77/24" in running.run("raw3", "ip", "address"), "it got no address")
        netctl("plan", running.file)
        running.run("raw3", "ping", "-c1", "-W1", "172.31.0.1")
    finally:
        process.kill()
        process.wait()


ROGUES = {
    "still": {"a", "b"},
    "a": {"b", "open"},
    "open": {"a", "b"},
    "bare": {"a", "b"},
    "lan1": {"lan2"},
    "app1": {"app2"},
}


@pytest.mark.parametrize("rogue", ROGUES)
def test_a_rogue_server_reaches_nobody(wire: Wires, rogue: str) -> None:
    others = ROGUES[rogue]
    for target in (BROADCAST, wire.macs[sorted(others)[0]]):
        mark = marker()
        offer = dhcp("offer", wire.macs[rogue], mark, ip=wire.ips[rogue], target=target)
        got = wire.who_gets(rogue, offer, mark, others)
        assert not {name for name in got if not name.startswith("cable")}
        beside = Ether(offer)
        beside[UDP].sport, beside[UDP].chksum = 6767, None
        got = wire.who_gets(rogue, bytes(beside), mark, others)
        assert others & set(got), "any other datagram arrives"


def test_the_tagged_vlan_of_a_trunk_is_not_served(wire: Wires, running: Lab) -> None:
    """Its NIC has an address in its own subnet only, and the other is managed."""
    mark, before = marker(), len(log(running, "hv1", "same"))
    plain = dhcp("discover", wire.macs["trunk"], mark)
    tagged = plain[:12] + b"\x81\x00\x00\x15" + plain[12:]
    wire.send("trunk", tagged)
    until(lambda: wire.macs["trunk"] in log(running, "hv1", "same")[before:], "the server did not hear of it")
    assert "DHCPOFFER" not in log(running, "hv1", "same")[before:]


# --- addresses seen, words --------------------------------------------------------------------------------


def test_addresses_of_an_unmanaged_subnet_are_seen(wire: Wires, running: Lab) -> None:
    def seen() -> dict[str, list[str]]:
        nics = netctl("status", running.name, "--json").json()["nics"]
        return {nic["vm"]: nic["seen"] for nic in nics}

    assert seen()["raw1"] == []
    mac = wire.macs["raw1"]
    wire.send(
        "raw1", bytes(Ether(src=mac, dst=BROADCAST) / ARP(hwsrc=mac, psrc="172.31.0.5", pdst="172.31.0.9"))
    )
    until(lambda: seen()["raw1"] == ["172.31.0.5"], "the CVM did not learn the address")
    assert seen()["raw2"] == [], "another host, another NIC"
    assert re.search(r"raw1/0 .* seen: 172\.31\.0\.5 ", netctl("status", running.name).out)


def test_trace_and_capture_know_the_ports(running: Lab) -> None:
    asked = ("--protocol", "udp", "--port", "67", "--lab", running.name)
    said = netctl("trace", "a", "10.20.0.254", *asked).out
    assert said.startswith("10.20.0.254: reaches the DHCP server of legacy"), said
    story = netctl("trace", "a", "still", "--json", "--lab", running.name).json()
    assert story["verdict"] == "delivered to still/0 on hv2"
    told = netctl("capture", "hv1:br0.dhcp", "--lab", running.name, code=2).err
    assert "VXLAN" in told and "hv1:vnet1" in told


# --- changes ----------------------------------------------------------------------------------------------


def test_leases_follow_their_vms(running: Lab, intent: dict[str, Any]) -> None:
    moved = deepcopy(intent)
    moved["vms"]["b"]["host"] = "hv1"
    del moved["vms"]["a"]
    moved["vms"]["new"] = {"host": "hv2", "nics": [{"subnet": "legacy", "ip": "dhcp"}]}
    moved["subnets"]["same"]["dhcp_server"] = "10.20.0.10"
    running.apply(moved)
    assert ask(running, "b")["ip"] == address(running, "b")["local"] == "10.20.0.51"
    assert ask(running, "new")["ip"] == address(running, "new")["local"]
    assert ask(running, "twin")["serverid"] == "10.20.0.10"
    leases = Path(f"/run/netctl/{running.name}/hv2.cvm/dnsmasq-legacy.leases").read_text()
    assert "10.20.0.51 " not in leases
    netctl("plan", running.file)
    # An address goes to another VM on the same host.
    moved["vms"]["b"]["nics"][0]["ip"] = "10.20.0.50"
    del moved["subnets"]["same"], moved["vms"]["twin"]
    moved["vms"]["trunk"]["nics"][0]["trunked"] = [20]
    running.apply(moved)
    assert ask(running, "b")["ip"] == "10.20.0.50"
    assert "dhcp0.21" not in running.run("hv1.cvm", "ip", "link")
    running.apply(intent)
    assert address(running, "a")["local"] == "10.20.0.50"
    assert ask(running, "a")["ip"] == "10.20.0.50"
    netctl("plan", running.file)


def test_a_dead_server_is_seen_and_started_again(running: Lab) -> None:
    os.kill(server(running, "hv2", "legacy"), signal.SIGKILL)
    status = netctl("status", running.name, "--json").json()
    assert status["hosts"][1]["daemons"]["dnsmasq-legacy"] is False
    assert status["state"] == "degraded"
    assert "daemon dnsmasq-legacy is not running" in netctl("plan", running.file, code=10).out
    netctl("apply", running.file)
    assert ask(running, "b")["ip"] == "10.20.0.51"
    running.run("hv2.cvm", "ip", "link", "delete", "dhcp0.20")
    netctl("plan", running.file, code=10)
    netctl("apply", running.file)
    assert ask(running, "b")["ip"] == "10.20.0.51"
    netctl("plan", running.file)


def test_a_server_that_fails_on_purpose_stays_away(running: Lab) -> None:
    netctl("fail", "daemon", "hv1", "dnsmasq", "--lab", running.name)
    assert ask(running, "a") == {}
    assert ask(running, "b")["ip"], "the other host has its own"
    netctl("plan", running.file)
    netctl("heal", "all", "--lab", running.name)
    assert ask(running, "a")["ip"] == "10.20.0.50"
