"""VPCs and the way out, asked of packets: the topology and its checks, dead gateways, changes undone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from typing import Any

import pytest
import yaml

from tests.live.conftest import TOPOLOGIES, Lab, Ping, netctl, private_lab

NORTHBOUND = ("Logical_Switch", "Logical_Switch_Port", "Logical_Router", "Logical_Router_Port", "NAT")
NORTHBOUND += ("Logical_Router_Static_Route", "Logical_Router_Policy", "Load_Balancer", "DHCP_Options", "DNS")
NORTHBOUND += ("HA_Chassis_Group", "HA_Chassis", "Load_Balancer_Health_Check")


@pytest.fixture(scope="module")
def vpc() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((TOPOLOGIES / "vpc.yaml").read_text())
    return data


@pytest.fixture(scope="module")
def red(vpc: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab of topologies/vpc.yaml, for all tests here; each leaves it as it was."""
    with private_lab("vpc-", tmp_path_factory.mktemp("vpc")) as lab:
        lab.up(vpc)
        yield lab


def rows(lab: Lab) -> dict[str, list[str]]:
    """Everything in the tables that VPCs are made of, but for UUIDs and what OVN itself keeps there."""
    found = {}
    for table in NORTHBOUND:
        text = lab.tool("_central", "ovn-nbctl", "--bare", "--no-leader-only", "list", table)
        lines = [line for line in text.splitlines() if line]
        kept = [line for line in lines if not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", line)]
        found[table] = sorted(line for line in kept if not line.startswith("dynamic"))
    return found


def test_checks_of_the_topology_hold(red: Lab) -> None:
    netctl("test", red.file, "--lab", red.name)


def test_status_tells_gateways_and_counts_what_policies_match(red: Lab) -> None:
    def policies() -> dict[int, int]:
        vpcs = {vpc["name"]: vpc for vpc in netctl("status", red.name, "--json").json()["vpcs"]}
        assert {way["subnet"]: way["gateway"] for way in vpcs["red"]["external"]} == {
            "internet": "hv1",
            "office": "hv3",
        }
        return {policy["priority"]: policy["packets"] for policy in vpcs["red"]["routing_policies"]}

    before = policies()
    for _ in range(3):
        send(red, "desk", "192.168.2.11", 123)
    after = policies()
    assert (after[100] - before[100], after[200] - before[200]) == (3, 0)


def test_nothing_is_left_to_change(red: Lab) -> None:
    netctl("plan", red.file)


def test_a_dead_gateway_costs_less_than_three_seconds(red: Lab) -> None:
    ping = red.start("web4", "ping", "-D", "-n", "-i", "0.05", "203.0.113.1")
    assert ping.stdout
    for _ in range(20):
        ping.stdout.readline()
    netctl("fail", "host", "hv1", "--lab", red.name)
    times = []
    while len(times) < 100:
        found = re.match(r"\[([0-9.]+)\].*bytes from", ping.stdout.readline())
        if found:
            times.append(float(found[1]))
    ping.kill()
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert max(gaps) < 3.0, max(gaps)
    netctl("heal", "all", "--lab", red.name)
    netctl("plan", red.file)
    assert gateway(red, "red/internet") == "hv1"


def gateway(lab: Lab, port: str) -> str:
    """The host that OVN has as the gateway of a router's port."""
    columns = ["--bare", "--columns=chassis", "find", "Port_Binding", f'logical_port="cr-{port}"']
    chassis = lab.tool("_central", "ovn-sbctl", *columns).strip()
    return lab.tool("_central", "ovn-sbctl", "--bare", "--columns=name", "list", "Chassis", chassis).strip()


def changed(vpc: dict[str, Any], name: str) -> dict[str, Any]:
    """The intent with one thing changed."""
    other = deepcopy(vpc)
    web = other["vpcs"]["red"]
    if name == "a floating IP goes to another VM":
        web["floating_ips"] = {"203.0.113.60": "web3"}
    elif name == "no floating IP":
        del web["floating_ips"]
    elif name == "another gateway host first":
        web["external"][0]["gateway_hosts"] = ["hv3", "hv1"]
    elif name == "another policy":
        web["routing_policies"] = [{"priority": 7, "from": "any", "to": "10.0.0.0/8", "action": "deny"}]
    elif name == "a backend less":
        web["load_balancers"]["front"]["backends"] = ["web2:8443"]
    elif name == "no load balancers":
        del web["load_balancers"]
    elif name == "one way out":
        web["external"] = web["external"][:1]
        web["routes"] = web["routes"][:1]
        del web["routable"]
    elif name == "no DHCP and no names":
        for key in ("dhcp", "dns", "domain"):
            del other["subnets"]["red-web"][key]
        other["vms"]["web4"]["nics"][0]["ip"] = "192.168.1.14"
    elif name == "a VM less":
        del other["vms"]["web2"]
        del web["floating_ips"]["203.0.113.61"]
        web["load_balancers"] = {}
    elif name == "a VM on another host":
        other["vms"]["web1"]["host"] = "hv2"
    else:
        raise AssertionError(name)
    other["checks"] = []
    return other


CHANGES = (
    "a floating IP goes to another VM",
    "no floating IP",
    "another gateway host first",
    "another policy",
    "a backend less",
    "no load balancers",
    "one way out",
    "no DHCP and no names",
    "a VM less",
    "a VM on another host",
)


@pytest.mark.parametrize("name", CHANGES)
def test_there_and_back_leaves_the_same_rows_and_disturbs_nobody(
    red: Lab, vpc: dict[str, Any], name: str
) -> None:
    before = rows(red)
    concerned = Ping(red, "web3", "192.168.2.11")
    beside = Ping(red, "bweb1", "203.0.113.1")
    red.apply(changed(vpc, name))
    assert rows(red) != before
    red.apply(vpc)
    assert beside.lost() == 0
    assert concerned.lost() == 0
    assert rows(red) == before
    netctl("plan", red.file)


def test_a_floating_ip_moves_with_its_vm(red: Lab, vpc: dict[str, Any]) -> None:
    moved = deepcopy(vpc)
    moved["vms"]["web1"]["host"] = "hv2"
    moved["checks"] = [
        {"from": "server", "to": "203.0.113.60", "protocol": "tcp", "port": 22, "expect": "delivered"},
        {"from": "web1", "to": "server", "expect": "delivered", "snat": "203.0.113.60", "via": ["tor1"]},
    ]
    red.apply(moved)
    netctl("test", red.file, "--lab", red.name)
    red.apply(vpc)
    assert gateway(red, "red/internet") == "hv1"


def test_who_loses_a_floating_ip_leaves_as_it_no_more_nor_in_what_goes_on(
    red: Lab, vpc: dict[str, Any]
) -> None:
    """A stream of datagrams from one port: conntrack would go on with the address of before."""
    words = (
        "import socket; s = socket.socket(2, 2); s.bind(('', 5555)); s.sendto(b'x', ('203.0.113.1', 4000))"
    )

    def source() -> str:
        dump = red.start("server", "timeout", "5", "tcpdump", "-c1", "-lni", "eth0", "udp port 4000")
        assert dump.stdout
        dump.stdout.readline()
        dump.stdout.readline()
        red.run("web1", "python3", "-c", words)
        found = re.search(r"IP ([0-9.]+)\.\d+ > ", dump.communicate(timeout=20)[0])
        assert found
        return found[1]

    assert source() == "203.0.113.60"
    red.apply(changed(vpc, "a floating IP goes to another VM"))
    assert source() != "203.0.113.60"
    red.apply(vpc)
    assert source() == "203.0.113.60"


def test_an_address_that_is_used_anew_is_its_new_owners_at_once(red: Lab, vpc: dict[str, Any]) -> None:
    """Neighbours know it by the MAC address of the VM that is gone; and its floating IP goes along."""
    red.run("web2", "ping", "-c1", "-W2", "192.168.1.11")
    anew = deepcopy(vpc)
    del anew["vms"]["web1"]
    anew["vms"]["heir"] = {"host": "hv3", "nics": [{"subnet": "red-web", "ip": "192.168.1.11"}]}
    anew["vpcs"]["red"]["floating_ips"]["203.0.113.60"] = "heir"
    anew["vpcs"]["red"]["load_balancers"] = {}
    anew["checks"] = [
        {"from": "server", "to": "203.0.113.60", "protocol": "tcp", "port": 22},
        {"from": "heir", "to": "server", "snat": "203.0.113.60", "via": ["tor1"]},
    ]
    red.apply(anew)
    red.run("web2", "ping", "-c1", "-W1", "192.168.1.11")
    netctl("test", red.file, "--lab", red.name)
    red.apply(vpc)
    red.run("web2", "ping", "-c1", "-W1", "192.168.1.11")


def test_a_reroute_goes_before_the_route_table(red: Lab, vpc: dict[str, Any]) -> None:
    """db1 reaches web1 by way of web3, which forwards; and an address that nothing else leads to."""
    by_web3 = deepcopy(vpc)
    by_web3["vpcs"]["blue"] = {
        "routing_policies": [{"priority": 5, "to": "10.77.0.0/16", "action": {"reroute": "192.168.1.11"}}]
    }
    by_web3["vpcs"]["red"]["routing_policies"].append(
        {"priority": 300, "from": "red-db", "to": "192.168.1.11", "protocol": "udp", "port": 4000,
         "action": {"reroute": "192.168.1.13"}}
    )  # fmt: skip
    by_web3["subnets"]["blue-db"] = {"type": "overlay", "vpc": "blue", "cidr": "192.168.2.0/24"}
    by_web3["vms"]["bdb1"] = {"host": "hv3", "nics": [{"subnet": "blue-db", "ip": "192.168.2.11"}]}
    by_web3["checks"] = [{"from": "db1", "to": "web1", "protocol": "udp", "port": 4000}]
    red.apply(by_web3)
    netctl("test", red.file, "--lab", red.name)
    red.run("bweb1", "ip", "address", "add", "10.77.0.1/32", "dev", "lo")
    seen = listening(red, "web1", "udp port 4000", lambda: send(red, "db1", "192.168.1.11", 4000))
    assert len(seen) == 1 and "ttl 62" in seen[0], seen  # by two routers: the VPC's, and web3
    assert "1 received" in red.run("bdb1", "ping", "-c1", "-W2", "10.77.0.1")
    assert "0 received" in red.run("bdb1", "ping", "-c1", "-W1", "10.78.0.1", code=1)
    red.apply(vpc)


def send(lab: Lab, node: str, address: str, port: int) -> None:
    lab.run(node, "python3", "-c", f"import socket; socket.socket(2, 2).sendto(b'x', ({address!r}, {port}))")


def listening(lab: Lab, node: str, expression: str, act: Any) -> list[str]:
    """What tcpdump at a guest's NIC saw of one act."""
    dump = lab.start(node, "timeout", "3", "tcpdump", "-lvni", "eth0", "-Q", "in", expression)
    assert dump.stdout
    dump.stdout.readline()  # "listening on"
    act()
    text, _ = dump.communicate(timeout=20)
    return [line for line in text.splitlines() if "ttl" in line]


def test_what_does_not_fit_is_told(red: Lab, vpc: dict[str, Any]) -> None:
    small = deepcopy(vpc)
    small["subnets"]["red-web"]["mtu"] = 1400
    small["checks"] = []
    red.apply(small)
    said = red.run("db1", "ping", "-c2", "-M", "do", "-s", "1472", "192.168.1.12", code=1)
    assert "mtu = 1400" in said or "mtu=1400" in said, said
    red.apply(vpc)
