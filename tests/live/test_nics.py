"""NICs of running VMs: limited, mirrored, plugged in and out, with the VM's other NICs undisturbed."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import Lab, Ping, netctl

STREAM = Path(__file__).parents[2] / "bench" / "stream.py"
PORT = 5001
SECONDS = 1


def two_vms(subnet: dict[str, Any], **first: Any) -> dict[str, Any]:
    """VMs a and b on two hosts, with a NIC each on the subnet under test; a has another NIC beside it."""
    return {
        "hosts": {"hv1": {}, "hv2": {}},
        "subnets": {
            "lan": {"vlan": 10, "cidr": "10.10.0.0/24", **subnet},
            "side": {"type": "vlan", "vlan": 20, "cidr": "10.20.0.0/24"},
        },
        "vms": {
            "a": {
                "host": "hv1",
                "nics": [
                    {"subnet": "lan", "ip": "10.10.0.11", **first},
                    {"subnet": "side", "ip": "10.20.0.11"},
                ],
            },
            "b": {
                "host": "hv2",
                "nics": [{"subnet": "lan", "ip": "10.10.0.12"}, {"subnet": "side", "ip": "10.20.0.12"}],
            },
        },
    }


def speed(lab: Lab, source: str, receiver: str, address: str) -> float:
    """Bits a second of one TCP stream, as the receiver counts them."""
    listening = lab.start(receiver, sys.executable, str(STREAM), "receive", str(PORT))
    try:
        assert listening.stdout is not None
        assert listening.stdout.readline().strip() == "listening"
        said = lab.run(source, sys.executable, str(STREAM), "send", address, str(PORT), str(SECONDS))
        listening.wait(timeout=60)
    finally:
        listening.kill()
        listening.communicate()
    found = json.loads(said)
    return float(found["bytes"] * 8 / found["seconds"])


def out_and_in(lab: Lab) -> tuple[float, float]:
    """Bits a second from a, and to a."""
    return speed(lab, "a", "b", "10.10.0.12"), speed(lab, "b", "a", "10.10.0.11")


# --- rates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vlan", "vlan-basic"])
def test_a_rate_holds_each_way_changes_live_and_goes(lab: Lab, kind: str) -> None:
    """Ratios of what the same machine does with one limit and another: no speed is expected of it."""
    lab.up(two_vms({"type": kind}, rate="10mbit"))
    slow = out_and_in(lab)
    for measured in slow:
        assert 5e6 < measured < 10e6, "a limit is one, and it is used"

    beside = Ping(lab, "a", "10.20.0.12")
    wider = lab.write(two_vms({"type": kind}, rate="40mbit"))
    pending = netctl("plan", wider, code=10).out
    assert "tap" in pending and "its rate is 10 Mbit/s, not 40 Mbit/s" in pending
    netctl("apply", wider)
    assert netctl("plan", wider).code == 0
    fast = out_and_in(lab)
    for before, after in zip(slow, fast, strict=True):
        assert 3 < after / before < 5

    netctl("apply", lab.write(two_vms({"type": kind})))
    assert beside.lost() == 0
    assert "htb" not in lab.run("hv1", "tc", "qdisc", "show") + lab.run("a", "tc", "qdisc", "show")
    for before, after in zip(fast, out_and_in(lab), strict=True):
        assert after > 2 * before


def test_a_limit_that_a_guest_took_away_is_put_back(lab: Lab) -> None:
    file = lab.write(two_vms({"type": "vlan"}, rate="10mbit"))
    netctl("up", file)
    lab.run("a", "tc", "qdisc", "delete", "dev", "eth0", "root")
    assert "eth0: its rate is unlimited, not 10 Mbit/s" in netctl("plan", file, code=10).out
    netctl("apply", file)
    assert "htb" in lab.run("a", "tc", "qdisc", "show", "dev", "eth0")


def test_limits_outlive_the_switch(lab: Lab) -> None:
    """OVS takes queueing disciplines away that it does not know when it starts; not these."""
    file = lab.write(two_vms({"type": "vlan"}, rate="10mbit"))
    netctl("up", file)
    pidfile = Path(f"/run/netctl/{lab.name}/hv1/ovs-vswitchd.pid")
    os.kill(int(pidfile.read_text()), signal.SIGKILL)
    netctl("apply", file)
    assert 5e6 < speed(lab, "b", "a", "10.10.0.11") < 10e6


# --- plugged in and out ------------------------------------------------------------------------------------


def link(lab: Lab, node: str, device: str) -> dict[str, Any]:
    """A device as `ip` shows it; empty where there is none."""
    shown = json.loads(lab.run(node, "ip", "-json", "link", "show"))
    found: list[dict[str, Any]] = [each for each in shown if each["ifname"] == device]
    return found[0] if found else {}


def reaches(lab: Lab, source: str, address: str) -> bool:
    return " 0% packet loss" in lab.run(source, "ping", "-c2", "-i0.2", "-W1", address, code=None)


@pytest.mark.parametrize("kind", ["vlan", "vlan-basic", "overlay"])
def test_nics_come_go_and_change_while_the_others_work(lab: Lab, kind: str) -> None:
    intent = two_vms({"type": kind})
    intent["subnets"]["more"] = {"type": kind, "vlan": 11, "cidr": "10.11.0.0/24"}
    intent["vms"]["b"]["nics"].append({"subnet": "more"})
    if kind == "overlay":
        intent["vpcs"] = {"shop": {}}
        for name in ("lan", "more"):
            del intent["subnets"][name]["vlan"]
            intent["subnets"][name]["vpc"] = "shop"
    nics: list[dict[str, Any]] = intent["vms"]["a"]["nics"]
    lan, side = nics
    lab.up(intent)
    beside = Ping(lab, "a", "10.20.0.12")

    def becomes(*wanted: dict[str, Any]) -> None:
        nics[:] = wanted
        lab.apply(intent)
        assert netctl("plan", lab.file).code == 0

    # Plugged in: a third NIC, which gets an address, a MAC of AHV's OUI, and packets.
    becomes(lan, side, {"subnet": "more"})
    third = next(nic for nic in netctl("status", lab.name, "--json").json()["nics"] if nic["nic"] == 2)
    assert third["mac"].startswith("50:6b:8d:") and link(lab, "a", "eth2")["address"] == third["mac"]
    assert reaches(lab, "b", third["ip"])

    # The cable taken out and put in again.
    becomes({**lan, "link": "down"}, side, {"subnet": "more"})
    assert "NO-CARRIER" in link(lab, "a", "eth0")["flags"]
    assert not reaches(lab, "b", "10.10.0.11")
    becomes(lan, side, {"subnet": "more"})
    assert "NO-CARRIER" not in link(lab, "a", "eth0")["flags"]
    assert reaches(lab, "b", "10.10.0.11")

    # Another MAC address, and the pool's again: the one that it had. Who knew the old one has to ask anew.
    pooled = link(lab, "a", "eth0")["address"]
    becomes({**lan, "mac": "50:6b:8d:00:00:77"}, side, {"subnet": "more"})
    assert link(lab, "a", "eth0")["address"] == "50:6b:8d:00:00:77"
    lab.run("b", "ip", "neighbour", "flush", "dev", "eth0")
    assert reaches(lab, "b", "10.10.0.11")
    assert "50:6b:8d:00:00:77" in lab.run("b", "ip", "neighbour", "show", "10.10.0.11")
    becomes(lan, side, {"subnet": "more"})
    assert link(lab, "a", "eth0")["address"] == pooled
    lab.run("b", "ip", "neighbour", "flush", "dev", "eth0")
    assert reaches(lab, "b", "10.10.0.11")

    # Plugged out.
    becomes(lan, side)
    assert link(lab, "a", "eth2") == {} and link(lab, "hv1", third["tap"]) == {}
    assert not reaches(lab, "b", third["ip"])
    assert reaches(lab, "b", "10.10.0.11")
    assert beside.lost() == 0
