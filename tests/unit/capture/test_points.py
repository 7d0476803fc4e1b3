"""Points of a lab and the words for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from dataplane.capture.points import Catalogue, explain_port, usual
from netctl import intent as intents
from netctl.errors import InputError
from netctl.model import Intent

LABS = Path(__file__).parents[1] / "checks"

DEVICES = {
    "hv1": ["lo", "eth0", "eth1", "br0", "brAtlas", "virbr0", "vnet0", "tap1"],
    "hv1.cvm": ["lo", "eth1"],
    "tor1": ["lo", "br", "hv1.eth0"],
}


@pytest.fixture(scope="module")
def intent() -> Intent:
    return intents.load(LABS / "lab.yaml", supported_only=False)


@pytest.fixture
def catalogue(intent: Intent) -> Catalogue:
    return Catalogue(intent, lambda node: DEVICES.get(node, []))


def names(catalogue: Catalogue, *words: str) -> list[str]:
    return [point.name for point in catalogue.find(words)]


def test_the_usual_points_are_told_in_the_words_of_the_intent(intent: Intent) -> None:
    about = {point.name: point.about for point in usual(intent)}
    tap = intent.port("w1/0").tap
    assert about["w1/0"] == "w1/0 NIC (eth0)"
    assert about["server"] == "server NIC of the bare machine (eth0)"
    assert about[f"hv1 {tap}"] == f"w1/0 tap on hv1 ({tap})"
    assert about["hv1 eth0"] == "hv1 eth0 uplink to tor1"
    assert about["tor1 hv1.eth0"] == "tor1 port to hv1 eth0 (hv1.eth0)"
    assert about["tor1 tor2.0"] == "tor1 port to tor2 (tor2.0)"
    assert about["tor1 server.eth0"] == "tor1 port to server (server.eth0)"


def test_every_point_is_a_device_of_its_own(intent: Intent) -> None:
    points = usual(intent)
    assert len({(point.node, point.device) for point in points}) == len(points)
    assert len({point.name for point in points}) == len(points)


def test_without_a_word_all_usual_ones(catalogue: Catalogue, intent: Intent) -> None:
    assert catalogue.find([]) == usual(intent)


def test_words(catalogue: Catalogue, intent: Intent) -> None:
    taps = [f"hv1 {port.tap}" for port in intent.ports_by_host["hv1"]]
    assert names(catalogue, "w2") == ["w2/0", "w2/1"]
    assert names(catalogue, "w2/1") == ["w2/1"]
    assert names(catalogue, "server") == ["server"]
    assert set(names(catalogue, "hv1")) == {"hv1 eth0", "hv1 eth1", *taps}
    assert "tor1 hv2.eth0" in names(catalogue, "tor1")
    assert names(catalogue, "hv1.cvm") == ["hv1.cvm eth1"]
    assert names(catalogue, "w2:eth1") == ["w2/1"]


@pytest.mark.parametrize("words", [["hv1:eth0"], ["hv1 eth0"], ["hv1", "eth0"], ["hv1  eth0"]])
def test_a_device_of_a_host(catalogue: Catalogue, words: Sequence[str]) -> None:
    assert names(catalogue, *words) == ["hv1 eth0"]


def test_two_words_are_one_only_where_they_make_sense(catalogue: Catalogue) -> None:
    assert names(catalogue, "hv1", "br0", "w1") == ["hv1 br0", "w1/0"]
    assert names(catalogue, "w1", "w3") == ["w1/0", "w3/0"]


def test_other_devices_are_points_when_asked_for(catalogue: Catalogue) -> None:
    about = [point.about for point in catalogue.find(["hv1:br0", "hv1:brAtlas", "hv1:virbr0", "tor1:br"])]
    assert about == [
        "hv1 br0, bridge, the host's own port of it",
        "hv1 brAtlas, integration bridge",
        "hv1 virbr0, bridge to the controller VM",
        "tor1 br, the switch's own port of its bridge",
    ]


def test_a_real_vm_is_seen_at_its_tap(catalogue: Catalogue, intent: Intent) -> None:
    tap = f"hv1 {intent.port('real/0').tap}"
    assert names(catalogue, "real") == names(catalogue, "real/0") == [tap]


def test_each_point_once(catalogue: Catalogue) -> None:
    assert names(catalogue, "w2/1", "w2", "w2:eth1") == ["w2/1", "w2/0"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("serve", "serve is no VM, NIC, host, switch or machine of lab; did you mean server?"),
        ("hv1:eth7", "hv1 has no device eth7; did you mean eth"),
        ("tor3:eth7", "tor3 is no VM, NIC, host, switch or machine of lab; did you mean tor"),
        ("w2/2", "w2 has no NIC 2"),
        ("w2/x", "w2 has no NIC x"),
        ("eth1", "eth1 is a device, but of which node?"),
        ("hv1:br0-up", "br0-up is a bond of hv1, and no device: its packets pass one of its members"),
        ("w1:eth9", "w1 has no device eth9; did you mean eth0?"),
        ("", "is no VM"),
    ],
)
def test_what_is_no_point(catalogue: Catalogue, word: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        catalogue.find([word])
    assert message in caught.value.message
    assert caught.value.next_step


SHOWN = """\
netdev@ovs-netdev: hit:3 missed:1
  br0:
    br0 65534/1: (tap)
    eth0 1/2: (system)
    patch-web@vs0-to-brAtlas 3/none: (patch: peer=patch-brAtlas-to-web@vs0)
  brAtlas:
    brAtlas 65534/6: (tap)
    ovn-hv2-0 4/7: (geneve: csum=true, key=flow, local_ip=100.64.0.1, remote_ip=100.64.0.2)
    patch-brAtlas-to-web@vs0 3/none: (patch: peer=patch-web@vs0-to-brAtlas)
"""


def test_ports_that_are_no_devices(intent: Intent) -> None:
    host = intent.hosts["hv1"]
    patch = explain_port(host, "hv1", "patch-web@vs0-to-brAtlas", SHOWN)
    assert patch
    assert "a patch port between br0 and brAtlas, and no device" in patch.message
    assert "hv1:eth0, hv1:eth1" in (patch.next_step or "")
    tunnel = explain_port(host, "hv1", "ovn-hv2-0", SHOWN)
    assert tunnel
    assert "is a tunnel port, and no device" in tunnel.message
    assert explain_port(host, "hv1", "eth0", SHOWN) is None
    assert explain_port(host, "hv1", "other", SHOWN) is None
    assert explain_port(None, "tor1", "other", "") is None


def test_the_explanation_is_what_the_user_gets(intent: Intent) -> None:
    catalogue = Catalogue(
        intent,
        lambda node: DEVICES.get(node, []),
        lambda node, device: explain_port(intent.hosts.get(node), node, device, SHOWN),
    )
    with pytest.raises(InputError, match="a patch port between"):
        catalogue.find(["hv1:patch-web@vs0-to-brAtlas"])
    with pytest.raises(InputError, match="hv1 has no device nothing"):
        catalogue.find(["hv1:nothing"])
