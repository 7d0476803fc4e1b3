"""netctl trace: the verdict that packets confirm, and the place that somebody broke."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

from tests.live.conftest import Lab, netctl


def story(lab: Lab, source: str, target: str, *options: str) -> dict[str, Any]:
    told: dict[str, Any] = netctl("trace", "--lab", lab.name, source, target, *options, "--json").json()
    return told


def test_the_verdict_is_what_packets_do(lab: Lab, first_lab: dict[str, Any]) -> None:
    pairs = list(permutations(("web1", "web2", "app1", "db1"), 2))
    same = ({"web1", "web2"}, {"app1", "db1"})
    checks = [
        {"from": one, "to": other, "expect": "delivered" if {one, other} in same else "dropped"}
        for one, other in pairs
    ]
    lab.up(first_lab | {"checks": checks})
    netctl("test", lab.file)
    for one, other in pairs:
        told = story(lab, one, other)
        assert told["delivered"] is ({one, other} in same), told
    assert story(lab, "app1", "db1")["verdict"] == "delivered to db1/0 on hv2"
    ways = [stage["what"] for stage in story(lab, "app1", "db1", "--port", "5432")["stages"]]
    assert any("VPC shop" in way for way in ways) and any("in Geneve" in way for way in ways), ways


def test_what_is_nobodys_and_what_the_router_answers(lab: Lab, first_lab: dict[str, Any]) -> None:
    lab.up(first_lab)
    assert "nobody in its subnet has the address" in story(lab, "web1", "10.10.0.77")["verdict"]
    assert "answered on hv1 by OVN itself" in story(lab, "app1", "192.168.1.1")["verdict"]
    netctl("trace", "--lab", lab.name, "web1", "nobody", code=2)
    netctl("trace", "--lab", lab.name, "web1", "web2", "--protocol", "tcp", code=2)


def test_it_names_a_flow_that_somebody_added(lab: Lab, first_lab: dict[str, Any]) -> None:
    lab.up(first_lab)
    lab.tool("tor1", "ovs-ofctl", "add-flow", "br", "priority=100,dl_vlan=10,actions=drop")
    told = story(lab, "web1", "web2")
    assert not told["delivered"]
    assert told["verdict"].startswith("dropped at tor1: a flow that is not netctl's in br"), told


def test_it_names_a_dead_cable(lab: Lab, first_lab: dict[str, Any]) -> None:
    lab.up(first_lab)
    for nic in ("eth0", "eth1"):
        netctl("fail", "--lab", lab.name, "link", "hv2", nic)
    told = story(lab, "web1", "web2")
    assert not told["delivered"], told
    netctl("heal", "--lab", lab.name, "all")
    assert story(lab, "web1", "web2")["delivered"]


def test_it_names_port_security(lab: Lab, first_lab: dict[str, Any]) -> None:
    lab.up(first_lab)
    lab.tool(
        "_central", "ovn-nbctl", f"--db=unix:/run/netctl/{lab.name}/_central/ovnnb_db.sock",
        "--wait=hv", "set", "Logical_Switch_Port", "web1/0", 'port_security=["00:00:00:00:00:01"]',
    )  # fmt: skip
    told = story(lab, "web1", "web2")
    assert "port security" in told["verdict"] and "subnet web" in told["verdict"], told


def test_it_changes_nothing(lab: Lab, first_lab: dict[str, Any]) -> None:
    lab.up(first_lab)
    before = lab.tool("tor1", "ovs-appctl", "-t", control(lab, "tor1"), "fdb/show", "br")
    story(lab, "web1", "web2")
    after = lab.tool("tor1", "ovs-appctl", "-t", control(lab, "tor1"), "fdb/show", "br")
    assert [line.split()[:3] for line in before.splitlines()] == [
        line.split()[:3] for line in after.splitlines()
    ]
    assert json.loads(netctl("plan", lab.file, "--json").out)["changes"] == []


def control(lab: Lab, node: str) -> str:
    pid = open(f"/run/netctl/{lab.name}/{node}/ovs-vswitchd.pid").read().strip()  # noqa: SIM115
    return f"/run/netctl/{lab.name}/{node}/ovs-vswitchd.{pid}.ctl"
