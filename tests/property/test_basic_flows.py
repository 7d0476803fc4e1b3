"""VLAN basic subnets of any lab: who gets a frame, how often, with which tag, as the flows have it.

NETCTL_EXAMPLES sets how many labs are tried for each property: a twentieth of it (30; make soak: 500).
"""

from __future__ import annotations

import os
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from netctl.compile import compile_intent
from netctl.intent import loads
from netctl.model.intent import Intent, Port
from tests.property.openflow import PRESENT, Frame, Network

try_them = settings(max_examples=max(1, int(os.environ.get("NETCTL_EXAMPLES", "600")) // 20), deadline=None)

BROADCAST = "ff:ff:ff:ff:ff:ff"
UNKNOWN = "02:00:00:00:00:77"
VLANS = (10, 20, 30)
SPARE = 99
"""A VLAN that trunks may have, but no subnet."""

TAGS: list[tuple[int, ...]] = [(), (10,), (20,), (30,), (SPARE,), (1,), (10, 20), (20, 20), (0, 10)]


@st.composite
def labs(draw: st.DrawFn) -> dict[str, Any]:
    """Hosts with two virtual switches, a VLAN basic subnet for each VLAN of each, and VMs of all kinds."""
    hosts = [f"hv{index}" for index in range(draw(st.integers(1, 3)))]
    subnets = {
        f"{switch}-{vlan}": {
            "type": "vlan-basic",
            "vlan": vlan,
            "virtual_switch": switch,
            "cidr": f"10.{number}.{vlan}.0/24",
        }
        for number, switch in enumerate(("vs0", "vs1"))
        for vlan in VLANS
    }
    nic = st.fixed_dictionaries(
        {
            "subnet": st.sampled_from(sorted(subnets)),
            "port_security": st.booleans(),
            "link": st.sampled_from(["up", "up", "up", "down"]),
        }
    )
    trunk = st.fixed_dictionaries(
        {
            "mode": st.just("trunk"),
            "trunked": st.lists(st.sampled_from((*VLANS, SPARE)), min_size=1, unique=True),
        }
    )
    vms = {}
    for index in range(draw(st.integers(2, 7))):
        made = draw(nic)
        if draw(st.booleans()):
            made |= draw(trunk)
        vms[f"vm{index}"] = {"host": draw(st.sampled_from(hosts)), "nics": [made]}
    return {
        "name": "lab",
        "hosts": {
            host: {"nics": {f"eth{index}": {"switch": "tor1"} for index in range(2)}} for host in hosts
        },
        "virtual_switches": {"vs0": {"uplinks": ["eth0"]}, "vs1": {"uplinks": ["eth1"]}},
        "subnets": subnets,
        "vms": vms,
    }


def place(intent: Intent, port: Port) -> tuple[str, int]:
    """Virtual switch and native VLAN of a NIC."""
    subnet = intent.file.subnets[port.subnet]
    assert subnet.vlan is not None
    return subnet.switch, subnet.vlan


def hears(intent: Intent, port: Port, switch: str, vlan: int) -> tuple[int, ...] | None:
    """With which tags a NIC has a VLAN of a virtual switch, None where it has not."""
    if not port.enabled or place(intent, port)[0] != switch:
        return None
    if place(intent, port)[1] == vlan:
        return ()
    return (vlan,) if vlan in port.trunked else None


def audience(intent: Intent, sender: Port, vlan: int) -> list[tuple[str, str, tuple[int, ...]]]:
    """Who must get what a NIC sends to all of a VLAN."""
    switch = place(intent, sender)[0]
    return sorted(
        (port.host, port.tap, tags)
        for port in intent.ports
        if port is not sender and (tags := hears(intent, port, switch, vlan)) is not None
    )


def open_lab(data: dict[str, Any]) -> tuple[Intent, Network]:
    intent = loads(yaml.safe_dump(data))
    return intent, Network(compile_intent(intent, "unix:/run/sb.sock"))


def frame(sender: Port, target: str, tags: tuple[int, ...] = (), source: str | None = None) -> Frame:
    return Frame(source or sender.mac, target, [PRESENT | tag for tag in tags])


@try_them
@given(labs(), st.data())
def test_what_goes_to_all_reaches_all_of_the_vlan_once_with_its_tag(
    data: dict[str, Any], draw: st.DataObject
) -> None:
    intent, network = open_lab(data)
    for _ in range(4):
        sender = draw.draw(st.sampled_from(intent.ports))
        tags = draw.draw(st.sampled_from(TAGS))
        target = draw.draw(st.sampled_from([BROADCAST, "01:00:5e:00:00:01", UNKNOWN]))
        vlan = tags[0] if tags else place(intent, sender)[1]
        admitted = hears(intent, sender, place(intent, sender)[0], vlan) == tags
        expected = audience(intent, sender, vlan) if admitted else []
        assert network.send(sender.host, sender.tap, frame(sender, target, tags)) == expected


@try_them
@given(labs(), st.sampled_from(TAGS), st.sampled_from([BROADCAST, UNKNOWN]))
def test_what_comes_from_the_network_reaches_the_vlan_of_its_only_tag(
    data: dict[str, Any], tags: tuple[int, ...], target: str
) -> None:
    intent, network = open_lab(data)
    for host, uplink, carried in network.uplinks():
        if not tags or tags[0] not in carried:
            continue  # the uplink bridge keeps it
        switch = f"vs{uplink.removeprefix('br').removesuffix('.d')}"
        expected = sorted(
            (port.host, port.tap, with_)
            for port in intent.ports
            if port.host == host and (with_ := hears(intent, port, switch, tags[0])) is not None
        )
        made = Frame("02:00:00:00:00:78", target, [PRESENT | tag for tag in tags])
        assert network.arrive(host, uplink, made) == (expected if len(tags) == 1 else [])


@try_them
@given(labs(), st.data())
def test_who_has_spoken_is_the_only_one_to_hear_what_is_for_it(
    data: dict[str, Any], draw: st.DataObject
) -> None:
    intent, network = open_lab(data)
    receiver = draw.draw(st.sampled_from(intent.ports))
    switch, vlan = place(intent, receiver)
    network.send(receiver.host, receiver.tap, frame(receiver, BROADCAST))
    for sender in intent.ports:
        tags = hears(intent, sender, switch, vlan)
        if sender is receiver or tags is None:
            continue
        got = network.send(sender.host, sender.tap, frame(sender, receiver.mac, tags))
        expected = [(receiver.host, receiver.tap, ())] if receiver.enabled else audience(intent, sender, vlan)
        assert got == expected


@try_them
@given(labs(), st.data())
def test_a_guarded_nic_sends_with_its_own_addresses_only(data: dict[str, Any], draw: st.DataObject) -> None:
    intent, network = open_lab(data)
    sender = draw.draw(st.sampled_from(intent.ports))
    vlan = place(intent, sender)[1]
    everybody = audience(intent, sender, vlan) if sender.enabled else []
    nobody = [] if sender.port_security else everybody
    own, other = str(sender.ip), "10.250.0.1"

    def sent(source: str, protocol: str, **fields: str) -> list[tuple[str, str, tuple[int, ...]]]:
        made = Frame(source, BROADCAST, [], fields, frozenset([protocol]))
        return network.send(sender.host, sender.tap, made)

    assert sent(UNKNOWN, "rarp") == nobody
    assert sent(sender.mac, "rarp") == everybody
    assert sent(sender.mac, "ip", nw_src=own) == everybody
    assert sent(sender.mac, "ip", nw_src=other) == nobody
    assert sent(sender.mac, "arp", arp_sha=sender.mac, arp_spa=own) == everybody
    assert sent(sender.mac, "arp", arp_sha=sender.mac, arp_spa=other) == nobody
    assert sent(sender.mac, "arp", arp_sha=UNKNOWN, arp_spa=own) == nobody
    assert sent(sender.mac, "ipv6") == nobody


@try_them
@given(labs(), st.data())
def test_an_address_is_where_it_spoke_last(data: dict[str, Any], draw: st.DataObject) -> None:
    """Whoever moves or pretends to: only NICs without port security can."""
    intent, network = open_lab(data)
    free = [port for port in intent.ports if not port.port_security and port.enabled]
    if not free:
        return
    last = None
    for _ in range(3):
        last = draw.draw(st.sampled_from(free))
        network.send(last.host, last.tap, frame(last, BROADCAST, source=UNKNOWN))
    assert last is not None
    switch, vlan = place(intent, last)
    for sender in intent.ports:
        tags = hears(intent, sender, switch, vlan)
        if sender is not last and tags is not None:
            got = network.send(sender.host, sender.tap, frame(sender, UNKNOWN, tags))
            assert got == [(last.host, last.tap, ())]
