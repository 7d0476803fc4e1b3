"""The fence: how to know that a packet will not arrive any more, without waiting for luck.

A packet that must arrive is sent behind the one in question, along the same way. Ethernet links, veth
pairs, and one OVS datapath thread handle the packets of one port in order (the userspace datapath handles
even a flow's first packet, its upcall, in place). So where the later packet has been, the earlier one has
been or never will be. The fence has three parts, each behind the one before:

1. From each NIC in question, a broadcast ARP announcement with a mark in its padding, and ARP requests to
   its gateway and a neighbour. No policy ever blocks ARP. (Where there is no IPv4, neighbour discovery
   stands in for it, which no policy blocks either.) Seen at another NIC of the segment, or answered,
   it proves that the first switch is done with all that the NIC sent before: it has put it on a wire, on a
   NIC, or nowhere. Seen at all NICs of the segment, it proves the same of all switches in between.
2. From each host to each other host, datagrams between their br0 addresses: behind whatever the first
   switch put on the fabric, through the same uplink, the same top-of-rack switches, and the receiving
   host's switch. Twice over, since a packet may cross the fabric twice (gateway host, service chain).
3. A turn of every CPU's packet backlog (`CpuBarrier`): behind whatever a switch put on a NIC.

How long all this takes is measured by the packets themselves: on a busy machine the fence is as slow as the
packet would have been. What it does not cover: members of a hashing bond (balance-slb, balance-tcp) other
than the one that the fence takes; a kernel datapath's upcalls, which may be overtaken; a router outside
that holds the packet while it asks for its next hop (that may take session.HOLD); a network function that
delays what it lets pass. So a round is repeated until nothing new was seen in one, it takes at least twice
as long as the slowest packet that arrived, and where a part of the fence does not pass, a limit takes its
place: LIMIT seconds, or FACTOR times the slowest passage so far if that is more. A NIC of the segment that
never sees a fence is waited for once, and after that only by packets that were for it.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from dataplane.checks import packets
from dataplane.checks.loop import READ, Loop
from dataplane.checks.packets import Kind
from dataplane.checks.places import Place, Version
from dataplane.checks.sockets import CpuBarrier, Sockets
from dataplane.checks.watch import Sighting, Watch
from netctl.errors import ChangeError

LIMIT = 0.5
FACTOR = 20
MOST = 5.0
"""Seconds, and how many times the slowest passage, for a fence that does not pass; never more than MOST."""

_FIRST = 1 << 31
"""Numbers of fences begin here, those of flights end."""


@dataclass(eq=False, slots=True)
class _Post:
    """The fence behind one NIC: who is still to see it, and the answers to plain ARP requests."""

    place: Place
    sent: int
    missing: set[str]
    asked: frozenset[int]
    seen: bool = False
    replies: Counter[int] = field(default_factory=Counter)

    @property
    def passed(self) -> bool:
        """Somebody saw it, or it was answered: by OVN, which leaves the mark in, or twice by a Linux stack.

        Twice, because one plain answer may be to an older request of the guest's own.
        """
        return self.seen or any(count >= 2 for count in self.replies.values())


@dataclass(frozen=True, slots=True)
class Passage:
    """How a fence fared: seconds, and the NICs and host pairs for which the limit had to stand in."""

    seconds: float
    unsure: tuple[str, ...] = field(default=())


class Fence:
    """Fences for the NICs and hosts of one lab."""

    def __init__(
        self,
        lab: str,
        known: Mapping[str, Place],
        hosts: Mapping[str, IPv4Address],
        run: bytes,
        sockets: Sockets,
        loop: Loop,
    ) -> None:
        self._run, self._loop, self._sockets = run, loop, sockets
        self._by_segment: dict[tuple[str, str], list[Place]] = {}
        for place in known.values():
            self._by_segment.setdefault(place.segment, []).append(place)
        self._numbers = itertools.count(_FIRST)
        self._posts: dict[int, _Post] = {}
        self._slowest = 0.0
        self._silent: set[str] = set()
        self._barrier = CpuBarrier()
        self._hosts: dict[str, tuple[socket.socket, IPv4Address]] = {}
        for name, ip in hosts.items():
            # A host that is down has no address to send from: the limit covers for it.
            with contextlib.suppress(OSError, ChangeError):
                self._hosts[name] = (sockets.udp(f"{lab}.{name}", ip, 0), ip)
        self._awaited: set[bytes] = set()
        for made, _ in self._hosts.values():
            loop.watch(made, READ, self._receiver(made))

    def close(self) -> None:
        """Give back what the sockets' owner does not."""
        self._barrier.close()

    def note(self, sighting: Sighting) -> None:
        """An ARP packet was seen."""
        packet, place = sighting.packet, sighting.place
        if sighting.outgoing or place.role != "nic":
            return
        if packet.number >= 0:
            post = self._posts.get(packet.number)
            if post:
                post.seen = True
                post.missing.discard(place.name)
        elif packet.kind is Kind.ARP_REPLY:
            for post in self._posts.values():
                if post.place is place and sighting.time >= post.sent and packet.source in post.asked:
                    post.replies[packet.source] += 1

    def passes(
        self, watch: Watch, behind: Iterable[Place], towards: Iterable[Place] = (), at_least: float = 0.0
    ) -> Passage:
        """Send a fence behind these NICs and return when it has passed, or the limit stood in for it.

        `towards` are the NICs that the packets were for: on the sender's segment they must see the fence.
        `at_least` is how many seconds it takes even if it passes sooner.
        """
        begin = time.monotonic()
        end = begin + min(MOST, max(LIMIT, FACTOR * self._slowest))
        self._posts = {}
        for place in behind:
            self._send(watch, place)
        posts = list(self._posts.values())
        spared = self._silent - {place.name for place in towards}
        self._until(lambda: all(post.passed for post in posts), end)
        unsure = [post.place.name for post in posts if not post.passed]
        for _ in range(2):
            unsure += self._cross(end)
        if not unsure:
            self._until(lambda: all(post.missing <= spared for post in posts), end)
            unsure = sorted(set[str]().union(*(post.missing for post in posts)) - spared)
            self._silent |= set(unsure)
        if unsure:
            self._until(lambda: False, end)
        else:
            self._slowest = max(self._slowest, time.monotonic() - begin)
        self._until(lambda: False, begin + at_least)
        self._barrier.wait()
        self._loop.drain()
        return Passage(time.monotonic() - begin, tuple(dict.fromkeys(unsure)))

    def _until(self, condition: Callable[[], bool], end: float) -> None:
        self._loop.until(condition, end - time.monotonic())

    def _send(self, watch: Watch, place: Place) -> None:
        others = [p for p in self._by_segment[place.segment] if p.node != place.node and p.up]
        version: Version = 6 if place.ip is None and place.ip6 is not None else 4
        own = place.address(version) or IPv4Address(0)
        ask = [router] if (router := place.router(version)) else []
        ask += [address for p in others if (address := p.address(version))][:1]
        post = _Post(place, time.time_ns(), {p.name for p in others}, frozenset(int(ip) for ip in ask))
        number = next(self._numbers)
        self._posts[number] = post
        try:
            watch.inject(place, packets.announcement(self._run, number, place.mac, own))
            for target in (*ask, *ask):
                watch.inject(place, packets.question(self._run, number, place.mac, own, target))
        except OSError:
            pass  # the NIC is down: nothing left it, and the limit stands in

    def _cross(self, end: float) -> list[str]:
        """One datagram between any two hosts, both ways; the pairs that the limit stood in for."""
        awaited = {}
        for (name, (made, _)), (other, (far, ip)) in itertools.permutations(self._hosts.items(), 2):
            data = self._run + struct.pack("!I", next(self._numbers))
            awaited[data] = f"{name} to {other}"
            try:
                made.sendto(data, (str(ip), far.getsockname()[1]))
            except OSError:
                continue
        self._awaited = set(awaited)
        self._until(lambda: not self._awaited, end)
        return [awaited[data] for data in self._awaited]

    def _receiver(self, made: socket.socket) -> Callable[[], None]:
        def receive() -> None:
            while True:
                try:
                    self._awaited.discard(made.recv(64))
                except BlockingIOError:
                    return
                except OSError:
                    continue

        return receive
