"""Network functions: a firewall's rules, and when one is dead; without a switch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dataplane import health, processor, punt
from netctl.compile.chains import NETWORK_FUNCTIONS
from netctl.model import functions


def test_who_probes_and_who_compiles_agree() -> None:
    assert NETWORK_FUNCTIONS["around"] == functions.AROUND
    assert health.CONTROLLER_ID == functions.PROBE_ID != punt.CONTROLLER_ID
    assert processor.PROBE_MAC == functions.PROBE_MAC
    assert health.PROBE_MAC.hex(":") == functions.PROBE_MAC


@pytest.mark.parametrize(
    ("rule", "lines"),
    [
        ("deny tcp/23", ["tcp dport 23 counter drop"]),
        ("allow udp/5000-5010", ["udp dport 5000-5010 counter accept"]),
        ("deny icmp/8", ["icmp type 8 counter drop"]),
        ("deny icmp", ["ip protocol icmp counter drop"]),
        ("deny icmp6", ["ip6 nexthdr ipv6-icmp counter drop"]),
        ("allow tcp", ["ip protocol tcp counter accept", "ip6 nexthdr tcp counter accept"]),
        ("deny any", ["counter drop"]),
    ],
)
def test_rules_of_a_firewall(rule: str, lines: list[str]) -> None:
    text = [line.strip() for line in processor.ruleset([rule]).splitlines()]
    first = text.index("type filter hook forward priority 0; policy accept;")
    assert text[first + 1 :] == [
        'iifname "out" accept',
        "ether saddr 0a:6e:66:00:00:01 accept",
        *lines,
        "}",
        "}",
    ]


def test_the_probe_is_a_ping_with_right_checksums() -> None:
    frame = health.probe(7)
    assert frame[6:12] == health.PROBE_MAC and frame[12:14] == b"\x08\x00"
    assert punt.checksum(frame[14:34]) == 0 and punt.checksum(frame[34:]) == 0
    assert frame[34] == 8


class Told(health.Health):
    """What would be said to the switch, kept."""

    said: list[str]

    def _switch(self, command: str, flow: str) -> None:
        self.said.append(f"{command} {flow}")


@pytest.fixture
def told(tmp_path: Path) -> Told:
    wanted = tmp_path / "functions.json"
    flow = {"flow": "table=13,reg8=0x1", "cookie": "0x500000000"}
    wanted.write_text(json.dumps({"fw": {"enter": "fw.in", "leave": "fw.out", **flow}}))
    made = Told(str(wanted), str(tmp_path / "health.json"), "ovs-ofctl", "unix:none")
    made.said = []
    made.look()
    return made


def feed(told: Told, probes: str) -> list[Any]:
    """`.` came out, `x` is lost: what is known of the function after each."""
    state, known = told.states["fw"], []
    for probe in probes:
        told.take(state, probe == ".")
        known.append(state.alive)
    return known


def test_four_lost_are_a_death_and_two_a_new_life(told: Told) -> None:
    assert feed(told, "..") == [None, True]
    assert feed(told, "xxx.xxx") == [True] * 7, "one that comes out starts the count anew"
    assert feed(told, "x") == [False]
    assert told.said[-1] == "add-flow cookie=0x500000000,table=13,reg8=0x1,actions=set_field:1->reg10"
    assert feed(told, ".x..") == [False, False, False, True] or told.states["fw"].alive
    assert told.said[-1] == "del-flows cookie=0x500000000/-1,table=13,reg8=0x1"


def test_one_that_never_lived_is_dead_after_four(told: Told) -> None:
    assert feed(told, "xxxx") == [None, None, None, False]


def test_a_function_that_is_gone_leaves_no_flow(told: Told, tmp_path: Path) -> None:
    feed(told, "xxxx")
    (tmp_path / "functions.json").write_text("{}")
    told.look()
    assert told.states == {}
    assert told.said[-1].startswith("del-flows ")


def test_ports_by_name() -> None:
    def port(number: int, name: str) -> bytes:
        return number.to_bytes(4, "big") + bytes(12) + name.encode().ljust(16, b"\0") + bytes(32)

    body = b"\x00\x0d\x00\x00" + bytes(4) + port(3, "fw.in") + port(0xFFFFFFFE, "br.nf")
    assert health.ports(body) == {"fw.in": 3, "br.nf": 0xFFFFFFFE}
