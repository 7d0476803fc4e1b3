"""What the daemon beside br.microseg says on the wire: resets, ICMP errors, OpenFlow."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dataplane import punt
from dataplane.checks import packets
from dataplane.checks.packets import Kind

SENDER, TARGET = b"\x50\x6b\x8d\0\0\x01", b"\x50\x6b\x8d\0\0\x02"
A, B = IPv4Address("10.20.0.1"), IPv4Address("10.20.0.2")


def frame(protocol: int, body: bytes, vlan: int | None = 20) -> bytes:
    return packets.ethernet(TARGET, SENDER, packets.ETH_IPV4, packets.ipv4(A, B, protocol, body), vlan)


def answered(sent: bytes) -> packets.Packet:
    """The answer to a frame, which must go back with the same tag, and be right in itself."""
    answer = punt.refusal(sent)
    assert answer is not None
    assert (answer[:6], answer[6:12]) == (SENDER, TARGET)
    assert answer[12:18] == sent[12:18]
    packet = answer[18:]
    assert punt.checksum(packet[:20]) == 0
    body = packet[20:]
    if packet[9] == packets.TCP:
        body = packet[12:20] + struct.pack("!BBH", 0, 6, len(body)) + body
    assert punt.checksum(body) == 0
    found = packets.read_ipv4(packet, b"mark")
    assert found is not None
    assert (IPv4Address(found.source), IPv4Address(found.target)) == (B, A)
    return found


def test_a_syn_is_reset() -> None:
    found = answered(frame(packets.TCP, packets.segment(A, B, (5000, 80), (1000, 0), packets.SYN)))
    assert (found.kind, found.sport, found.dport) == (Kind.RESET, 80, 5000)


@pytest.mark.parametrize(
    ("flags", "data", "numbers", "answer"),
    [
        (packets.SYN, b"", (0, 1001), 0x14),
        (packets.ACK, b"hello", (77, 0), 0x04),
        (0, b"hello", (0, 1005), 0x14),
        (packets.SYN | packets.ACK, b"", (77, 0), 0x04),
    ],
)
def test_a_reset_is_one_that_its_receiver_believes(
    flags: int, data: bytes, numbers: tuple[int, int], answer: int
) -> None:
    """RFC 9293, 3.10.7.1: the numbers of a reset to a closed port."""
    sent = frame(packets.TCP, packets.segment(A, B, (5000, 80), (1000, 77), flags, data))
    made = punt.refusal(sent)
    assert made is not None
    assert struct.unpack_from("!II", made, 18 + 20 + 4) == numbers
    assert made[18 + 20 + 13] == answer


@pytest.mark.parametrize("vlan", [20, 7])
def test_a_datagram_is_answered_by_an_error_that_quotes_it(vlan: int) -> None:
    found = answered(frame(packets.UDP, packets.datagram(A, B, 5000, 53, b"x" * 100), vlan))
    assert found.error == (3, 13)
    assert found.inner is not None
    assert (found.inner.sport, found.inner.dport) == (5000, 53)


def test_a_ping_is_answered_by_an_error() -> None:
    assert answered(frame(packets.ICMP, packets.echo_request(1, 2, b"data"))).error == (3, 13)


def test_nothing_is_said_about_errors_resets_fragments_and_what_is_for_many() -> None:
    ping = frame(packets.ICMP, packets.echo_request(1, 2, b"data"))
    error = frame(packets.ICMP, struct.pack("!BBHI", 3, 1, 0, 0) + ping[18:])
    reset = frame(packets.TCP, packets.segment(A, B, (5000, 80), (1, 1), packets.RST))
    fragment = ping[:18] + ping[18:24] + b"\0\x10" + ping[26:]
    for silent in (error, reset, fragment, packets.BROADCAST + ping[6:], ping[:12] + b"\x08\x06" + ping[14:]):
        assert punt.refusal(silent) is None
    assert punt.refusal(ping) is not None


def test_ipv6_is_answered_too() -> None:
    a, b = b"\xfd" + bytes(14) + b"\x01", b"\xfd" + bytes(14) + b"\x02"
    segment = packets.segment(A, B, (5000, 80), (1000, 0), packets.SYN)
    for protocol, body in ((6, segment), (17, struct.pack("!HHHH", 1, 2, 8, 0))):
        packet = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + a + b + body
        made = punt.refusal(TARGET + SENDER + b"\x86\xdd" + packet)
        assert made is not None
        answer = made[14:]
        assert (answer[8:24], answer[24:40]) == (b, a)
        pseudo = answer[8:40] + struct.pack("!II", len(answer) - 40, answer[6])
        assert punt.checksum(pseudo + answer[40:]) == 0
        assert answer[6] == (6 if protocol == 6 else 58)
    error = struct.pack("!IHBB", 6 << 28, 8, 58, 64) + a + b + b"\x01" + bytes(7)
    assert punt.refusal(TARGET + SENDER + b"\x86\xdd" + error) is None


# --- the daemon with a switch that is a test --------------------------------------------------------------


def packet_in(sent: bytes, userdata: bytes, cookie: bytes, port: int) -> bytes:
    body = b""
    oxm = struct.pack("!HBBI", 0x8000, 0, 4, port)
    for kind, value in ((0, sent), (4, bytes(4) + cookie), (6, oxm), (7, userdata)):
        one = struct.pack("!HH", kind, 4 + len(value)) + value
        body += one + bytes(-len(one) % 8)
    return punt.experimenter(30, body)


def messages(made: socket.socket, count: int) -> list[tuple[int, bytes]]:
    found = []
    data = b""
    while len(found) < count:
        data += made.recv(65536)
        while len(data) >= 8 and len(data) >= (length := struct.unpack_from("!H", data, 2)[0]):
            found.append((data[1], data[8:length]))
            data = data[length:]
    return found


def test_the_daemon_logs_rejects_and_comes_back(tmp_path: Path) -> None:
    """Two connections one after the other, as when the switch is started again."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "br.mgmt"))
    listener.listen()
    listener.settimeout(30)
    said: list[list[tuple[int, bytes]]] = []
    ping = frame(packets.ICMP, packets.echo_request(1, 2, b"data"))
    cookie = bytes(range(8))

    def switch() -> None:
        for turn in range(2):
            made, _ = listener.accept()
            made.settimeout(30)
            greeting = messages(made, 5)
            made.sendall(punt.message(0, b"") + punt.message(21, b"") + punt.message(2, b"are you there"))
            answers = messages(made, 1)
            for userdata in (b"\x01\x02", b"\x03\x01"):
                made.sendall(packet_in(ping, userdata, cookie, port=5 + turn))
            answers += messages(made, 1)
            said.append(greeting + answers)
            made.close()

    thread = threading.Thread(target=switch)
    thread.start()
    pidfile, hits = tmp_path / "punt.pid", tmp_path / "hits.log"
    subprocess.run(
        [
            *(sys.executable, "-I", punt.__file__),
            f"--pidfile={pidfile}",
            f"--log-file={tmp_path / 'punt.log'}",
            f"--hits={hits}",
            str(tmp_path / "br.mgmt"),
        ],
        check=True,
        timeout=30,
    )
    pid = int(pidfile.read_text())
    try:
        thread.join(60)
        assert len(said) == 2
    finally:
        os.kill(pid, 9)
    for turn, found in enumerate(said):
        assert [kind for kind, _ in found[:5]] == [0, 9, 4, 4, 20]
        assert found[5] == (3, b"are you there")
        kind, body = found[6]
        assert kind == 13
        assert struct.unpack_from("!HHI", body, 16)[2] == 5 + turn, "back where it came from"
        assert body[32:] == punt.refusal(ping)
    logged = [json.loads(line) for line in hits.read_text().splitlines()]
    assert [hit["told"] for hit in logged] == [2, 1, 2, 1]
    assert {hit["cookie"] for hit in logged} == {cookie.hex()}
    assert {hit["frame"] for hit in logged} == {ping[:96].hex()}


def test_the_log_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(punt.time, "time", lambda: 1000.5)
    hits = punt.Hits(str(tmp_path / "hits.log"))
    for _ in range(punt.RATE + 50):
        hits.add(b"one", 1, b"frame")
    hits.add(b"two", 1, b"frame")
    assert len((tmp_path / "hits.log").read_text().splitlines()) == punt.RATE + 1
    monkeypatch.setattr(punt, "MOST_OCTETS", 10)
    hits.add(b"three", 1, b"frame")
    assert not (tmp_path / "hits.log").exists()
    assert len((tmp_path / "hits.log.1").read_text().splitlines()) == punt.RATE + 2
