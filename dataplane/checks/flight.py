"""A flight: one packet (or one TCP connection) on its way, and all that was seen of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from dataplane.checks.places import Place, Target
from dataplane.checks.watch import Sighting


@dataclass(eq=False, slots=True)
class Flight:
    """What is to be sent, and the sightings sorted by what they mean.

    `patience`: seconds that an answer is waited for before the fence is asked; 0 for a packet that should
    not arrive. `left` and `arrived` hold the packet itself (for TCP the SYN), `answers` what came back to
    the sender, `replies` what left the receiver, `elsewhere` what was seen where it should not be, `errors`
    ICMP errors and TCP resets at the sender. `trouble` is why the sender's stack did not send.
    """

    number: int
    source: Place
    target: Target
    protocol: str = "icmp"
    port: int = 0
    payload: bytes = b""
    patience: float = 1.0
    left: list[int] = field(default_factory=list)
    arrived: list[Sighting] = field(default_factory=list)
    replies: list[Sighting] = field(default_factory=list)
    answers: list[Sighting] = field(default_factory=list)
    elsewhere: list[Sighting] = field(default_factory=list)
    errors: list[Sighting] = field(default_factory=list)
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
        """Grows with everything that happens to it."""
        seen = len(self.left) + len(self.arrived) + len(self.replies) + len(self.answers)
        return seen + len(self.elsewhere) + len(self.errors) + self.connected + (self.echoed is not None)

    @property
    def answered(self) -> bool:
        """Whether all came back that should: for TCP the payload, or from a foreign server the SYN-ACK."""
        if self.protocol != "tcp":
            return bool(self.answers)
        return self.connected if self.foreign else self.echoed is not None

    def after(self, sighting: Sighting) -> float:
        """Milliseconds from the packet's leaving to a sighting."""
        return (sighting.time - self.left[0]) / 1e6 if self.left else 0.0
