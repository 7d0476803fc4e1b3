"""What others made on the machine and in the databases survives everything that netctl does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from dataplane import netns
from netctl.errors import ChangeError
from tests.live.conftest import Lab, netctl
from tests.live.test_lifecycle import address


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def foreign_namespace(lab: Lab) -> Iterator[str]:
    """A namespace that looks like a node of the lab but is somebody else's."""
    name = f"{lab.name}.stranger"
    ip("netns", "add", name)
    yield name
    ip("netns", "delete", name)


def test_a_foreign_namespace_survives(lab: Lab, first_lab: dict[str, Any], foreign_namespace: str) -> None:
    lab.up(first_lab)
    first_lab["vms"].pop("app1")
    first_lab["checks"] = []
    lab.apply(first_lab)
    lab.down()
    assert foreign_namespace in os.listdir("/run/netns")
    # `remains` would take it for the lab's.
    os.stat(f"/run/netns/{foreign_namespace}")


def test_a_taken_name_is_a_conflict_and_changes_nothing(lab: Lab, first_lab: dict[str, Any]) -> None:
    ip("netns", "add", f"{lab.name}.hv1")
    try:
        done = netctl("up", lab.write(first_lab), code=4)
        assert f"{lab.name}.hv1" in done.err
        assert lab.remains() == [f"namespace {lab.name}.hv1"]
    finally:
        ip("netns", "delete", f"{lab.name}.hv1")


def test_foreign_links_bridges_and_rows_survive(lab: Lab, first_lab: dict[str, Any]) -> None:
    lab.up(first_lab)
    hv1, web1 = lab.namespace("hv1"), lab.namespace("web1")
    ip("-n", hv1, "link", "add", "mine0", "type", "veth", "peer", "name", "mine1")
    ip("-n", web1, "link", "add", "brmine", "type", "bridge")
    lab.tool("hv1", "ovs-vsctl", "add-br", "brMine", "--", "set", "bridge", "brMine", "datapath_type=netdev")
    lab.tool("hv1", "ovs-vsctl", "add-port", "br0", "mine0")
    lab.tool("_central", "ovn-nbctl", "ls-add", "mine", "--", "lsp-add", "mine", "mine-port")
    lab.tool("_central", "ovn-nbctl", "lsp-add", "web", "guest-of-web")
    lab.tool("_central", "ovn-nbctl", "pg-add", "my_group")
    assert netctl("plan", lab.file, "--json").json()["changes"] == []
    first_lab["vms"].pop("app1")
    first_lab["subnets"]["web"]["vlan"] = 99
    first_lab["checks"] = []
    lab.apply(first_lab)
    assert "mine0" in lab.run("hv1", "ip", "-o", "link")
    assert "brmine" in lab.run("web1", "ip", "-o", "link")
    assert "brMine" in lab.tool("hv1", "ovs-vsctl", "list-br")
    assert "mine0" in lab.tool("hv1", "ovs-vsctl", "list-ports", "br0")
    assert "mine-port" in lab.tool("_central", "ovn-nbctl", "lsp-list", "mine")
    assert "guest-of-web" in lab.tool("_central", "ovn-nbctl", "lsp-list", "web")
    assert "my_group" in lab.tool("_central", "ovn-nbctl", "list", "Port_Group")


@pytest.mark.parametrize(
    "damage",
    [
        "nb lsp-del web1/0",
        "nb lsp-set-addresses web2/0 00:00:00:00:00:99",
        "nb ls-del app",
        "nb lr-del shop",
        "hv2 set port br0-up bond_mode=balance-slb",
        "hv2 del-port br0-up",
        "hv1 del-br brAtlas",
        "hv1 remove open . external_ids ovn-bridge-mappings",
        "tor1 del-br br",
        "tor1 del-flows br",
        "hv1 del-flows br0",
    ],
)
def test_tampering_is_seen_and_put_right(lab: Lab, first_lab: dict[str, Any], damage: str) -> None:
    lab.up(first_lab)
    where, *command = damage.split()
    if where == "nb":
        lab.tool("_central", "ovn-nbctl", *command)
    else:
        tool = "ovs-ofctl" if command[0] == "del-flows" else "ovs-vsctl"
        lab.tool(where, tool, *command)
    assert netctl("plan", lab.file, code=10).out
    netctl("apply", lab.file)
    assert netctl("plan", lab.file, "--json").json()["changes"] == []
    lab.run("web1", "ping", "-c1", "-W1", "-n", address(lab, "web2"))
    lab.run("app1", "ping", "-c1", "-W1", "-n", address(lab, "db1"))


@pytest.mark.parametrize(
    ("node", "command"),
    [
        ("hv1", "ip link del eth0"),
        ("tor2", "ip link del hv2.eth1"),
        ("web1", "ip link del eth0"),
        ("app1", "ip addr flush dev eth0"),
        ("db1", "ip link set eth0 down"),
        ("db1", "ip route del default"),
        ("app1", "ip route flush table main"),
        ("web1", "ip route del 10.10.0.0/24"),
        ("hv2", "ip addr flush dev br0"),
        ("hv1", "ip link del virbr0"),
    ],
)
def test_a_broken_rack_is_mended(lab: Lab, first_lab: dict[str, Any], node: str, command: str) -> None:
    lab.up(first_lab)
    lab.run(node, *command.split())
    assert netctl("plan", lab.file, code=10).out
    netctl("apply", lab.file)
    assert netctl("plan", lab.file, "--json").json()["changes"] == []
    lab.run("web1", "ping", "-c1", "-W1", "-n", address(lab, "web2"))
    lab.run("app1", "ping", "-c1", "-W1", "-n", address(lab, "db1"))


def test_a_namespace_that_was_deleted_is_made_again(lab: Lab, first_lab: dict[str, Any]) -> None:
    lab.up(first_lab)
    ip("netns", "delete", lab.namespace("web1"))
    ip("netns", "delete", lab.namespace("hv2"))
    netctl("apply", lab.file)
    lab.run("web1", "ping", "-c1", "-W1", "-n", address(lab, "web2"))
    lab.run("app1", "ping", "-c1", "-W1", "-n", address(lab, "db1"))


def test_a_name_whose_namespace_has_just_gone_is_nobodys(lab: Lab) -> None:
    """As `down` of one lab may see another one's, between its unmount and its end."""
    name = f"{lab.name}.passing"
    netns.path(name).touch()
    try:
        assert netns.owner_of(name) is None
        with pytest.raises(ChangeError, match="gone"):
            netns.inside(name, lambda: None)
    finally:
        netns.path(name).unlink()
    assert netns.owner_of(name) is None
