"""What ovs-vswitchd says of bonds, as recorded from OVS 4.0, and what `netctl bond` makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane.bonds import Partner, Share, parse, parse_partner, parse_recirculation, parse_shares
from netctl.cli import bond as command

SLB = """\
---- br0-up ----
bond_mode: balance-slb
bond may use recirculation: no, Recirc-ID : -1
bond-hash-basis: 0
lb_output action: disabled, bond-id: -1
all members active: false
updelay: 0 ms
downdelay: 0 ms
next rebalance: 3903 ms
lacp_status: off
lacp_fallback_ab: false
active-backup primary: <none>
active member mac: de:fc:ce:fa:ae:44(eth1)

member eth0: enabled
  may_enable: true
  hash 7: 3 kB load

member eth1: enabled
  active member
  may_enable: true
  hash 124: 42 kB load
  hash 9: 1 kB load

"""

TCP = """\
---- br0-up ----
bond_mode: balance-tcp
bond may use recirculation: yes, Recirc-ID : 10
bond-hash-basis: 0
next rebalance: 5737 ms
lacp_status: negotiated
lacp_fallback_ab: false
active member mac: 2e:db:b1:d5:cd:a0(eth0)

member eth0: enabled
  active member
  may_enable: true

member eth1: disabled
  may_enable: false
"""

LACP = """\
---- br0-up ----
  status: active negotiated
  sys_id: 0a:61:68:76:00:03
  aggregation key: 1
  lacp_time: fast

member: eth0: current attached
  port_id: 2
  may_enable: true

  actor sys_id: 0a:61:68:76:00:03
  actor port_id: 2
  actor key: 1
  actor state: activity timeout aggregation synchronized collecting distributing

  partner sys_id: 0a:61:6d:00:00:01
  partner sys_priority: 65535
  partner port_id: 6
  partner port_priority: 65535
  partner key: 24
  partner state: activity timeout synchronized collecting distributing

member: eth1: defaulted detached
  port_id: 1
  may_enable: false

  actor key: 1
  partner sys_id: 00:00:00:00:00:00
  partner port_id: 0
  partner key: 0
  partner state:
"""

FLOWS = """\
duration=36s, n_packets=143, n_bytes=96378, priority=0,actions=NORMAL
table_id=254, duration=21s, n_bytes=0, priority=20,recirc_id=0xa,dp_hash=0x55/0xff,actions=output:1
table_id=254, duration=21s, n_bytes=0, priority=20,recirc_id=0xa,dp_hash=0x2/0xff,actions=output:2
table_id=254, duration=21s, n_bytes=0, priority=20,recirc_id=0xb,dp_hash=0x3/0xff,actions=output:2
table_id=254, duration=21s, n_bytes=0, priority=2,recirc_id=0,actions=drop
"""

PORTS = """\
netdev@ovs-netdev: hit:274 missed:13
  br0:
    br0 65534/1: (tap)
    eth0 2/3: (system)
    eth1 1/2: (system)
  brAtlas:
    ovn-hv1-0 2/6: (geneve: csum=true, key=flow)
    tap4 1/4: (system)
"""


def test_mode_members_and_the_active_one() -> None:
    found = parse("br0-up", SLB)
    assert (found.mode, found.running, found.active) == ("balance-slb", "balance-slb", "eth1")
    assert (found.members, found.lacp, found.fallback) == ({"eth0": True, "eth1": True}, "off", False)


def test_lacp_negotiated() -> None:
    found = parse("br0-up", TCP)
    assert (found.mode, found.running, found.lacp) == ("balance-tcp", "balance-tcp", "negotiated")
    assert found.members == {"eth0": True, "eth1": False}


@pytest.mark.parametrize(("fallback", "running"), [("true", "active-backup"), ("false", "")])
def test_lacp_without_a_partner(fallback: str, running: str) -> None:
    text = TCP.replace("negotiated", "configured").replace("ab: false", f"ab: {fallback}")
    found = parse("br0-up", text)
    assert (found.mode, found.lacp, found.running) == ("balance-tcp", "configured", running)


def test_partner_is_who_answers() -> None:
    assert parse_partner(LACP) == Partner(
        "0a:61:6d:00:00:01", 24, {"eth0": "current", "eth1": "defaulted"}, {"eth0": 6}
    )
    nobody = parse_partner(LACP.replace("eth0: current", "eth0: expired"))
    assert (nobody.system, nobody.key, nobody.ports) == (None, None, {})


def test_hashes_of_slb() -> None:
    assert parse_shares(SLB) == [Share(7, "eth0", 3), Share(9, "eth1", 1), Share(124, "eth1", 42)]


def test_hashes_of_tcp_are_those_of_the_bonds_own_recirculation() -> None:
    assert parse_recirculation(TCP, FLOWS, PORTS) == [Share(0x2, "eth0"), Share(0x55, "eth1")]
    assert parse_recirculation(SLB, FLOWS, PORTS) == []


def found(**changes: Any) -> dict[str, Any]:
    member = {"carrier": True, "enabled": True, "active": False, "lacp": None, "partner_port": None}
    return {
        "host": "hv1",
        "bridge": "br0",
        "bond": "br0-up",
        "members": [
            {**member, "name": "eth0", "hashes": 4, "active": True},
            {**member, "name": "eth1", "hashes": 1, "enabled": False},
            {**member, "name": "eth2", "hashes": 0, "carrier": False},
        ],
        "mode": "balance-slb",
        "running": "balance-slb",
        "lacp": "off",
        "partner": None,
        "hashes": [
            {"hash": number, "member": member, "load_kib": 1}
            for number, member in ((1, "eth0"), (2, "eth0"), (3, "eth0"), (7, "eth0"), (255, "eth1"))
        ],
        "sources": [],
        **changes,
    }


def test_neighbouring_hashes_are_drawn_together(capsys: pytest.CaptureFixture[str]) -> None:
    command.show(found())
    said = capsys.readouterr().out
    assert "hv1 br0-up: balance-slb" in said
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.startswith("eth")}
    assert rows == {
        "eth0*": ["up", "4", "1-3,", "7"],
        "eth1": ["disabled", "1", "255"],
        "eth2": ["no", "carrier", "0"],
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "none", "running": "none", "lacp": None}, "no bond"),
        ({"running": None, "lacp": None}, "balance-slb; ovs-vswitchd does not answer"),
        (
            {"mode": "balance-tcp", "running": "", "lacp": "configured"},
            "balance-tcp without a LACP partner: nothing passes",
        ),
        (
            {"mode": "balance-tcp", "running": "active-backup", "lacp": "configured"},
            "balance-tcp without a LACP partner: active-backup",
        ),
        (
            {"mode": "balance-tcp", "lacp": "negotiated", "partner": {"system": "0a:61:6d:1:2:3", "key": 8}},
            "balance-tcp, LACP with 0a:61:6d:1:2:3 key 8",
        ),
    ],
)
def test_a_bond_in_words(changes: dict[str, Any], words: str) -> None:
    assert command.describe(found(**changes)) == words
