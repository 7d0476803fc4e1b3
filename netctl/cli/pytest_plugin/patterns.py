"""What a test expects of a packet, and in what one that arrived differs from it. Pure.

A scapy packet stands for all packets that have the fields which its author wrote: `IP(dst="10.0.0.2") /
UDP(dport=53)` says nothing of addresses of origin, TTL, checksums or payload. It begins with the layer that
it begins with: what is around it (Ethernet, a VLAN tag) may be anything. What follows its last layer too.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from netctl.errors import InputError

Expected = Any
"""A scapy packet, a frame's octets, a tcpdump expression, or a function that is asked about each packet."""

_LONGEST_WORDS = 300


class Pattern(Protocol):
    """What is expected; `words` says it in one line."""

    words: str

    def differences(self, frame: bytes) -> list[str]:
        """In what a frame, tags included, differs from it; nothing if it fits."""


def pattern(
    expected: Expected, ignore: Sequence[str] = (), addresses: Mapping[str, Sequence[str]] | None = None
) -> Pattern:
    """The pattern that a test's words stand for.

    Args:
        expected: see Expected.
        ignore: fields of the packet that do not count, such as "ttl" or "IP.src", or whole layers ("Ether").
        addresses: the lab's names for tcpdump expressions.

    Raises:
        InputError: it is none of these, or a field to be ignored that it does not have.
    """
    from scapy.layers.l2 import Ether
    from scapy.packet import Packet

    if isinstance(ignore, str):
        ignore = (ignore,)
    if isinstance(expected, bytes):
        if len(expected) < 14:
            raise InputError(
                f"{len(expected)} octets are no frame", "Expect a whole Ethernet frame, or a scapy packet."
            )
        expected = Ether(expected)
    if isinstance(expected, type) and issubclass(expected, Packet):
        expected = expected()
    if isinstance(expected, Packet):
        return PacketPattern(expected, ignore)
    if ignore:
        raise InputError("ignore= takes fields out of a packet", "Expect a scapy packet or a frame's octets.")
    if isinstance(expected, str):
        return ExpressionPattern(expected, addresses or {})
    if callable(expected):
        return FunctionPattern(expected)
    raise InputError(
        f"{expected!r} is nothing that a packet can be compared with",
        "Expect a scapy packet, a frame's octets, a tcpdump expression such as 'udp port 53', or a function.",
    )


class FunctionPattern:
    """Packets for which a function of the test's says yes; it gets them as scapy dissects them."""

    def __init__(self, function: Callable[[Any], object]) -> None:
        self._function = function
        self.words = f"a packet for which {getattr(function, '__name__', 'the function')} is true"

    def differences(self, frame: bytes) -> list[str]:
        """See Pattern."""
        from scapy.layers.l2 import Ether

        return [] if self._function(Ether(frame)) else ["the function says no"]


class ExpressionPattern:
    """Packets for which a tcpdump expression holds, tagged or not (dataplane.capture.filters)."""

    def __init__(self, text: str, addresses: Mapping[str, Sequence[str]]) -> None:
        from dataplane.capture.filters import Expression, with_addresses

        self._expression = Expression(with_addresses(text, addresses))
        self.words = f"'{text}'"

    def differences(self, frame: bytes) -> list[str]:
        """See Pattern."""
        return [] if self._expression.accepts(frame) else ["the expression does not hold"]


class PacketPattern:
    """Packets with the fields that are written in a scapy packet."""

    def __init__(self, packet: Any, ignore: Sequence[str] = ()) -> None:
        self._layers = list(_layers(packet))
        words = packet.command()
        self.words = words if len(words) <= _LONGEST_WORDS else f"{words[:_LONGEST_WORDS]}..."
        self._ignore = frozenset(ignore)
        _refuse_unknown(self._layers, ignore)

    def differences(self, frame: bytes) -> list[str]:
        """See Pattern."""
        from scapy.layers.l2 import Ether
        from scapy.packet import Raw

        first = type(self._layers[0])
        if first is Ether:
            octets: bytes = frame
        else:
            found = Ether(frame).getlayer(first)
            if found is None:
                return [f"no {first.__name__} in it"]
            octets = found.original
        under = None
        for layer in self._layers:
            if type(layer) is Raw:
                return self._payload(layer, octets)
            try:
                seen, octets = _dissected(type(layer), octets, under)
            except Exception:
                return [f"{type(layer).__name__} ends too early"]
            if wrong := list(self._fields(layer, seen)):
                return wrong
            under = seen
        return []

    def _fields(self, layer: Any, seen: Any) -> Iterator[str]:
        kind = type(layer).__name__
        for name in dict.fromkeys((*layer.overloaded_fields, *layer.fields)):
            wanted = layer.getfieldval(name)
            if self._ignored(kind, name) or not _written(layer, name, wanted):
                continue
            field, there = layer.get_field(name), seen.getfieldval(name)
            if not _same(field, wanted, there, layer, seen):
                yield f"{kind}.{name} is {field.i2repr(seen, there)}, not {_shown(field, layer, wanted)}"

    def _payload(self, layer: Any, octets: bytes) -> list[str]:
        wanted = bytes(layer.load)
        if octets == wanted or self._ignored("Raw", "load"):
            return []
        if len(octets) != len(wanted):
            return [f"the payload has {len(octets)} octets, not {len(wanted)}"]
        at = next(index for index, pair in enumerate(zip(octets, wanted, strict=True)) if pair[0] != pair[1])
        return [f"the payload differs from octet {at} on"]

    def _ignored(self, kind: str, name: str) -> bool:
        return not self._ignore.isdisjoint((name, kind, f"{kind}.{name}"))


def _layers(packet: Any) -> Iterator[Any]:
    from scapy.packet import NoPayload, Padding

    while not isinstance(packet, NoPayload | Padding):
        yield packet
        packet = packet.payload


def _refuse_unknown(layers: Iterable[Any], ignore: Iterable[str]) -> None:
    known: dict[str, None] = {}
    for layer in layers:
        kind = type(layer).__name__
        known |= dict.fromkeys([kind, *(f"{kind}.{field.name}" for field in layer.fields_desc)])
    names = {*known, *(name.partition(".")[2] for name in known)} - {""}
    for word in ignore:
        if word not in names:
            near = difflib.get_close_matches(word, names, n=1)
            raise InputError(
                f"ignore: the packet has no {word}" + (f"; did you mean {near[0]}?" if near else ""),
                f"It has {', '.join(name for name in known if '.' in name)}.",
            )


def _dissected(kind: type[Any], octets: bytes, under: Any) -> tuple[Any, bytes]:
    """The octets as this layer, whatever scapy would have guessed, and those behind it without padding."""
    seen = kind(_underlayer=under)
    rest = seen.post_dissect(seen.do_dissect(seen.pre_dissect(octets)))
    rest, _ = seen.extract_padding(rest)
    return seen, bytes(rest or b"")


def _written(layer: Any, name: str, value: Any) -> bool:
    """Whether somebody wrote it: not what scapy computes, draws by lot, or puts in as a list of its own."""
    from scapy.volatile import VolatileValue

    if isinstance(value, list) and (not value or value == layer.default_fields.get(name)):
        return False
    return value is not None and not isinstance(value, VolatileValue)


def _same(field: Any, wanted: Any, there: Any, layer: Any, seen: Any) -> bool:
    if wanted == there:
        return True
    if isinstance(wanted, list | tuple) and not field.islist:  # scapy's sets: [a, b], (lowest, highest)
        if isinstance(wanted, tuple):
            return bool(wanted[0] <= there <= wanted[-1])
        return any(_same(field, each, there, layer, seen) for each in wanted)
    if hasattr(wanted, "__contains__") and not isinstance(wanted, str | bytes | list | tuple):
        return there in wanted  # a network
    try:
        return bool(field.i2m(layer, wanted) == field.i2m(seen, there))
    except Exception:
        return False


def _shown(field: Any, layer: Any, value: Any) -> str:
    try:
        return str(field.i2repr(layer, value))
    except Exception:
        return repr(value)
