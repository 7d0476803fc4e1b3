"""A rule of a policy as an expression of OVN's match language (ovn-sb(5), Logical_Flow)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from netctl.compile.policies_peers import Peers
from netctl.compile.policies_rules import Direction
from netctl.model.service import Range

_PORTS = {"outbound": "inport", "inbound": "outport"}
_SIDES = {"outbound": "dst", "inbound": "src"}


def at(group: str, direction: Direction) -> str:
    """Packets of the NICs in a port group: those that they send (outbound) or get (inbound)."""
    return f"{_PORTS[direction]} == @{group}"


def with_peers(peers: Peers, direction: Direction, ipv4: str | None, ipv6: str | None) -> list[str]:
    """The term for the other end; `ipv4` and `ipv6` are the address sets of its addresses, if it has any."""
    if peers.everyone:
        return []
    side = _SIDES[direction]
    parts = ["ip4"] if peers.every4 else [f"ip4.{side} == ${ipv4}"] if ipv4 else []
    parts += ["ip6"] if peers.every6 else [f"ip6.{side} == ${ipv6}"] if ipv6 else []
    return [_either(parts)]


def of_services(services: Sequence[Range]) -> list[str]:
    """The term for the services; none where every packet fits."""
    parts: list[str] = []
    for protocol, found in groupby(services, key=lambda one: one.protocol):
        parts += _of_protocol(protocol, list(found))
    return [_either(parts)] if parts else []


def _of_protocol(protocol: str, found: list[Range]) -> Iterable[str]:
    name = "icmp4" if protocol == "icmp" else protocol
    if any(one.first is None for one in found):
        return [name]
    field = f"{name}.type" if protocol.startswith("icmp") else f"{name}.dst"
    single = [str(one.first) for one in found if one.first == one.last]
    parts = [f"{field} == {single[0]}" if len(single) == 1 else f"{field} == {{{', '.join(single)}}}"]
    return [
        *(parts if single else []),
        *(f"{one.first} <= {field} <= {one.last}" for one in found if one.first != one.last),
    ]


def _either(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else " || ".join(f"({part})" for part in parts).join("()")
