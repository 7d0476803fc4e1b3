"""Datapath actions, as ofproto/trace prints them, applied to a packet: where it leaves, and as what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from dataplane.trace.packet import Packet


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Geneve (RFC 8926) or VXLAN around a packet: the outer addresses, and what tells the inner network."""

    outer: Packet
    vni: int
    option: str


@dataclass(frozen=True, slots=True)
class Output:
    """The packet as it leaves by a port of the datapath; with `tunnel`, inside of that."""

    port: int
    packet: Packet
    tunnel: Tunnel | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What becomes of a packet: outputs, and words about what else is done to it."""

    outputs: tuple[Output, ...]
    notes: tuple[str, ...]


def apply(sections: list[str], packet: Packet) -> Result:
    """What the actions do to the packet; a section more for each time that it goes round again."""
    outputs: list[Output] = []
    notes: list[str] = []
    for section in sections:
        packet = _run(section, packet, outputs, notes)
    return Result(tuple(dict.fromkeys(outputs)), tuple(dict.fromkeys(notes)))


def after(sections: Iterable[str], packet: Packet) -> Packet:
    """The packet as these actions leave it."""
    for section in sections:
        packet = _run(section, packet, [], [])
    return packet


def _run(text: str, packet: Packet, outputs: list[Output], notes: list[str]) -> Packet:
    tunnel: Tunnel | None = None
    for word in split(text):
        name, _, rest = word.partition("(")
        inside = rest[:-1]
        if word.isdigit():
            outputs.append(Output(int(word), packet, tunnel))
        elif name == "push_vlan":
            packet = replace(packet, vlans=(int(_values(inside)["vid"], 0), *packet.vlans))
        elif name == "pop_vlan":
            packet = replace(packet, vlans=packet.vlans[1:])
        elif name == "set":
            packet = _set(inside, packet)
        elif name == "ct":
            packet = _translate(inside, packet, notes)
        elif name == "tnl_push":
            tunnel = _tunnel(inside)
            # What follows up to the next change of the packet are the ports that the outer one leaves by.
        elif name == "clone":
            _run(inside, packet, outputs, notes)
        elif name == "check_pkt_len":
            fits = next((part for part in split(inside) if part.startswith("le(")), "le()")
            packet = _run(fits[3:-1], packet, outputs, notes)
        elif name == "userspace":
            notes.append("a copy goes to the controller")
    return packet


def split(text: str) -> Iterator[str]:
    """The parts between commas that are inside of no parentheses or braces."""
    depth, start = 0, 0
    for at, letter in enumerate(text):
        if letter in "({":
            depth += 1
        elif letter in ")}":
            depth -= 1
        elif letter == "," and not depth:
            yield text[start:at].strip()
            start = at + 1
    if text[start:].strip():
        yield text[start:].strip()


def _values(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in split(text) if "=" in part)


def _set(text: str, packet: Packet) -> Packet:
    name, _, rest = text.partition("(")
    values = {key: value.partition("/")[0] for key, value in _values(rest[:-1]).items()}
    if name == "eth":
        return replace(packet, src=values.get("src", packet.src), dst=values.get("dst", packet.dst))
    if name in ("ipv4", "ipv6"):
        return replace(
            packet,
            nw_src=values.get("src", packet.nw_src),
            nw_dst=values.get("dst", packet.nw_dst),
            ttl=int(values.get("ttl", values.get("hlimit", packet.ttl))),
        )
    if name in ("tcp", "udp"):
        return replace(
            packet,
            source_port=int(values.get("src", packet.source_port)),
            port=int(values.get("dst", packet.port)),
        )
    return packet


_NAT = re.compile(r"nat\((src|dst)=([\d.]+)(?::(\d+))?")


def _translate(text: str, packet: Packet, notes: list[str]) -> Packet:
    found = _NAT.search(text)
    if found is None:
        return packet
    end, address, port = found.groups()
    if end == "src":
        notes.append(f"source NAT: {packet.nw_src} becomes {address}")
        return replace(packet, nw_src=address)
    notes.append(f"destination NAT: {packet.nw_dst} becomes {address}" + (f", port {port}" if port else ""))
    return replace(packet, nw_dst=address, port=int(port or packet.port))


_PUSHED = re.compile(
    r"eth\(dst=(?P<dst>[0-9a-f:]+),src=(?P<src>[0-9a-f:]+).*?"
    r"ipv4\(src=(?P<nw_src>[\d.]+),dst=(?P<nw_dst>[\d.]+).*?"
    r"udp\(src=\d+,dst=(?P<port>\d+).*?"
    r"vni=(?P<vni>0x[0-9a-f]+|\d+)(?:,options\(\{[^}]*len=4,(?P<option>0x[0-9a-f]+))?"
)


def _tunnel(text: str) -> Tunnel | None:
    found = _PUSHED.search(text)
    if found is None:
        return None
    outer = Packet(found["src"], found["dst"], found["nw_src"], found["nw_dst"], "udp", int(found["port"]))
    return Tunnel(outer, int(found["vni"], 0), found["option"] or "0")
