"""netctl capture on a real rack: the whole way of a packet in one file, in order, and nothing left behind."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import RawPcapNgReader

from dataplane import netns
from dataplane.capture import Capture, Point
from dataplane.capture.filters import Expression
from netctl import intent as intents

from .conftest import NETCTL, Lab, netctl, private_lab

pytestmark = pytest.mark.live


@dataclass(frozen=True)
class Seen:
    """A packet of a file: where, when, which way, and the frame."""

    point: str
    time: int
    way: str
    frame: bytes


def read(data: bytes) -> list[Seen]:
    ways = {1: "in", 2: "out"}
    return [
        Seen(meta.ifname.decode(), meta.tshigh << 32 | meta.tslow, ways[meta.direction], frame)
        for frame, meta in RawPcapNgReader(io.BytesIO(data))
    ]


class Running:
    """A `netctl capture` in the background, listening when the constructor returns."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [NETCTL, "capture", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stderr
        self.first = self.process.stderr.readline().decode()
        assert self.first.startswith("capturing at "), self.first + self.process.stderr.read().decode()

    def end(self, number: int = signal.SIGINT) -> tuple[int, bytes, str]:
        """End it; its exit code, output and words."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err.decode()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all tests of this file: none of them changes it."""
    text = (Path(__file__).parents[2] / "topologies" / "first-lab.yaml").read_text()
    with private_lab("c", tmp_path_factory.mktemp("capture")) as made:
        made.up(text)
        yield made


def echo(frame: bytes) -> tuple[int | None, bool, int] | None:
    """VLAN, whether in Geneve, and ICMP type of an echo, wherever it is."""
    packet: Packet = Ether(frame)
    vlan = packet[Dot1Q].vlan if Dot1Q in packet else None
    tunnel = UDP in packet and packet[UDP].dport == 6081
    if tunnel:
        header = bytes(packet[UDP].payload)
        assert header[2:4] == b"\x65\x58"
        packet = Ether(header[8 + (header[0] & 0x3F) * 4 :])
    if ICMP in packet and packet[ICMP].type in (0, 8):
        return vlan, tunnel, packet[ICMP].type
    return None


def way(lab: Lab, sender: str, receiver: str) -> list[tuple[str, str]]:
    """Where a packet is seen on its way over the first switch, in order."""
    intent = intents.load(lab.file)
    one, other = intent.port(sender), intent.port(receiver)
    return [
        (one.name, "out"),
        (f"{one.host} {one.tap}", "in"),
        (f"{one.host} eth0", "out"),
        (f"tor1 {one.host}.eth0", "in"),
        (f"tor1 {other.host}.eth0", "out"),
        (f"{other.host} eth0", "in"),
        (f"{other.host} {other.tap}", "out"),
        (other.name, "in"),
    ]


@pytest.mark.parametrize(("sender", "receiver", "vlan"), [("web1", "web2", 10), ("app1", "db1", None)])
def test_the_whole_way_there_and_back(
    lab: Lab, tmp_path: Path, sender: str, receiver: str, vlan: int
) -> None:
    file = tmp_path / "way.pcapng"
    intent = intents.load(lab.file)
    lab.run(sender, "ping", "-c", "1", str(intent.port(receiver).ip))  # the switches have seen both
    running = Running("--lab", lab.name, "-w", str(file))
    lab.run(sender, "ping", "-c", "1", "-W", "5", str(intent.port(receiver).ip))
    code, out, err = running.end()
    assert (code, out) == (0, b""), err
    seen = [(each, found) for each in read(file.read_bytes()) if (found := echo(each.frame))]
    times = [each.time for each, _ in seen]
    assert times == sorted(set(times))
    assert abs(times[0] - time.time_ns()) < 60e9
    for kind, expected in ((8, way(lab, sender, receiver)), (0, way(lab, receiver, sender))):
        passed = [(each.point, each.way) for each, found in seen if found[2] == kind]
        # A switch may still flood: then there are copies at points off the way, and none on it.
        assert [point for point in passed if point in expected] == expected
    for each, (tag, tunnel, _) in seen:
        fabric = "eth" in each.point  # an uplink or a port of a switch
        assert tag == (vlan if fabric else None), each
        assert tunnel == (fabric and vlan is None), each


def test_a_line_a_packet_with_a_count(lab: Lab) -> None:
    ip = str(intents.load(lab.file).port("web2").ip)
    running = Running("--lab", lab.name, "--filter", "icmp and host web1", "--count", "3", "web1", "hv1 eth0")
    lab.run("web1", "ping", "-c", "2", ip)
    out, err = running.process.communicate(timeout=60)
    assert running.process.returncode == 0
    lines = out.decode().splitlines()
    assert len(lines) == 3
    assert "  web1/0    out  10.10.0.11 > " in lines[0]
    assert "  hv1 eth0  out  vlan 10  10.10.0.11 > " in lines[1]
    assert "ICMP echo request" in lines[1]
    assert err.decode().startswith("3 packets at 2 points in ")


def test_the_document(lab: Lab) -> None:
    running = Running("--lab", lab.name, "--json", "app1", "hv1:br0")
    lab.run("app1", "ping", "-c", "1", "192.168.2.20")
    code, out, _ = running.end(signal.SIGTERM)
    assert code == 0
    document = json.loads(out)
    assert [point["name"] for point in document["points"]] == ["app1/0", "hv1 br0"]
    assert document["count"] == len(document["packets"]) == sum(p["packets"] for p in document["points"])
    assert document["lost"] == {}
    pings = [each for each in document["packets"] if "ICMP echo" in each["summary"]]
    assert [(each["point"], each["direction"]) for each in pings] == [("app1/0", "out"), ("app1/0", "in")]


def test_seconds_end_it_and_the_file_has_all_points(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "quiet.pcapng"
    done = netctl("capture", "--lab", lab.name, "-w", file, "--seconds", "0.2", "--json").json()
    assert done["file"] == str(file)
    assert "packets" not in done
    reader = RawPcapNgReader(str(file))
    list(reader)
    assert [interface[2]["name"].decode() for interface in reader.interfaces] == [
        point["name"] for point in done["points"]
    ]


def test_into_a_pipe(lab: Lab) -> None:
    running = Running("--lab", lab.name, "-w", "-", "web1")
    lab.run("web1", "ping", "-c", "1", "-W", "5", str(intents.load(lab.file).port("web2").ip))
    code, out, _ = running.end()
    assert code == 0
    assert {each.point for each in read(out)} == {"web1/0"}


def test_a_reader_that_goes_away_ends_it(lab: Lab) -> None:
    with Running("--lab", lab.name, "web1", "--filter", "icmp").process as process:
        assert process.stdout
        process.stdout.close()
        lab.run("web1", "ping", "-c", "2", "-i", "0.2", str(intents.load(lab.file).port("web2").ip))
        assert process.wait(60) == 141


def packet_sockets(lab: Lab, node: str) -> int:
    return len(lab.run(node, "cat", "/proc/net/packet").splitlines()) - 1


def test_killed_it_leaves_nothing_and_the_file_is_whole(lab: Lab, tmp_path: Path) -> None:
    nodes = ("web1", "hv1", "tor1")
    before = {node: packet_sockets(lab, node) for node in nodes}
    file = tmp_path / "killed.pcapng"
    running = Running("--lab", lab.name, "-w", str(file), "--filter", "icmp")
    assert {node: packet_sockets(lab, node) for node in nodes} == {node: n + 1 for node, n in before.items()}
    lab.run("web1", "ping", "-c", "3", "-i", "0.2", str(intents.load(lab.file).port("web2").ip))
    deadline = time.monotonic() + 30
    while len(read(file.read_bytes())) < 16 and time.monotonic() < deadline:
        time.sleep(0.05)
    running.end(signal.SIGKILL)
    assert {node: packet_sockets(lab, node) for node in nodes} == before
    assert len(read(file.read_bytes())) >= 16


def test_ports_without_a_device_and_typing_mistakes(lab: Lab) -> None:
    cases = {
        "hv1:patch-web@vs0-to-brAtlas": "is a patch port between br0 and brAtlas, and no device",
        "hv1:ovn-hv2-0": "is a tunnel port, and no device",
        "hv1:br0-up": "is a bond of hv1, and no device",
        "hvv1": "did you mean hv1?",
        "hv1:brAtla": "did you mean brAtlas?",
    }
    for word, words in cases.items():
        done = netctl("capture", "--lab", lab.name, word, code=2)
        assert words in done.err
        assert done.out == ""
    for arguments in (["--filter", "icmp or or"], ["-w", "/proc/none/x"], ["-w", "-", "--json"]):
        netctl("capture", "--lab", lab.name, *arguments, code=2)


def test_a_device_that_is_made_anew_is_seen_again(lab: Lab) -> None:
    """The points are named, not numbered: a tap that comes back is the same point."""
    tap = intents.load(lab.file).port("web1").tap
    running = Running("--lab", lab.name, f"hv1:{tap}", "--filter", "icmp", "--json")
    try:
        lab.run("hv1", "ip", "link", "delete", tap)
        netctl("apply", lab.file)
        lab.run("web1", "ping", "-c", "1", "-W", "5", str(intents.load(lab.file).port("web2").ip))
    finally:
        _, out, _ = running.end()
    assert {each["direction"] for each in json.loads(out)["packets"]} == {"in", "out"}


# --- the kernel's part of a filter --------------------------------------------------------------------

ETHER = Ether(src="50:6b:8d:00:00:01", dst="50:6b:8d:00:00:02")
ENDS = IP(src="10.10.0.11", dst="10.10.0.12")
ECHO, SYN = ETHER / ENDS / ICMP(), ETHER / ENDS / TCP(dport=443)


def geneve(inner: Packet) -> Packet:
    header = b"\x02\x00\x65\x58\0\0\x03\0" + bytes(8)
    return ETHER / IP(src="100.64.0.1", dst="100.64.0.2") / UDP(dport=6081) / Raw(header + bytes(inner))


FRAMES = [
    ECHO,
    SYN,
    ETHER / Dot1Q(vlan=10) / ECHO.payload,
    ETHER / Dot1Q(vlan=11, prio=5) / SYN.payload,
    ETHER / Dot1Q(vlan=10, type=0x8100) / Dot1Q(vlan=11) / ECHO.payload,
    Ether(src=ETHER.src, dst=ETHER.dst, type=0x88A8) / Dot1Q(vlan=10) / ECHO.payload,
    geneve(ECHO),
    geneve(SYN),
    geneve(ETHER / Dot1Q(vlan=10) / SYN.payload),
    ETHER / Dot1Q(vlan=12) / geneve(ECHO).payload,
    ETHER / IP(src="10.10.0.11", dst="10.10.0.12", frag=3, proto=17) / Raw(bytes(40)),
    ETHER / ARP(psrc="10.10.0.11"),
    ETHER / ENDS / UDP(dport=6081) / Raw(b"no tunnel"),
]
EXPRESSIONS = (
    None,
    "",
    "icmp",
    "tcp port 443",
    "vlan 10",
    "vlan",
    "not arp",
    "udp port 6081",
    "host 10.10.0.11",
)


@pytest.fixture
def pair() -> Iterator[str]:
    """The prefix of two namespaces, a and b, with a veth pair from eth0 to eth0."""
    prefix = f"capture-{os.getpid()}"
    a, b = f"{prefix}.a", f"{prefix}.b"
    for name in (a, b):
        subprocess.run(["ip", "netns", "add", name], check=True)
        quiet = ["ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"]
        subprocess.run(quiet, check=True)
    try:
        veth = ["ip", "-n", a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b]
        subprocess.run(veth, check=True)
        for name in (a, b):
            subprocess.run(["ip", "-n", name, "link", "set", "eth0", "up"], check=True)
        yield prefix
    finally:
        for name in (a, b):
            subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_the_kernel_drops_nothing_that_an_expression_takes(pair: str, text: str | None) -> None:
    """Tags come back where the kernel took them out, and both ends of a link see the same."""
    expression = None if text is None else Expression(text)
    frames = [bytes(frame).ljust(60, b"\0") for frame in FRAMES]
    expected = [frame for frame in frames if expression is None or expression.accepts(frame)]
    points = [Point("a", "a", "eth0", "sends"), Point("b", "b", "eth0", "receives")]
    sender: socket.socket = netns.inside(f"{pair}.a", lambda: _bound())
    with sender, Capture(pair, points, expression=expression) as capture:
        for frame in frames:
            sender.send(frame)
        caught: list[Any] = []
        # The kernel hands frames on to the other end when it has time.
        for batch in capture.frames(lambda: len(caught) >= 2 * len(expected), seconds=5):
            caught.extend(batch)
    assert [frame.octets for frame in caught if frame.outgoing] == expected
    assert [frame.octets for frame in caught if not frame.outgoing] == expected
    assert all(frame.point == (0 if frame.outgoing else 1) for frame in caught)
    assert all(frame.length == len(frame.octets) for frame in caught)
    assert [frame.time for frame in caught] == sorted(frame.time for frame in caught)


def _bound() -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    made.bind(("eth0", 0))
    return made


def test_what_does_not_fit_is_counted(pair: str) -> None:
    """Frames that nobody reads until the buffer is full are lost, and said to be."""
    points = [Point("b", "b", "eth0", "receives")]
    sender = netns.inside(f"{pair}.a", _bound)
    frame = bytes(ETHER / ENDS / Raw(bytes(1400)))
    sent = 40_000
    with sender, Capture(pair, points) as capture:
        for _ in range(sent):
            sender.send(frame)
        caught = sum(len(batch) for batch in capture.frames(lambda: True))
    assert 0 < caught < sent
    assert capture.lost == {"b": sent - caught}
