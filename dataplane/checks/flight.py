"""A flight: one packet (or one TCP connection) on its way, and all that was seen of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dataplane.checks.packets import REDIRECT, REDIRECT6, UDP, Kind, Packet
from dataplane.checks.places import Place, Target, Version
from dataplane.checks.watch import Sighting

_ONCE_AGAIN = 2

Awaits = Literal["answer", "error", "nothing"]

PATIENCE = {"answer": 1.0, "error": 4.0, "nothing": 0.0}
"""Seconds. A router that gets no answer to ARP says so after three tries, a second apart (arp(7))."""


@dataclass(eq=False, slots=True)
class Flight:
    """What is to be sent, and the sightings sorted by what they mean.

    `awaits` is what should become of it, and what is waited for before the fence is asked. `left` and
    `arrived` hold the packet itself (for TCP the SYN), `answers` what came back to the sender, `replies` what
    left the receiver, `elsewhere` what was seen where it should not be, `errors` ICMP errors and TCP resets
    at the sender, `waypoints` everything at points in between. `trouble` is why the sender's stack did not
    send.
    """

    number: int
    source: Place
    target: Target
    protocol: str = "icmp"
    port: int = 0
    payload: bytes = b""
    awaits: Awaits = "answer"
    vlan: int | None = None
    left: list[int] = field(default_factory=list)
    arrived: list[Sighting] = field(default_factory=list)
    replies: list[Sighting] = field(default_factory=list)
    answers: list[Sighting] = field(default_factory=list)
    elsewhere: list[Sighting] = field(default_factory=list)
    errors: list[Sighting] = field(default_factory=list)
    waypoints: list[Sighting] = field(default_factory=list)
    trouble: str = ""
    connected: bool = False
    echoed: bool | None = None
    foreign: bool = False
    crafted: bool = False
    launched: float = 0.0
    local_port: int = -1
    isn: int = -1

    @property
    def progress(self) -> int:
        """Grows with everything that happens to it; what TCP sends again is nothing new."""
        lists = (self.left, self.arrived, self.replies, self.answers, self.elsewhere, self.errors)
        most = _ONCE_AGAIN if self.protocol == "tcp" and not self.answered else None
        seen = sum(len(each[:most]) for each in lists)
        return seen + self.connected + (self.echoed is not None)

    @property
    def answered(self) -> bool:
        """Whether all came back that should: for TCP the payload, or from a foreign server the SYN-ACK."""
        if self.protocol != "tcp":
            return bool(self.answers)
        return self.connected if self.foreign else self.echoed is not None

    @property
    def refused(self) -> list[Sighting]:
        """The errors that say that it will not be delivered: all but redirects (RFC 1812, 5.2.7)."""
        return [each for each in self.errors if each.packet.error[0] not in (REDIRECT, REDIRECT6)]

    @property
    def settled(self) -> bool:
        """Whether nothing more is to come but copies that should not be."""
        return self.answered or bool(self.trouble) or (self.awaits == "error" and bool(self.refused))

    @property
    def last(self) -> int:
        """When anything was last seen of it, in nanoseconds on the kernel's clock; 0 for never."""
        seen = (self.arrived, self.replies, self.answers, self.elsewhere, self.errors)
        return max((*self.left, *(each.time for sightings in seen for each in sightings)), default=0)

    @property
    def version(self) -> Version:
        """The version of IP."""
        return self.target.address.version

    @property
    def segment(self) -> tuple[str, str]:
        """The segment that it is sent on."""
        return self.source.segment if self.vlan is None else ("vlan", str(self.vlan))

    def is_request(self, packet: Packet) -> bool:
        """Whether a packet of this flight is on the way out rather than back."""
        if packet.protocol == UDP:
            return packet.dport == self.port or packet.dport in self.target.servers.values()
        return packet.kind in (Kind.REQUEST, Kind.SYN, Kind.ARP_REQUEST)

    def after(self, sighting: Sighting) -> float:
        """Milliseconds from the packet's leaving to a sighting."""
        return (sighting.time - self.left[0]) / 1e6 if self.left else 0.0
