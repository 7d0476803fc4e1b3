from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from dataplane.checks import places
from dataplane.checks.places import Place
from netctl.errors import ConflictError, InputError
from netctl.model import Intent

Known = dict[str, Place]


def aim(intent: Intent, known: Known, source: str, target: str) -> dict[str, int | None]:
    found = places.target(intent, known, places.source(intent, known, source), target)
    return {place.name: port for place, port in found.servers.items()}


def test_every_nic_and_machine_is_a_place(known: Known) -> None:
    assert set(known) == {"w1/0", "w2/0", "w2/1", "w3/0", "t1/0", "r1/0", "r2/0", "b1/0", "b2/0", "server"}


def test_only_a_node_with_more_nics_binds_to_them(known: Known) -> None:
    assert [name for name, place in known.items() if place.binding] == ["w2/0", "w2/1"]
    assert known["w2/1"].binding == "eth1"


def test_segments(known: Known) -> None:
    assert known["w1/0"].segment == known["t1/0"].segment == ("vlan", "10")
    assert known["server"].segment == ("vlan", "30")
    assert known["r1/0"].segment != known["b1/0"].segment


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("w1", "w2", {"w2/0": None}),
        ("w1", "w2/1", {"w2/1": None}),
        ("w1", "server", {"server": None}),
        ("w1", "10.10.0.12", {"w2/0": None}),
        ("w1", "10.10.0.99", {}),
        ("server", "203.0.113.60", {"r1/0": None}),
        ("server", "203.0.113.70", {"r1/0": 8443, "r2/0": 8444}),
        # The same address in two VPCs: each means its own; from outside it means nobody.
        ("r1", "192.168.1.12", {"r2/0": None}),
        ("b1", "192.168.1.12", {"b2/0": None}),
    ],
)
def test_where_a_word_leads(
    intent: Intent, known: Known, source: str, target: str, expected: dict[str, int | None]
) -> None:
    assert aim(intent, known, source, target) == expected


@pytest.mark.parametrize("word", ["nobody", "w1/7", "10.10.0", "", None])
def test_words_that_lead_nowhere(intent: Intent, known: Known, word: str | None) -> None:
    with pytest.raises(InputError):
        places.source(intent, known, word)
    with pytest.raises(InputError):
        places.target(intent, known, known["w1/0"], word)


def test_a_real_vm_is_no_place_to_look_into(intent: Intent, known: Known) -> None:
    with pytest.raises(ConflictError, match="real VM"):
        places.source(intent, known, "real")


def test_unused_addresses(known: Known) -> None:
    assert places.unused(known, 20) == IPv4Address("10.20.0.253")
    assert places.unused(known, 99) is None


def test_points_are_taps_uplinks_and_switch_ports(points: Known) -> None:
    assert {"hv1 eth0", "hv1 eth1", "tor1 hv1.eth0", "tor2 hv3.eth1", "tor1 tor2.0", "tor2 tor1.0"} <= set(
        points
    )
    assert "tor1 server.eth0" in points
    assert sum(place.role == "tap" for place in points.values()) == 10  # a real VM has one too
