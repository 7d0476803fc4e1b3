"""The checks on a real rack: break it by hand in many ways; each is caught, and the words name the place."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from dataplane import netns, processes
from dataplane.checks import Result, run_checks
from netctl import intent as intents
from netctl.model import Intent
from netctl.model.check import Check

from .conftest import Lab

pytestmark = pytest.mark.live

WEB = "same VLAN across hosts"
ROUTED = "routed inside the VPC"
LARGE = "large packets too"
DESK = "a bare machine in the VLAN"
CLOSED = "a VPC is closed to a VLAN"


class Broken:
    """A running first-lab with a third guest in its VLAN, and what it takes to break it."""

    def __init__(self, lab: Lab, first_lab: dict[str, Any]) -> None:
        first_lab["vms"]["web3"] = {"host": "hv2", "nics": [{"subnet": "web"}]}
        first_lab["physical"] = {"desk": {"switch": "tor1", "vlan": 10, "ip": "10.10.0.200/24"}}
        first_lab["checks"].append({"name": DESK, "from": "desk", "to": "web1"})
        self.lab = lab
        lab.up(first_lab)
        self.intent: Intent = intents.load(lab.file)

    def checks(self) -> dict[str, Result]:
        return {result.name: result for result in run_checks(self.intent, self.lab.name)}

    def tap(self, vm: str) -> str:
        return self.intent.port(vm).tap

    def vsctl(self, node: str, *arguments: str) -> None:
        self.lab.tool(node, "ovs-vsctl", *arguments)

    def ofctl(self, host: str, command: str, *arguments: str) -> str:
        return self.lab.tool(host, "ovs-ofctl", "-OOpenFlow15", command, "brAtlas", *arguments)

    def flow(self, host: str, flow: str) -> None:
        self.ofctl(host, "add-flow", f"table=0,priority=65535,{flow}")

    def settle(self) -> None:
        """Wait until no datapath uses what it has cached from before the change (ovs-vswitchd(8))."""
        for node in ("hv1", "hv2", "tor1", "tor2"):
            self.lab.tool(node, "ovs-appctl", "revalidator/wait")

    def nbctl(self, *arguments: str) -> None:
        """Change the northbound database and wait until the hosts have it; a stopped one never will."""
        self.lab.tool("_central", "ovn-nbctl", *arguments)

    def stop(self, host: str, daemon: str) -> None:
        """Stop a daemon where it is, so that it does not mend what is broken next."""
        inode = netns.inode(self.lab.namespace(host))
        assert inode
        for found in processes.living_in({inode})[inode]:
            if found.program == daemon:
                os.kill(found.pid, signal.SIGSTOP)


def no_localnet_port(rack: Broken) -> None:
    rack.nbctl("--wait=hv", "lsp-del", "web@vs0")


def no_patch_port(rack: Broken) -> None:
    rack.stop("hv1", "ovn-controller")
    rack.vsctl("hv1", "del-port", "br0", "patch-web@vs0-to-brAtlas")


def stopped_controller_and_a_change(rack: Broken) -> None:
    rack.stop("hv2", "ovn-controller")
    tap = rack.tap("db1")
    rack.vsctl("hv2", "del-port", "brAtlas", tap)
    rack.vsctl("hv2", "add-port", "brAtlas", tap, "--", "set", "interface", tap, "ofport_request=99")


def no_router_port(rack: Broken) -> None:
    rack.nbctl("--wait=hv", "lrp-del", "shop/db")


def switch_port_without_the_vlan(rack: Broken) -> None:
    for switch, nic in (("tor1", "eth0"), ("tor2", "eth1")):
        rack.vsctl(switch, "set", "port", f"hv1.{nic}", "trunks=0,20")


def both_uplinks_down(rack: Broken) -> None:
    for nic in ("eth0", "eth1"):
        rack.lab.run("hv1", "ip", "link", "set", nic, "down")


def copies_of_everything(rack: Broken) -> None:
    rack.vsctl(
        "hv2",
        *("--", "--id=@out", "get", "port", rack.tap("web3")),
        *("--", "--id=@all", "create", "mirror", "name=all", "select_all=true", "output_port=@out"),
        *("--", "set", "bridge", "brAtlas", "mirrors=@all"),
    )


def narrow_tap(rack: Broken) -> None:
    rack.lab.run("hv2", "ip", "link", "set", rack.tap("db1"), "mtu", "1000")


def rogue_drop(rack: Broken) -> None:
    rack.flow("hv1", f"in_port={rack.tap('web1')},ip,actions=drop")


def rogue_shortcut(rack: Broken) -> None:
    mac = rack.intent.port("app1").mac
    rack.flow("hv1", f"in_port={rack.tap('web1')},ip,dl_dst={mac},actions=output:{rack.tap('app1')}")


def rogue_tag(rack: Broken) -> None:
    tap = rack.tap("web1")
    rack.flow("hv1", f"in_port={tap},ip,actions=push_vlan:0x8100,set_field:4106->vlan_vid,resubmit(,8)")


def receivers_address_changed(rack: Broken) -> None:
    rack.nbctl("--wait=hv", "lsp-set-addresses", "db1/0", "02:00:00:00:00:99 192.168.2.20")


def twice(rack: Broken) -> None:
    """Table 65 puts a packet out at its port (ovn-architecture(7)): there, do so twice."""
    number = rack.lab.tool("hv2", "ovs-vsctl", "get", "interface", rack.tap("web2"), "ofport").strip()
    flows = rack.ofctl("hv2", "dump-flows", "--no-stats", "table=65").splitlines()
    [flow] = [line.strip() for line in flows if f"output:{number}" in line.split("actions=")[1].split(",")]
    match, action = flow.replace("priority=100", "priority=101").split(" actions=")
    rack.ofctl("hv2", "add-flow", f"{match} actions={action},{action}")


MUTATIONS: dict[Callable[[Broken], None], dict[str, str]] = {
    # Between hosts OVN goes over the tunnel then: only the bare machine is cut off.
    no_localnet_port: {DESK: "last seen in at hv1 eth"},
    no_patch_port: {
        WEB: "last seen in at hv1 {web1}, not out at hv1 eth0 or eth1",
        DESK: "last seen in at hv1 eth",
    },
    stopped_controller_and_a_change: {ROUTED: "not out at hv2 {db1}", LARGE: "not out at hv2 {db1}"},
    no_router_port: {ROUTED: "last seen in at hv1 {app1}", LARGE: "last seen in at hv1 {app1}"},
    switch_port_without_the_vlan: {WEB: "last seen in at tor", DESK: "last seen in at tor"},
    both_uplinks_down: {
        WEB: "last seen in at hv1 {web1}, not out at hv1 eth0 or eth1",
        ROUTED: "last seen in at hv1 {app1}, not out at hv1 eth0 or eth1",
        LARGE: "last seen in at hv1 {app1}, not out at hv1 eth0 or eth1",
        DESK: "last seen in at tor",
    },
    copies_of_everything: {
        WEB: "seen at web3/0, which it is not for",
        ROUTED: "seen at web3/0, which it is not for",
        LARGE: "seen at web3/0, which it is not for",
    },
    narrow_tap: {LARGE: "not out at hv2 {db1}"},
    rogue_drop: {
        WEB: "last seen in at hv1 {web1}, not out at hv1 eth0 or eth1",
        DESK: "last seen answer in at hv1 {web1}",
    },
    rogue_shortcut: {CLOSED: "arrived at app1/0"},
    rogue_tag: {WEB: "last seen in at hv1 {web1}", DESK: "last seen answer in at hv1 {web1}"},
    receivers_address_changed: {ROUTED: "not out at hv2 {db1}", LARGE: "not out at hv2 {db1}"},
    twice: {WEB: "arrived twice at web2/0"},
}


def failures(results: dict[str, Result]) -> dict[str, str]:
    """What was seen by the checks that failed."""
    return {
        name: "\n".join((result.seen, *result.evidence))
        for name, result in results.items()
        if not result.passed
    }


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda function: function.__name__)
def test_each_is_caught(lab: Lab, first_lab: dict[str, Any], mutate: Callable[[Broken], None]) -> None:
    rack = Broken(lab, first_lab)
    before = rack.checks()
    assert not failures(before)
    mutate(rack)
    rack.settle()
    names = {vm: rack.tap(vm) for vm in ("web1", "app1", "db1")}
    after = rack.checks()
    for name, words in MUTATIONS[mutate].items():
        assert words.format(**names) in failures(after).get(name, "passed")
    spared = set(after) - set(MUTATIONS[mutate])
    assert not failures({name: after[name] for name in spared})


def test_which_way_it_goes(lab: Lab, first_lab: dict[str, Any]) -> None:
    """The uplink and the switches are seen, with and without a tunnel."""
    demands: list[dict[str, Any]] = [
        {"from": "web1", "to": "web2", "on_uplink": "eth0"},
        {"from": "web1", "to": "web2", "on_uplink": "eth1"},
        {"from": "app1", "to": "db1", "on_uplink": "eth0"},
        {"from": "app1", "to": "db1", "on_uplink": "eth1"},
        {"from": "app1", "to": "db1", "via": ["tor1", "tor2"]},
        {"from": "app1", "to": "db1", "via": ["tor2"]},
        {"from": "web2", "to": "web3", "via": []},
    ]
    rack = Broken(lab, first_lab)
    checks = [Check.model_validate(demand) for demand in demands]
    file = rack.intent.file.model_copy(update={"checks": checks})
    found = run_checks(dataclasses.replace(rack.intent, file=file), lab.name)
    assert [sum(result.passed for result in found[at : at + 2]) for at in (0, 2)] == [1, 1], found
    assert found[-1].passed, found[-1]
    assert all("instead of" in result.seen for result in found if not result.passed), found


def test_a_packet_that_fresh_switches_flood_goes_no_other_way(lab: Lab, first_lab: dict[str, Any]) -> None:
    """Right after a change the MAC tables are empty, and every switch sees the first packet."""
    rack = Broken(lab, first_lab)
    checks = [Check.model_validate({"from": "web1", "to": "web2", "via": ["tor1"], "on_uplink": "eth0"})]
    file = rack.intent.file.model_copy(update={"checks": checks})
    intent = dataclasses.replace(rack.intent, file=file)
    for _ in range(5):
        for node in ("hv1", "hv2", "tor1", "tor2"):
            for bridge in lab.tool(node, "ovs-vsctl", "list-br").split():
                lab.tool(node, "ovs-appctl", "fdb/flush", bridge)
        [result] = run_checks(intent, lab.name)
        assert result.passed, (result.seen, result.evidence)
    wrong = checks[0].model_copy(update={"via": ["tor2"]})
    intent = dataclasses.replace(rack.intent, file=file.model_copy(update={"checks": [wrong]}))
    [result] = run_checks(intent, lab.name)
    assert "crossed tor1 instead of tor2" in result.seen
