"""The checks themselves: what is good passes, and whatever can be broken is caught, in a lab made by hand."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

import pytest

from dataplane.checks import Result, matrix, packets, ping, run_checks
from netctl.errors import ConflictError, InputError
from tests.live.handmade import TRUNK, Handmade, VlanSwitch, Wire, handmade, ip, straight

pytestmark = pytest.mark.live

FIRST_LAB = (
    "name: same VLAN across hosts, from: web1, to: web2, expect: delivered",
    "name: routed inside the VPC, from: app1, to: db1, protocol: tcp, port: 5432, expect: delivered",
    "name: large packets too, from: app1, to: db1, size: 1400, expect: delivered",
    "name: a VPC is closed to a VLAN, from: web1, to: app1, expect: dropped",
)
PING = "from: web1, to: web2"
UDP = "from: web1, to: web2, protocol: udp, port: 53"
TCP = "from: web1, to: web2, protocol: tcp, port: 8080"
ALL = (PING, UDP, TCP)

ETH_ARP = b"\x08\x06"


def is_arp(frame: bytes) -> bool:
    return frame[12:14] == ETH_ARP


@pytest.fixture(scope="module")
def plain() -> Iterator[Handmade]:
    """A lab that works; tests only look at it."""
    with handmade() as (lab, _):
        yield lab


@pytest.fixture
def wired() -> Iterator[tuple[Handmade, Wire]]:
    """A lab of one's own, in which web1, web2 and web3 hang on a wire that may be broken."""
    with handmade("web1", "web2", "web3") as made:
        yield made


def run(lab: Handmade, *checks: str) -> list[Result]:
    return run_checks(lab.intent(*checks), lab.name)


def all_pass(results: Sequence[Result]) -> None:
    assert all(result.passed for result in results), [(r.name, r.seen, r.evidence) for r in results]


def all_fail(results: Sequence[Result], words: str) -> None:
    for result in results:
        assert not result.passed, (result.name, result.seen)
        assert words in result.seen, (result.name, result.seen, result.evidence)


# --- what is good passes --------------------------------------------------------------------------


def test_first_lab_within_300_ms(plain: Handmade) -> None:
    run(plain, *FIRST_LAB)  # ARP caches as `up` leaves them
    begin = time.monotonic()
    results = run(plain, *FIRST_LAB)
    seconds = time.monotonic() - begin
    all_pass(results)
    assert [result.name for result in results][1] == "routed inside the VPC"
    assert seconds < 0.3


@pytest.mark.parametrize("protocol", ["protocol: icmp", "protocol: udp, port: 53", "protocol: tcp, port: 80"])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 11, 12, 13, 100, 1400, 1472, 1473, 9000, 65000])
def test_every_size(plain: Handmade, protocol: str, size: int) -> None:
    all_pass(run(plain, f"from: app1, to: db1, {protocol}, size: {size}"))


@pytest.mark.parametrize("protocol", ["icmp", "udp, port: 53", "tcp, port: 80"])
def test_many_packets(plain: Handmade, protocol: str) -> None:
    [result] = run(plain, f"from: web1, to: web2, protocol: {protocol}, count: 500")
    all_pass([result])
    assert result.seen.startswith("500 of 500")


def test_without_a_route_it_is_dropped_and_never_delivered(plain: Handmade) -> None:
    dropped, delivered = run(plain, "from: web1, to: db1, expect: dropped", "from: web1, to: db1")
    all_pass([dropped])
    assert "past the stack" in dropped.seen
    all_fail([delivered], "network is unreachable")


def test_an_address_that_is_nobodys(plain: Handmade) -> None:
    answered, silent, wanted, denied = run(
        plain,
        "from: app1, to: 192.168.2.1",
        "from: app1, to: 192.168.2.99, expect: dropped",
        "from: app1, to: 192.168.2.99",
        "from: app1, to: 192.168.2.1, expect: dropped",
    )
    all_pass([answered, silent])
    all_fail([wanted], "no answer came back")
    all_fail([denied], "was answered by 192.168.2.1")


def test_dropped_is_not_passed_by_what_arrives(plain: Handmade) -> None:
    all_fail(run(plain, *(f"{each}, expect: dropped" for each in ALL)), "arrived at web2/0 after")


def test_a_guests_own_server_is_used(plain: Handmade) -> None:
    def listen() -> socket.socket:
        made = socket.socket()
        made.bind(("0.0.0.0", 8080))
        made.listen()
        return made

    server = plain.inside("web2", listen)
    assert isinstance(server, socket.socket)
    with server:
        all_pass(run(plain, TCP))
        # Nothing of ours was in its way: all that it got is the handshake.
        accepted, _ = server.accept()
        accepted.close()


def test_ping(plain: Handmade) -> None:
    pings = ping(plain.base, plain.name, "app1", "db1")
    assert [each.sequence for each in pings] == [1, 2, 3]
    assert all(each.rtt_ms is not None and 0 < each.rtt_ms < 1000 for each in pings)
    assert all(each.answered for each in ping(plain.base, plain.name, "app1", "192.168.2.1", 1))
    assert not any(each.answered for each in ping(plain.base, plain.name, "app1", "192.168.2.77", 1))


def test_results_come_as_they_are_known_and_in_order(plain: Handmade) -> None:
    seen: list[str] = []
    results = run_checks(
        plain.intent(*FIRST_LAB), plain.name, on_result=lambda r: seen.append(r.name), parallel=False
    )
    all_pass(results)
    assert seen == [result.name for result in results]


def test_select(plain: Handmade) -> None:
    intent = plain.intent(*FIRST_LAB)
    assert [r.name for r in run_checks(intent, plain.name, select=["LARGE"])] == ["large packets too"]
    assert len(run_checks(intent, plain.name, select=["same*", "*closed*"])) == 2
    with pytest.raises(InputError, match="no check fits"):
        run_checks(intent, plain.name, select=["nothing of the kind"])


def test_matrix(plain: Handmade) -> None:
    found = {(each.source, each.target): each.delivered for each in matrix(plain.base, plain.name)}
    assert len(found) == 30
    web, vpc = {"web1/0", "web2/0", "web3/0"}, {"app1/0", "app2/0", "db1/0"}
    assert {pair for pair, delivered in found.items() if delivered} == {
        (one, other) for group in (web, vpc) for one in group for other in group if one != other
    }
    few = matrix(plain.base, plain.name, "tcp", 80, nodes=["app1", "db1", "web1"])
    assert [(each.source, each.target) for each in few if each.delivered] == [
        ("app1/0", "db1/0"),
        ("db1/0", "app1/0"),
    ]


# --- what is broken is caught ---------------------------------------------------------------------


def test_wire_is_no_fault(wired: tuple[Handmade, Wire]) -> None:
    all_pass(run(wired[0], *ALL))


def test_drop(wired: tuple[Handmade, Wire]) -> None:
    lab, wire = wired
    wire.forward = lambda vm, inbound, frame: (
        [(vm, inbound, frame)] if is_arp(frame) or vm != "web2" or not inbound else []
    )
    all_fail(run(lab, *ALL), "never arrived at web2/0")
    begin = time.monotonic()
    all_pass(run(lab, *(f"{each}, expect: dropped" for each in ALL)))
    assert time.monotonic() - begin < 0.3


def test_drop_of_all(wired: tuple[Handmade, Wire]) -> None:
    """Not even ARP gets through: the packet never leaves, and says so."""
    lab, wire = wired
    wire.forward = lambda vm, inbound, frame: []
    all_fail(run(lab, *ALL), "never left web1/0: nobody told web1 the MAC address")
    all_pass(run(lab, *(f"{each}, expect: dropped" for each in ALL)))


def test_one_way_only(wired: tuple[Handmade, Wire]) -> None:
    lab, wire = wired
    wire.forward = lambda vm, inbound, frame: (
        [(vm, inbound, frame)] if is_arp(frame) or vm != "web2" or inbound else []
    )
    results = run(lab, *ALL)
    all_fail(results, "arrived at web2/0, but no answer came back to web1/0 (it left web2/0)")


def test_duplicate(wired: tuple[Handmade, Wire]) -> None:
    lab, wire = wired
    wire.forward = lambda vm, inbound, frame: [(vm, inbound, frame)] * (2 if vm == "web2" and inbound else 1)
    all_fail(run(lab, *ALL), "arrived twice at web2/0")


def test_late_duplicate(wired: tuple[Handmade, Wire]) -> None:
    """The copy comes after the answer: only a fence can know that there is none."""
    lab, wire = wired
    kept: list[bytes] = []

    def forward(vm: str, inbound: bool, frame: bytes) -> Sequence[tuple[str, bool, bytes]]:
        if vm != "web2" or (is_arp(frame) and not (inbound and kept)):
            return [(vm, inbound, frame)]
        if not inbound or is_arp(frame):  # its answer, or the fence: first the copies
            copies, kept[:] = [(vm, True, each) for each in kept], []
            return [*copies, (vm, inbound, frame)] if is_arp(frame) else [(vm, inbound, frame), *copies]
        kept.append(frame)
        return [(vm, inbound, frame)]

    wire.forward = forward
    all_fail(run(lab, PING), "arrived twice at web2/0")


def test_answer_twice(wired: tuple[Handmade, Wire]) -> None:
    lab, wire = wired
    wire.forward = lambda vm, inbound, frame: [(vm, inbound, frame)] * (1 if vm != "web2" or inbound else 2)
    all_fail(run(lab, PING, UDP), "its answer came back twice")


@pytest.mark.parametrize("inbound_only", [True, False])
def test_corrupted_payload(wired: tuple[Handmade, Wire], inbound_only: bool) -> None:
    """Changed without a trace in the checksums: 0x0102 becomes 0x0201 in two places that cancel out."""
    lab, wire = wired

    def forward(vm: str, inbound: bool, frame: bytes) -> Sequence[tuple[str, bool, bytes]]:
        if vm == "web2" and inbound == inbound_only and not is_arp(frame) and len(frame) >= 98:
            swapped = frame[:-8] + frame[-6:-4] + frame[-8:-6] + frame[-4:]
            return [(vm, inbound, swapped)]
        return [(vm, inbound, frame)]

    wire.forward = forward
    words = "changed"
    all_fail(run(lab, PING, UDP, TCP), words)


def test_truncated_payload(wired: tuple[Handmade, Wire]) -> None:
    lab, wire = wired

    def forward(vm: str, inbound: bool, frame: bytes) -> Sequence[tuple[str, bool, bytes]]:
        if vm != "web2" or not inbound or frame[23:24] != b"\x01" or is_arp(frame):
            return [(vm, inbound, frame)]
        return [(vm, inbound, frame[:-20])]

    wire.forward = forward
    assert not run(lab, PING)[0].passed


def test_delivered_to_a_third_as_well(wired: tuple[Handmade, Wire]) -> None:
    lab, wire = wired
    mac = bytes.fromhex(lab.base.port("web3").mac.replace(":", ""))

    def forward(vm: str, inbound: bool, frame: bytes) -> Sequence[tuple[str, bool, bytes]]:
        out = [(vm, inbound, frame)]
        if vm == "web2" and inbound and not is_arp(frame):
            out.append(("web3", True, mac + frame[6:]))
        return out

    wire.forward = forward
    all_fail(run(lab, *ALL), "seen at web3/0, which it is not for")


def test_a_switch_that_never_learns_is_caught(wired: tuple[Handmade, Wire]) -> None:
    lab, wire = wired

    def forward(vm: str, inbound: bool, frame: bytes) -> Sequence[tuple[str, bool, bytes]]:
        out = [(vm, inbound, frame)]
        if vm == "web2" and inbound and not is_arp(frame):
            out.append(("web3", True, frame))
        return out

    wire.forward = forward
    all_fail(run(lab, *ALL), "seen at web3/0, which it is not for")


def test_a_switch_that_has_forgotten_is_no_fault(plain: Handmade) -> None:
    """Its first frame is flooded, the next one not: that is how switches work."""
    all_pass(run(plain, *ALL))
    plain.run("sw", "ip", "link", "set", "web", "type", "bridge", "fdb_flush")
    all_pass(run(plain, PING))


def test_delivered_to_a_third_instead(wired: tuple[Handmade, Wire]) -> None:
    lab, wire = wired
    mac = bytes.fromhex(lab.base.port("web3").mac.replace(":", ""))

    def forward(vm: str, inbound: bool, frame: bytes) -> Sequence[tuple[str, bool, bytes]]:
        if vm == "web2" and inbound and not is_arp(frame):
            return [("web3", True, mac + frame[6:])]
        return [(vm, inbound, frame)]

    wire.forward = forward
    all_fail(run(lab, *ALL), "never arrived at web2/0")
    all_fail(run(lab, *(f"{each}, expect: dropped" for each in ALL)), "seen at web3/0")


def test_reflected_to_its_sender(wired: tuple[Handmade, Wire]) -> None:
    lab, wire = wired

    def forward(vm: str, inbound: bool, frame: bytes) -> Sequence[tuple[str, bool, bytes]]:
        out = [(vm, inbound, frame)]
        if vm == "web1" and not inbound and not is_arp(frame):
            out.append(("web1", True, frame))
        return out

    wire.forward = forward
    all_fail(run(lab, *ALL), "came back to its sender web1/0")


def test_tagged_where_no_tag_belongs(wired: tuple[Handmade, Wire]) -> None:
    lab, wire = wired

    def forward(vm: str, inbound: bool, frame: bytes) -> Sequence[tuple[str, bool, bytes]]:
        if vm == "web2" and inbound and not is_arp(frame):
            return [(vm, inbound, frame[:12] + b"\x81\x00\x00\x14" + frame[12:])]
        return [(vm, inbound, frame)]

    wire.forward = forward
    all_fail(run(lab, PING, UDP), "never arrived at web2/0")
    assert any("VLAN 20" in line for line in run(lab, PING)[0].evidence)


def test_too_small_an_mtu_on_the_way(plain: Handmade) -> None:
    """The packet has the Don't Fragment bit, so a narrow link on the way shows."""
    with handmade() as (lab, _):
        lab.run("sw", "ip", "link", "set", "db1-p", "mtu", "1300")
        lab.run("sw", "ip", "link", "set", "db", "mtu", "1300")
        large, small = run(lab, "from: app1, to: db1, size: 1400", "from: app1, to: db1, size: 1200")
        all_fail([large], "fragmentation needed")
        all_pass([small])


def test_slow_is_not_dropped(wired: tuple[Handmade, Wire]) -> None:
    """Every frame takes 300 ms: a dropped check must not pass because it did not wait."""
    lab, wire = wired
    timers: list[threading.Timer] = []

    def forward(vm: str, inbound: bool, frame: bytes) -> Sequence[tuple[str, bool, bytes]]:
        if vm != "web2" or not inbound:
            return [(vm, inbound, frame)]
        timer = threading.Timer(0.3, wire.put, (vm, inbound, frame))
        timers.append(timer)
        timer.start()
        return []

    all_pass(run(lab, *ALL))  # ARP caches are filled
    wire.forward = forward
    results = run(lab, *(f"{each}, expect: dropped" for each in ALL))
    for timer in timers:
        timer.join()
    all_fail(results, "arrived at web2/0")


# --- tagged frames, ARP, and other demands --------------------------------------------------------


@pytest.fixture
def vlans() -> Iterator[tuple[Handmade, VlanSwitch]]:
    with handmade("router", "v10", "v20", "v21", "v40", text=TRUNK) as (lab, wire):
        switch = VlanSwitch()
        wire.forward = switch
        yield lab, switch


TRUNK_CHECKS = (
    "from: router, to: v10",
    "from: router, vlan: 20, to: v20",
    "from: router, vlan: 20, to: v20, protocol: udp, port: 53, size: 1200",
    "from: router, vlan: 20, to: v20, protocol: tcp, port: 80",
    "from: router, vlan: 20, to: v20, protocol: arp",
    "from: router, vlan: 20, to: v20, count: 20",
    "from: router, vlan: 40, to: v40, expect: dropped",
    "from: router, vlan: 40, to: v40, protocol: tcp, port: 80, expect: dropped",
    "name: an access NIC carries no tags, from: v10, vlan: 20, to: v20, expect: dropped",
)


def test_a_trunk_as_it_should_be(vlans: tuple[Handmade, VlanSwitch]) -> None:
    all_pass(run(vlans[0], *TRUNK_CHECKS))


def test_a_trunk_that_lacks_a_vlan(vlans: tuple[Handmade, VlanSwitch]) -> None:
    lab, switch = vlans
    switch.members["router"] = (10, frozenset())
    results = run(lab, *TRUNK_CHECKS[1:5])
    all_fail(results[:3], "never left router/0: nobody told router the MAC address")
    all_fail(results[3:], "no answer")


def test_a_trunk_that_carries_too_much(vlans: tuple[Handmade, VlanSwitch]) -> None:
    lab, switch = vlans
    switch.members["router"] = (10, frozenset({20, 40}))
    all_fail(run(lab, *TRUNK_CHECKS[6:8]), "arrived at v40/0")


def test_an_access_nic_that_takes_tags(vlans: tuple[Handmade, VlanSwitch]) -> None:
    lab, switch = vlans
    switch.members["v10"] = (10, frozenset({20}))
    all_fail(run(lab, TRUNK_CHECKS[8]), "arrived at v20/0")


def test_vlans_that_are_swapped(vlans: tuple[Handmade, VlanSwitch]) -> None:
    lab, switch = vlans
    switch.members["v20"], switch.members["v40"] = switch.members["v40"], switch.members["v20"]
    assert not any(result.passed for result in run(lab, *TRUNK_CHECKS[1:5]))


def test_arp(plain: Handmade) -> None:
    good = run(
        plain,
        "from: web1, to: web2, protocol: arp",
        "from: web1, to: web2, protocol: arp, count: 5",
        "from: app1, to: 192.168.1.1, protocol: arp",
        "from: web1, to: app1, protocol: arp, expect: dropped",
        "from: web1, to: 10.10.0.99, protocol: arp, expect: dropped",
    )
    all_pass(good)
    bad = run(
        plain,
        "from: web1, to: web2, protocol: arp, expect: dropped",
        "from: app1, to: 192.168.1.1, protocol: arp, expect: dropped",
        "from: web1, to: app1, protocol: arp",
    )
    assert not any(result.passed for result in bad), [result.seen for result in bad]


def test_arp_with_a_liar(wired: tuple[Handmade, Wire]) -> None:
    """Two stations that both claim an address."""
    lab, wire = wired

    def forward(vm: str, inbound: bool, frame: bytes) -> Sequence[tuple[str, bool, bytes]]:
        out = [(vm, inbound, frame)]
        if vm == "web2" and not inbound and is_arp(frame) and frame[21] == 2:
            lie = frame[:22] + b"\x02\0\0\0\0\x01" + frame[28:]
            out.append((vm, inbound, lie))
        return out

    wire.forward = forward
    all_fail(run(lab, "from: web1, to: web2, protocol: arp"), "answered with 02:00:00:00:00:01")


def test_snat_states_whom_the_receiver_sees(plain: Handmade) -> None:
    web1 = plain.base.port("web1").ip
    right, wrong = run(plain, f"{PING}, snat: {web1}", f"{PING}, snat: 10.10.0.200")
    all_pass([right])
    all_fail([wrong], f"arrived as from {web1} instead of 10.10.0.200")


def test_rejected(plain: Handmade) -> None:
    """The router in the middle knows no way to web1, and says so."""
    told, silent, arrived = run(
        plain,
        "from: app1, to: web1, protocol: udp, port: 53, expect: rejected",
        "from: app1, to: 192.168.2.99, expect: rejected",
        "from: app1, to: db1, expect: rejected",
    )
    all_pass([told])
    assert "network unreachable" in told.seen
    all_pass([silent])  # nobody answers the router's ARP: host unreachable
    all_fail([arrived], "arrived at db1/0")


def test_rejected_by_reset(wired: tuple[Handmade, Wire]) -> None:
    lab, wire = wired

    def forward(vm: str, inbound: bool, frame: bytes) -> Sequence[tuple[str, bool, bytes]]:
        if vm != "web2" or not inbound or frame[23] != 6 or is_arp(frame):
            return [(vm, inbound, frame)]
        source, target = IPv4Address(frame[26:30]), IPv4Address(frame[30:34])
        sport, dport, sequence = struct.unpack_from("!HHI", frame, 34)
        flags = packets.RST | packets.ACK
        answer = packets.segment(target, source, (dport, sport), (0, sequence + 1), flags)
        body = packets.ipv4(target, source, packets.TCP, answer)
        return [(vm, False, packets.ethernet(frame[6:12], frame[:6], packets.ETH_IPV4, body))]

    wire.forward = forward
    rejected, dropped, delivered = run(
        lab, f"{TCP}, expect: rejected", f"{TCP}, expect: dropped", f"{TCP}, expect: delivered"
    )
    all_pass([rejected, dropped])
    assert "TCP RST" in rejected.seen and "TCP RST" in dropped.seen
    all_fail([delivered], "TCP RST")


def test_silence_is_no_rejection(wired: tuple[Handmade, Wire]) -> None:
    lab, wire = wired
    wire.forward = lambda vm, inbound, frame: (
        [(vm, inbound, frame)] if is_arp(frame) or vm != "web2" or not inbound else []
    )
    all_fail(run(lab, f"{TCP}, expect: rejected"), "was told nothing")


# --- stories --------------------------------------------------------------------------------------


def story(*steps: str) -> str:
    return f"name: a story, steps: [{', '.join('{' + step + '}' for step in steps)}]"


@dataclass
class Switchable:
    """Verbs that break and mend the links of a lab on a wire."""

    wire: Wire
    done: list[str] = field(default_factory=list)
    timers: list[threading.Timer] = field(default_factory=list)

    def verbs(self) -> dict[str, Any]:
        return {"fail": self.fail, "heal": self.heal, "restore": lambda _: self.heal("all")}

    def fail(self, what: str) -> None:
        self.done.append(f"fail {what}")
        self.wire.forward = lambda vm, inbound, frame: [] if vm == "web2" else [(vm, inbound, frame)]

    def heal(self, what: str) -> None:
        """At once when all is healed, else after half a second."""
        self.done.append(f"heal {what}")
        if what == "all":
            self.wire.forward = straight
        else:
            self.timers.append(threading.Timer(0.5, setattr, (self.wire, "forward", straight)))
            self.timers[-1].start()


def tell(lab: Handmade, verbs: dict[str, Any], *checks: str) -> list[Result]:
    return run_checks(lab.intent(*checks), lab.name, verbs=verbs)


def test_story(wired: tuple[Handmade, Wire]) -> None:
    lab, wire = wired
    verbs = Switchable(wire)
    before, result, after = tell(
        lab,
        verbs.verbs(),
        PING,
        story(
            "check: {from: web1, to: web2}",
            "fail: link hv1 eth0",
            "check: {from: web1, to: web2, expect: dropped}",
            "heal: link hv1 eth0",
            "check: {from: web1, to: web2}, within: 3s",
        ),
        PING,
    )
    for timer in verbs.timers:
        timer.join()
    all_pass([before, result, after])
    assert verbs.done == ["fail link hv1 eth0", "heal link hv1 eth0", "heal all"]
    assert len(result.evidence) == 5


def test_story_that_does_not_come_true_is_healed(wired: tuple[Handmade, Wire]) -> None:
    lab, wire = wired
    verbs = Switchable(wire)
    result, after = tell(
        lab,
        verbs.verbs(),
        story("fail: link hv1 eth0", "check: {from: web1, to: web2}, within: 500ms", "heal: all"),
        PING,
    )
    all_fail([result], "step 2 (check web1 -> web2 delivered)")
    all_pass([after])
    assert verbs.done == ["fail link hv1 eth0", "heal all"]


@pytest.mark.parametrize("protocol", ["icmp", "udp, port: 53", "tcp, port: 5001"])
def test_traffic_and_its_outage(wired: tuple[Handmade, Wire], protocol: str) -> None:
    lab, wire = wired
    verbs = Switchable(wire)

    def blink(what: str) -> None:
        verbs.fail(what)
        time.sleep(0.3)
        verbs.heal("all")

    steps = [f"traffic: {{from: web1, to: web2, protocol: {protocol}}}", "apply: {name: x}, max_outage: %s"]
    results = [
        tell(lab, {"apply": lambda patch: blink("link web2")}, story(steps[0], steps[1] % most))[0]
        for most in ("2s", "200ms")
    ]
    all_pass(results[:1])
    all_fail(results[1:], "stood still for")


def test_traffic_that_never_flows(wired: tuple[Handmade, Wire]) -> None:
    lab, wire = wired
    wire.forward = lambda vm, inbound, frame: []
    all_fail(run(lab, story("traffic: {from: web1, to: web2}")), "never got an answer")


def test_a_verb_that_is_not_there(plain: Handmade) -> None:
    with pytest.raises(InputError, match="fail"):
        run(plain, story("fail: link hv1 eth0", "check: {from: web1, to: web2}"))


# --- errors and leftovers -------------------------------------------------------------------------


def test_a_lab_that_is_not_there(plain: Handmade) -> None:
    with pytest.raises(ConflictError, match="is not running"):
        run_checks(plain.intent(PING), "nosuchlab")


def test_unknown_names(plain: Handmade) -> None:
    with pytest.raises(InputError, match="nosuch"):
        ping(plain.base, plain.name, "web1", "nosuch")
    with pytest.raises(InputError, match="nosuch"):
        ping(plain.base, plain.name, "nosuch", "web1")


def test_nothing_is_left(plain: Handmade) -> None:
    all_pass(run(plain, *FIRST_LAB))
    before = open_files(), threading.active_count()
    all_pass(run(plain, *FIRST_LAB))

    def angry(result: Result) -> None:
        raise RuntimeError(result.name)

    with pytest.raises(RuntimeError):
        run_checks(plain.intent(*FIRST_LAB), plain.name, on_result=angry)
    with pytest.raises(ConflictError):
        run_checks(plain.intent(PING), "nosuchlab")
    assert (open_files(), threading.active_count()) == before


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- under load -----------------------------------------------------------------------------------


@pytest.fixture
def busy() -> Iterator[None]:
    """Two programs for every CPU that do nothing but keep it busy."""
    count = 2 * len(os.sched_getaffinity(0))
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


@pytest.mark.usefixtures("busy")
def test_no_false_results_on_a_busy_machine(plain: Handmade) -> None:
    repeats = int(os.environ.get("NETCTL_CHECK_REPEATS", "25"))
    false = []
    for _ in range(repeats):
        false += [r for r in run(plain, *FIRST_LAB) if not r.passed]
        wrong = run(plain, *(f"{each}, expect: dropped" for each in ALL))
        false += [r for r in wrong if r.passed]
    assert not false, [(r.name, r.seen, r.evidence) for r in false]


def test_interface_that_is_down(plain: Handmade) -> None:
    with handmade() as (lab, _):
        ip("-n", f"{lab.name}.web2", "link", "set", "eth0", "down")
        all_fail(run(lab, PING), "never left web1/0")
        all_pass(run(lab, f"{PING}, expect: dropped"))
