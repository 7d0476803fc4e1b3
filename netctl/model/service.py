"""Services as values: a protocol, and which of its ports or ICMP types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

ServiceProtocol = Literal["any", "icmp", "icmp6", "tcp", "udp"]


@dataclass(frozen=True, order=True, slots=True)
class Range:
    """Packets of one protocol: `first` to `last` are ports of tcp and udp, types of icmp; None: all of them.

    `icmp` is IPv4's (RFC 792), `icmp6` IPv6's (RFC 4443); `any` is every packet of every protocol.
    """

    protocol: ServiceProtocol
    first: int | None = None
    last: int | None = None

    def __str__(self) -> str:
        if self.first is None:
            return self.protocol
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{self.protocol}/{ports}"

    def covers(self, protocol: str, number: int | None) -> bool:
        """Whether it has packets of that protocol to that port (for ICMP: of that type)."""
        if self.protocol == "any":
            return True
        if self.protocol != protocol:
            return False
        if self.first is None or self.last is None:
            return True
        return number is not None and self.first <= number <= self.last


def parse(text: str) -> Range:
    """`tcp/80`, `udp/5000-5010`, `icmp/8`, `tcp` or `any`; the text must be right."""
    protocol, slash, numbers = text.partition("/")
    if not slash:
        return Range(cast(ServiceProtocol, protocol))
    first, _, last = numbers.partition("-")
    return Range(cast(ServiceProtocol, protocol), int(first), int(last or first))


def ranges(services: Iterable[str], groups: Mapping[str, list[str]]) -> tuple[Range, ...]:
    """What a list of services and service groups stands for, sorted; empty for every packet."""
    found = {parse(one) for name in services for one in groups.get(name, [name])}
    return () if Range("any") in found else tuple(sorted(found, key=_order))


def _order(one: Range) -> tuple[str, int, int]:
    return (one.protocol, -1 if one.first is None else one.first, -1 if one.last is None else one.last)
