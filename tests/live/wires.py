"""Numbered frames between NICs, and what passes the ports of switches.

Every socket is open before anything is sent, so nothing is missed.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

from dataplane import netns
from tests.live.conftest import Lab

ETHERTYPE = 0x88B5
"""For local experiments (IEEE 802); no stack answers it."""

ETH_P_ALL, ETH_P_IP = 0x0003, 0x0800
BROADCAST, MULTICAST, NOBODY = "ff:ff:ff:ff:ff:ff", "01:00:5e:7f:01:02", "02:de:ad:be:ef:01"

_SO_RCVBUFFORCE = 33
_OUTGOING = 4


def open_socket(lab: Lab, node: str, device: str, ethertype: int = ETHERTYPE) -> socket.socket:
    """A packet socket on a device of a node, with room for 30,000 small frames."""

    def make() -> socket.socket:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype))
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 32 << 20)
        opened.bind((device, ethertype))
        opened.setblocking(False)
        return opened

    return netns.inside(lab.namespace(node), make)


def frame(destination: str, source: str, payload: bytes) -> bytes:
    head = bytes.fromhex((destination + source).replace(":", "")) + struct.pack("!H", ETHERTYPE)
    return (head + payload).ljust(60, b"\0")


class Stations:
    """NICs that send numbered frames and count what arrives. A station is `node` or `node/index`."""

    def __init__(self, lab: Lab, names: Iterable[str], stack: ExitStack) -> None:
        self.names = list(names)
        self.sockets: dict[str, socket.socket] = {}
        self.macs: dict[str, str] = {}
        for name in self.names:
            node, _, index = name.partition("/")
            opened = stack.enter_context(open_socket(lab, node, f"eth{index or 0}"))
            self.sockets[name] = opened
            self.macs[name] = bytes(opened.getsockname()[4]).hex(":")
        self._number = 0

    def send(self, source: str, destination: str, count: int = 1) -> list[int]:
        """Send frames to a MAC; returns their numbers."""
        numbers = []
        for _ in range(count):
            self._number += 1
            payload = struct.pack("!I", self._number)
            self.sockets[source].send(frame(destination, self.macs[source], payload))
            numbers.append(self._number)
        return numbers

    def collect(self, quiet: float = 0.3) -> dict[int, Counter[str]]:
        """How often each frame arrived at each station, until nothing has come for `quiet` seconds."""
        found: defaultdict[int, Counter[str]] = defaultdict(Counter)
        by_socket = {opened: name for name, opened in self.sockets.items()}
        while ready := select.select(list(by_socket), [], [], quiet)[0]:
            for opened in ready:
                data, address = opened.recvfrom(65535)
                if address[2] != _OUTGOING:
                    found[struct.unpack_from("!I", data, 14)[0]][by_socket[opened]] += 1
        return found


class Wires:
    """The ports of switches: what came in there, sent by hosts.

    The sockets are for every protocol: of tagged frames to other MACs those for one get nothing.
    """

    def __init__(self, lab: Lab, ports: Iterable[tuple[str, str]], stack: ExitStack, ethertype: int) -> None:
        self._wanted = struct.pack("!H", ethertype)
        self.sockets = {port: stack.enter_context(open_socket(lab, *port, ETH_P_ALL)) for port in ports}

    def drain(self) -> None:
        for _ in self.frames(0.0):
            pass

    def frames(self, quiet: float = 0.3) -> Iterator[tuple[tuple[str, str], bytes]]:
        """(port, frame without its VLAN tag) of those that came in, until it is quiet."""
        by_socket = {opened: port for port, opened in self.sockets.items()}
        while ready := select.select(list(by_socket), [], [], quiet)[0]:
            for opened in ready:
                data, address = opened.recvfrom(65535)
                if address[2] != _OUTGOING and data[12:14] == self._wanted:
                    yield by_socket[opened], data


@contextmanager
def stations(lab: Lab, *names: str) -> Iterator[Stations]:
    with ExitStack() as stack:
        yield Stations(lab, names, stack)


@contextmanager
def wires(lab: Lab, *ports: tuple[str, str], ethertype: int = ETHERTYPE) -> Iterator[Wires]:
    """Ports as (switch, device)."""
    with ExitStack() as stack:
        yield Wires(lab, ports, stack, ethertype)


def in_node(lab: Lab, node: str, make: Callable[[], socket.socket]) -> socket.socket:
    """A socket of a node's own stack, such as a UDP socket of a VM."""
    return netns.inside(lab.namespace(node), make)


def wait_until(holds: Callable[[], bool], limit: float, what: str, every: float = 0.1) -> float:
    """Wait until it holds; returns the seconds that it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < limit, f"not within {limit} s: {what}"
        time.sleep(every)
    return time.monotonic() - began
