"""Hits: the two logs read alike, followed over rotations, and put into the intent's words."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from dataplane import hits, store
from dataplane.checks import packets

ACL = (
    '2026-11-24T17:25:39.440Z|00004|acl_log(ovn_pinctrl0)|INFO|name="app inbound drop", verdict=drop, '
    "severity=info, direction=to-lport: icmp,vlan_tci=0x0000,dl_src=50:6b:8d:ac:30:96,"
    "dl_dst=50:6b:8d:9f:e0:a2,nw_src=10.10.0.6,nw_dst=10.10.0.2,nw_tos=0,nw_ecn=0,nw_ttl=64,nw_frag=no,"
    "icmp_type=8,icmp_code=0"
)
A, B = IPv4Address("10.20.0.1"), IPv4Address("10.20.0.2")


def hit_line(told: int, frame: bytes, when: float = 1000.5) -> str:
    return json.dumps({"time": when, "cookie": "00000000000000ff", "told": told, "frame": frame.hex()})


def frame(protocol: int, body: bytes) -> bytes:
    packet = packets.ipv4(A, B, protocol, body)
    return packets.ethernet(b"\x50" + bytes(4) + b"\x02", b"\x50" + bytes(4) + b"\x01", 0x0800, packet, 20)


def test_a_line_of_ovn_controller() -> None:
    hit = hits.parse("hv1", ACL)
    assert hit is not None
    assert hit.time == pytest.approx(1795541139.440)
    assert (hit.label, hit.inbound, hit.passed) == ("app inbound drop", True, False)
    assert (hit.source, hit.target) == (IPv4Address("10.10.0.6"), IPv4Address("10.10.0.2"))
    assert (hit.protocol, hit.number, hit.source_port) == ("icmp", 8, None)
    assert (hit.source_mac, hit.target_mac) == ("50:6b:8d:ac:30:96", "50:6b:8d:9f:e0:a2")


@pytest.mark.parametrize(
    ("verdict", "passed"), [("allow", True), ("pass", True), ("drop", False), ("reject", False)]
)
def test_what_ovn_did(verdict: str, passed: bool) -> None:
    hit = hits.parse("hv1", ACL.replace("verdict=drop", f"verdict={verdict}"))
    assert hit is not None
    assert hit.passed is passed


def test_ipv6_and_ports_of_ovn_controller() -> None:
    line = ACL.partition("direction=")[0] + (
        "direction=from-lport: tcp6,vlan_tci=0x0000,dl_src=50:00:00:00:00:01,dl_dst=50:00:00:00:00:02,"
        "ipv6_src=fd00::1,ipv6_dst=fd00::2,ipv6_label=0x00000,nw_tos=0,nw_ecn=0,nw_ttl=64,nw_frag=no,"
        "tp_src=5000,tp_dst=80,tcp_flags=syn"
    )
    hit = hits.parse("hv1", line)
    assert hit is not None
    assert (hit.source, hit.target) == (IPv6Address("fd00::1"), IPv6Address("fd00::2"))
    assert (hit.protocol, hit.source_port, hit.number, hit.inbound) == ("tcp", 5000, 80, False)


@pytest.mark.parametrize(
    ("told", "inbound", "passed"), [(1, False, None), (2, True, None), (5, False, True), (6, True, True)]
)
def test_a_line_of_the_daemon_beside_br_microseg(told: int, inbound: bool, passed: bool | None) -> None:
    hit = hits.parse("hv2", hit_line(told, frame(packets.UDP, packets.datagram(A, B, 5000, 53, b"x"))))
    assert hit is not None
    assert (hit.cookie, hit.label, hit.inbound, hit.passed) == (0xFF, "", inbound, passed)
    assert (hit.source, hit.target, hit.protocol) == (A, B, "udp")
    assert (hit.source_port, hit.number) == (5000, 53)
    assert (hit.source_mac, hit.target_mac) == ("50:00:00:00:00:01", "50:00:00:00:00:02")


def test_frames_that_are_no_ip() -> None:
    hit = hits.parse("hv1", hit_line(1, packets.ethernet(bytes(6), bytes(6), 0x88B5, b"data", 20)))
    assert hit is not None
    assert (hit.protocol, hit.source) == ("ethertype 0x88b5", None)


@pytest.mark.parametrize(
    "line", ["", "{", '{"time": 1}', "2026-11-24T17:25:39.440Z|00001|main|INFO|hello", hit_line(1, b"\0" * 8)]
)
def test_what_is_no_hit(line: str) -> None:
    assert hits.parse("hv1", line) is None


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(store, "ROOT", tmp_path)
    for host in ("hv1", "hv2"):
        (tmp_path / "lab" / host).mkdir(parents=True)
    return tmp_path / "lab"


def test_the_logs_of_all_hosts_in_the_order_of_time(place: Path) -> None:
    ping = frame(packets.ICMP, packets.echo_request(1, 2, b""))
    (place / "hv1/hits.log.1").write_text(hit_line(1, ping, 10.0) + "\n")
    (place / "hv1/hits.log").write_text(hit_line(1, ping, 30.0) + "\n" + hit_line(1, ping, 40.0)[:30])
    (place / "hv2/hits.log").write_text(hit_line(1, ping, 20.0) + "\n")
    (place / "hv2/ovn-controller.log").write_text(f"noise\n{ACL}\n")
    found = hits.read("lab", ["hv1", "hv2"])
    assert [hit.time for hit in found[:3]] == [10.0, 20.0, 30.0]
    assert [hit.host for hit in found] == ["hv1", "hv2", "hv1", "hv2"]


def test_following_misses_nothing_where_a_file_is_replaced(place: Path) -> None:
    ping = frame(packets.ICMP, packets.echo_request(1, 2, b""))
    file = place / "hv1/hits.log"
    file.write_text(hit_line(1, ping, 1.0) + "\n")
    follower = hits.Follower("lab", ["hv1", "hv2"])

    def new(hosts: tuple[str, ...] = ("hv1", "hv2")) -> list[float]:
        return [hit.time for hit in follower.new(hosts)]

    assert new() == []
    with file.open("a") as log:
        log.write(hit_line(1, ping, 2.0) + "\n")
        log.write(hit_line(1, ping, 3.0)[:20])
    assert new() == [2.0]
    with file.open("a") as log:
        log.write(hit_line(1, ping, 3.0)[20:] + "\n")
    assert new() == [3.0]
    with file.open("a") as log:
        log.write(hit_line(1, ping, 4.0) + "\n")
    file.rename(file.with_suffix(".log.1"))
    file.write_text(hit_line(1, ping, 6.0) + "\n")
    (place / "hv2/hits.log").write_text(hit_line(1, ping, 5.0) + "\n")
    assert new() == [4.0, 5.0, 6.0]
    (place / "hv3").mkdir()
    (place / "hv3/ovn-controller.log").write_text(f"noise\n{ACL}\n")
    assert new() == []
    assert [hit.host for hit in follower.new(["hv1", "hv2", "hv3"])] == ["hv3"]
    assert new() == []
