"""Addresses as numbers: networks joined, single addresses taken out, the rest as networks again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Span = tuple[int, int]
"""Addresses as numbers, from the first to the last."""

BITS = {4: 32, 6: 128}
"""Bits of an address, by the version of IP."""


def span(network: IPv4Network | IPv6Network) -> Span:
    """The addresses of a network."""
    return int(network.network_address), int(network.broadcast_address)


def without(spans: Iterable[Span], taken: Sequence[int]) -> list[Span]:
    """The spans, joined where they touch, without single addresses (in order)."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    left: list[Span] = []
    at = 0
    for first, last in found:
        while at < len(taken) and taken[at] < first:
            at += 1
        while at < len(taken) and taken[at] <= last:
            if taken[at] > first:
                left.append((first, taken[at] - 1))
            first = taken[at] + 1
            at += 1
        if first <= last:
            left.append((first, last))
    return left


def prefixes(spans: Iterable[Span], version: int = 4) -> tuple[str, ...]:
    """The fewest networks that make up the spans, in order."""
    bits = BITS[version]
    made = IPv4Address if version == 4 else IPv6Address
    found = []
    for first, last in spans:
        while first <= last:
            size = min(first & -first if first else 1 << bits, 1 << ((last - first + 1).bit_length() - 1))
            length = bits + 1 - size.bit_length()
            address = str(made(first))
            found.append(address if length == bits else f"{address}/{length}")
            first += size
    return tuple(found)
