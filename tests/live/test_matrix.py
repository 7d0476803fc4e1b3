"""`netctl matrix` on a real lab: yes where packets pass, no where they do not, and why it was not tried."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from dataplane.checks import Reach, matrix
from netctl import intent as intents

from .conftest import Lab, netctl

pytestmark = pytest.mark.live

NETWORKS = ({"web1/0", "web2/0"}, {"web2/1"}, {"app1/0", "db1/0"})
BARE = "db1/1"


@pytest.fixture
def up(lab: Lab, first_lab: dict[str, Any]) -> Lab:
    """first-lab, where web2 has a second NIC in a VLAN of its own and db1 one without an address."""
    first_lab["subnets"]["lone"] = {"type": "vlan", "vlan": 12, "cidr": "10.12.0.0/24"}
    first_lab["subnets"]["raw"] = {"type": "vlan", "vlan": 11}
    first_lab["vms"]["web2"]["nics"].append({"subnet": "lone"})
    first_lab["vms"]["db1"]["nics"].append({"subnet": "raw"})
    lab.up(first_lab)
    return lab


def found(lab: Lab, *arguments: str) -> dict[tuple[str, str], Reach]:
    document = netctl("matrix", "--lab", lab.name, "--json", *arguments).json()
    return {
        (each["from"], each["to"]): Reach(
            each["from"], each["to"], each["delivered"], each["rtt_ms"], each["seen"]
        )
        for each in document["pairs"]
    }


def expected(one: str, other: str) -> bool | None:
    if one.partition("/")[0] == other.partition("/")[0] or BARE in (one, other):
        return None
    return any({one, other} <= network for network in NETWORKS)


@pytest.mark.parametrize(
    "how", [(), ("--protocol", "tcp", "--port", "80"), ("--protocol", "udp", "--port", "53")]
)
def test_who_reaches_whom(up: Lab, how: tuple[str, ...]) -> None:
    names = set().union(*NETWORKS, {BARE})
    seen = found(up, *how)
    assert set(seen) == {(one, other) for one in names for other in names if one != other}
    assert {pair: each.delivered for pair, each in seen.items()} == {pair: expected(*pair) for pair in seen}
    for each in seen.values():
        assert (each.rtt_ms is not None) == (each.delivered is True), each
    assert seen["web2/0", "web2/1"].seen == "both are NICs of web2"
    assert seen["web1/0", BARE].seen == "db1/1 has no IPv4 address that netctl knows"
    assert "network is unreachable" in seen["web1/0", "app1/0"].seen


def test_what_breaks_shows(up: Lab, tmp_path: Path) -> None:
    up.run("hv2", "ip", "link", "set", "eth0", "down")
    up.run("hv2", "ip", "link", "set", "eth1", "down")
    seen = found(up, "web1", "web2/0", "app1", "db1/0")
    assert not any(each.delivered for each in seen.values())
    picture = tmp_path / "x.svg"
    words = netctl("matrix", "web1", "web2", "--lab", up.name, "-o", picture).out
    assert "0 of 4 pairs delivered, 2 not tried" in words and "no: never" in words
    titles = [title.text or "" for title in ElementTree.parse(picture).getroot().findall(".//{*}title")]
    assert sum(": no, never" in title for title in titles) == 4


def test_unknown_names_and_nothing_left(up: Lab) -> None:
    assert "nosuch" in netctl("matrix", "--lab", up.name, "web1", "nosuch", code=2).err
    intent = intents.load(up.file)
    matrix(intent, up.name)
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    matrix(intent, up.name, "tcp", 80)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
