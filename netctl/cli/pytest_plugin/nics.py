"""All NICs of a lab's VMs and bare machines, listened to from the moment that a test gets the lab.

One AF_PACKET socket in every node takes each frame that comes in, with the kernel's time stamp, and is also
the one that sends. A socket does not see what it sent itself; whatever else leaves a NIC was sent by the
guest's own system, and is known by its fingerprint where it arrives.

Nothing is read in the background: the kernel keeps the frames until somebody asks. What has not come when a
fence has passed (dataplane.checks.fence) does not come any more.
"""

from __future__ import annotations

import itertools
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from dataplane import netns
from dataplane.capture.filters import kernel_program
from dataplane.capture.observe import with_tag
from dataplane.checks import packets
from dataplane.checks.fence import Fence
from dataplane.checks.loop import READ, Loop
from dataplane.checks.packets import ETH_ARP, ETH_IPV6, RUN_LENGTH
from dataplane.checks.places import Address, Place, places
from dataplane.checks.session import HOLD, MOST, require
from dataplane.checks.sockets import Sockets, lost
from dataplane.checks.watch import Watch
from netctl.cli.pytest_plugin.background import Fingerprint, fingerprint, inside, is_background
from netctl.errors import ChangeError, ConflictError
from netctl.model import Intent

ARP_LIMIT = 1.0
"""Seconds that one ARP request may take to be answered, and how many there are."""
ARP_TRIES = 3

_LONGEST = 1 << 17
_ANCILLARY = 256
_LOOPBACK = 1
_ARP_REPLY = 2


@dataclass(eq=False, slots=True)
class Caught:
    """A frame that came in at a NIC, tags in place. `time` is the kernel's, in nanoseconds since 1970.

    `mark` is its fingerprint; `taken`: a test has expected it.
    """

    place: Place
    time: int
    frame: bytes
    mark: Fingerprint
    taken: bool = False


@dataclass(eq=False, slots=True)
class Sent:
    """A frame that a test has sent; `mark` is its fingerprint."""

    place: Place
    time: int
    frame: bytes
    mark: Fingerprint


@dataclass(eq=False, slots=True)
class _Node:
    inode: int
    socket: socket.socket
    places: dict[str, Place]


@dataclass
class _Guard:
    """A fence and what it needs."""

    sockets: Sockets = field(default_factory=Sockets)
    loop: Loop = field(default_factory=Loop)
    fence: Fence | None = None
    watch: Watch | None = None

    def close(self) -> None:
        self.loop.close()
        self.sockets.close()
        if self.fence:
            self.fence.close()


class Nics:
    """Use as a context manager: within, all that comes in at a NIC is kept; afterwards nothing is left.

    `caught` holds what came in, NIC by NIC in its order; `sent` what was sent; `lost` counts, by node, what
    the kernel had no room for.
    """

    def __init__(self, lab: str, intent: Intent) -> None:
        self.lab, self.intent = lab, intent
        self.places: Mapping[str, Place] = {}
        self.caught: list[Caught] = []
        self.sent: list[Sent] = []
        self._nodes: dict[str, _Node] = {}
        self._guard: _Guard | None = None
        self._run = secrets.token_bytes(RUN_LENGTH)
        self._numbers = itertools.count(1)
        self._buffer = bytearray(_LONGEST)
        self.lost: Counter[str] = Counter()
        self._by_system: set[Fingerprint] = set()
        self._by_test: set[Fingerprint] = set()
        self._asked: Counter[tuple[str, int]] = Counter()
        self._neighbors: dict[tuple[str, int | None, int], bytes] = {}
        self._slowest = 0.0

    # --- listening

    def __enter__(self) -> Nics:
        self._sockets, self._loop = Sockets(), Loop()
        try:
            self.follow(self.intent)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._loop.close()
        self._sockets.close()
        self._drop_guard()

    def follow(self, intent: Intent) -> None:
        """Listen at the NICs of this intent, which may be another than before; what was caught stays."""
        self.drain()
        self.intent, self.places = intent, places(intent)
        require(self.lab, self.places.values())
        self._drop_guard()
        self._neighbors.clear()
        by_node: dict[str, dict[str, Place]] = {}
        for place in self.places.values():
            by_node.setdefault(place.node, {})[place.device] = place
        for name in [*self._nodes]:
            node = self._nodes[name]
            if name in by_node and netns.inode(f"{self.lab}.{name}") == node.inode:
                node.places = by_node.pop(name)
            else:
                self._loop.forget(node.socket)
                self._sockets.drop(node.socket)
                del self._nodes[name]
        for name, by_device in by_node.items():
            self._listen(name, by_device)

    def _listen(self, name: str, by_device: dict[str, Place]) -> None:
        namespace = f"{self.lab}.{name}"
        inode = netns.inode(namespace)
        made = self._sockets.observer(namespace, kernel_program([_LOOPBACK], None))
        if inode is None or netns.inode(namespace) != inode:
            raise ConflictError(f"the namespace {namespace} goes and comes", "Somebody else changes the lab.")
        node = _Node(inode, made, by_device)
        self._nodes[name] = node
        self._loop.watch(made, READ, lambda: self._read(node))

    def _drop_guard(self) -> None:
        if self._guard:
            self._guard.close()
            self._guard = None

    def _read(self, node: _Node) -> None:
        buffers = [self._buffer]
        for _ in range(256):
            try:
                length, ancillary, _, address = node.socket.recvmsg_into(buffers, _ANCILLARY)
            except BlockingIOError:
                return
            except OSError:
                continue  # a device went down: ENETDOWN, once
            place = node.places.get(address[0])
            if place is not None:
                stamp, frame, _ = with_tag(self._buffer[:length], ancillary)
                if address[2] == socket.PACKET_OUTGOING:
                    self._note_outgoing(place, frame)
                else:
                    self._note(place, stamp, frame)

    def _note_outgoing(self, place: Place, frame: bytes) -> None:
        """Something that this process did not send as a test's packet: the guest's system, or a fence."""
        kind, _, body = inside(frame)
        if kind == ETH_ARP and self._run in frame:
            self._asked[place.name, _arp(body)[2]] += 1
        elif kind != ETH_ARP:
            self._by_system.add(fingerprint(frame))

    def _note(self, place: Place, stamp: int, frame: bytes) -> None:
        kind, tags, body = inside(frame)
        operation, source, _ = _arp(body) if kind == ETH_ARP else (0, 0, 0)
        if kind == ETH_IPV6:
            told = packets.read_ipv6(body, self._run)
            if told and told.kind is packets.Kind.ARP_REPLY:
                self._neighbors[place.name, tags[0] if tags else None, told.source] = told.payload
        marked = self._run in frame  # a fence, or a question of ours that OVN has turned into the answer
        if operation == _ARP_REPLY:
            self._neighbors[place.name, tags[0] if tags else None, source] = body[8:14]
            if self._asked[place.name, source] > 0:
                self._asked[place.name, source] -= 1
                return
        if not marked:
            self.caught.append(Caught(place, stamp, frame, fingerprint(frame)))

    # --- sending

    def send(self, place: Place, frame: bytes) -> None:
        """Put a frame on the wire at a NIC. OSError when the NIC does not take it."""
        self.drain()
        mark = fingerprint(frame)
        now = time.time_ns()
        self._nodes[place.node].socket.sendto(frame, (place.device, 0))
        self._by_test.add(mark)
        self.sent.append(Sent(place, now, frame, mark))

    def neighbor(self, place: Place, address: Address, own: Address, vlan: int | None) -> bytes | None:
        """The MAC address of a neighbour, asked on the wire (of IPv4 with ARP); None when nobody answers."""
        key = (place.name, vlan, int(address))
        for _ in range(ARP_TRIES):
            if key in self._neighbors:
                break
            question = packets.question(self._run, next(self._numbers), place.mac, own, address, vlan)
            if address.version == 4:
                self._asked[place.name, int(address)] += 1
            self._nodes[place.node].socket.sendto(question, (place.device, 0))
            self.wait(lambda: key in self._neighbors, ARP_LIMIT)
        return self._neighbors.get(key)

    def forget_neighbors(self) -> None:
        """Ask again for every MAC address: the lab has changed."""
        self._neighbors.clear()

    # --- what came

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Read what comes until the condition holds or the time is over; whether it holds."""
        return self._loop.until(condition, seconds)

    def drain(self) -> None:
        """Read everything that has come so far."""
        self._loop.drain()
        for name, node in self._nodes.items():
            if count := lost(node.socket):
                self.lost[name] += count

    def refuse_if_lost(self) -> None:
        """ChangeError when the kernel had no room for packets: then nobody can say what did not come."""
        if self.lost:
            what = ", ".join(f"{node} ({count})" for node, count in sorted(self.lost.items()))
            raise ChangeError(
                f"the test's sockets had no room for all packets of: {what}",
                "Send less between two looks at what came, or look more often.",
            )

    def is_test_packet(self, caught: Caught) -> bool:
        """Whether the NIC takes it, and it is neither a system's own protocol nor sent by a guest's system.

        What a test has sent counts whatever it is. Frames for other MAC addresses, which a switch floods that
        has not learned them (yet), no NIC takes.
        """
        if not caught.frame[0] & 1 and caught.frame[:6] != caught.place.mac:
            return False
        if caught.mark in self._by_test:
            return True
        return caught.mark not in self._by_system and not is_background(caught.frame)

    def took(self, caught: Caught) -> None:
        """A test has expected it: that tells how long packets take here."""
        caught.taken = True
        before = next((sent.time for sent in reversed(self.sent) if sent.time <= caught.time), caught.time)
        self._slowest = max(self._slowest, (caught.time - before) / 1e9)

    def discard_since(self, moment: int) -> None:
        """Forget what came in after a time (nanoseconds since 1970)."""
        self.drain()
        self.caught = [each for each in self.caught if each.time < moment]

    # --- the fence

    def settle(self, towards: Iterable[Place] = (), senders: Iterable[str] = ()) -> None:
        """Return when everything that is ever to come of what was sent has come.

        Args:
            towards: NICs that must have been reached, on the senders' segments.
            senders: NICs, by name, that have sent before this object was there.
        """
        self.drain()
        guard = self._guard = self._guard or self._armed()
        assert guard.fence and guard.watch
        towards = {self.places[each.name] for each in towards if each.name in self.places}
        end = time.monotonic() + MOST
        while True:
            before = len(self.caught)
            reached = {each.place.name for each in self.caught if self.is_test_packet(each)}
            names = {sent.place.name for sent in self.sent} | reached | set(senders)
            behind = [self.places[name] for name in sorted(names) if name in self.places]
            guard.fence.passes(guard.watch, behind, towards, self._at_least())
            self.drain()
            if not any(map(self.is_test_packet, self.caught[before:])) or time.monotonic() > end:
                return

    def _armed(self) -> _Guard:
        hosts = {name: host.address.ip for name, host in self.intent.hosts.items() if host.bridges}
        guard = _Guard()
        try:
            fence = Fence(self.lab, self.places, hosts, self._run, guard.sockets, guard.loop)
            guard.fence = fence
            guard.watch = Watch(
                self.lab, self.places.values(), self._run, guard.sockets, guard.loop, fence.note
            )
        except BaseException:
            guard.close()
            raise
        return guard

    def _at_least(self) -> float:
        """Seconds that a fence is to take in any case (see dataplane.checks.session)."""
        now, held = time.time_ns(), 0.0
        for sent in reversed(self.sent):
            left = HOLD - (now - sent.time) / 1e9
            if left <= held:
                break
            if self._leaves(sent):
                held = left
        return max(min(2 * self._slowest, MOST), held)

    def _leaves(self, sent: Sent) -> bool:
        """Whether it goes to a router that may have to ask where it is to go on."""
        target = sent.frame[:6]
        if target[0] & 1 or any(place.mac == target for place in self.places.values()):
            return False
        kind, _, body = inside(sent.frame)
        if kind == packets.ETH_IPV4 and len(body) >= 20:
            receiver = body[16:20]
        elif kind == ETH_IPV6 and len(body) >= packets.IPV6_HEADER:
            receiver = body[24:40]
        else:
            return False
        owners = [
            place
            for place in self.places.values()
            if any(one is not None and one.packed == receiver for one in (place.ip, place.ip6))
        ]
        return not any(place.vpc is not None and place.vpc == sent.place.vpc for place in owners)


def _arp(body: bytes) -> tuple[int, int, int]:
    """Operation, sender's and target's address of an ARP packet (RFC 826); zeros for half a one."""
    if len(body) < 28:
        return 0, 0, 0
    return int.from_bytes(body[6:8]), int.from_bytes(body[14:18]), int.from_bytes(body[24:28])
