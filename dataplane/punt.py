"""The daemon of a host that takes what br.microseg punts: it logs hits and answers what a policy rejects.

    python -I punt.py --pidfile=FILE --log-file=FILE --hits=FILE SOCKET

OVN's own controller does both for its switches; VLAN basic subnets have no OVN. It is an OpenFlow 1.3
connection (Open Networking Foundation, OpenFlow Switch Specification 1.3.5) with Open vSwitch's own packet-in
(openvswitch/nicira-ext.h, NXT_PACKET_IN2), which carries the flow's cookie and the action's `userdata`: its
first octet says what to do, LOG or REJECT or both, the second is handed on to the log.

One line of JSON for each hit, with the frame's head in hex: whoever reads it knows the intent, this daemon
does not. It imports nothing but the standard library, so that it starts at once and stays small.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator

CONTROLLER_ID = 24946
"""The `id` of the actions that are for this daemon."""

LOG, REJECT = 1, 2

WATCHED = 4
"""Of what is told to the log, which is 1 for outbound or 2 for inbound: the policy is only monitored."""

RATE = 100
"""Hits a second that are logged of each flow; what is more is only counted, by the flow itself."""

MOST_OCTETS = 8 << 20
"""The log's size at which it becomes FILE.1, in place of the one before."""

HEAD = 96
"""Octets of a frame that are logged."""

RETRY = 0.2
"""Seconds until the next try where nobody answers."""

_VERSION = 0x04
_HELLO, _ECHO_REQUEST, _ECHO_REPLY, _EXPERIMENTER, _SET_CONFIG, _PACKET_OUT = 0, 2, 3, 4, 9, 13
_BARRIER_REQUEST, _BARRIER_REPLY = 20, 21
_NICIRA = 0x00002320
_SET_PACKET_IN_FORMAT, _SET_CONTROLLER_ID, _PACKET_IN2 = 16, 20, 30
_FORMAT_PACKET_IN2 = 2
_PACKET, _COOKIE, METADATA, _USERDATA = 0, 4, 6, 7
_OXM_IN_PORT = 0x8000
_FROM_CONTROLLER, _NO_BUFFER = 0xFFFFFFFD, 0xFFFFFFFF


# --- answers to rejected packets ---------------------------------------------------------------------------


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def refusal(frame: bytes) -> bytes | None:
    """The frame that tells its sender that a frame was rejected; None where nothing may be said.

    A TCP segment is answered by a reset (RFC 9293, 3.10.7.1), everything else by ICMP "administratively
    prohibited" (RFC 1812, 5.2.7.1; RFC 4443, 3.1); errors, resets, fragments and what is for many by nothing
    (RFC 1122, 3.2.2).
    """
    at = 12
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    ethertype, packet = frame[at : at + 2], frame[at + 2 :]
    if frame[0] & 1 or frame[6] & 1:
        return None
    answer = None
    if ethertype == b"\x08\x00" and len(packet) >= 20:
        answer = _refusal4(packet)
    elif ethertype == b"\x86\xdd" and len(packet) >= 40:
        answer = _refusal6(packet)
    return None if answer is None else frame[6:12] + frame[:6] + frame[12 : at + 2] + answer


def _refusal4(packet: bytes) -> bytes | None:
    header, length = (packet[0] & 0xF) * 4, struct.unpack_from("!H", packet, 2)[0]
    packet = packet[:length]
    body, protocol = packet[header:], packet[9]
    if struct.unpack_from("!H", packet, 6)[0] & 0x1FFF:
        return None
    source, target = packet[12:16], packet[16:20]
    if protocol == 6:
        made = _reset(body)
        if made is None:
            return None
        pseudo = target + source + struct.pack("!BBH", 0, 6, len(made))
        body = made[:16] + struct.pack("!H", checksum(pseudo + made)) + made[18:]
    elif protocol == 1 and body[:1] not in (b"\x08", b"\x0d"):
        return None
    else:
        protocol = 1
        quoted = packet[: header + 64]
        body = struct.pack("!BBHI", 3, 13, 0, 0) + quoted
        body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, 64, protocol, 0) + target + source
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def _refusal6(packet: bytes) -> bytes | None:
    packet = packet[: 40 + struct.unpack_from("!H", packet, 4)[0]]
    protocol, source, target, body = packet[6], packet[8:24], packet[24:40], packet[40:]
    if protocol == 44:  # a fragment
        return None
    if protocol == 6:
        made = _reset(body)
        if made is None:
            return None
        at = 16
    elif protocol == 58 and body[:1] < b"\x80":
        return None
    else:
        protocol, at = 58, 2
        made = struct.pack("!BBHI", 1, 1, 0, 0) + packet[:1232]
    pseudo = target + source + struct.pack("!II", len(made), protocol)
    made = made[:at] + struct.pack("!H", checksum(pseudo + made)) + made[at + 2 :]
    return struct.pack("!IHBB", 6 << 28, len(made), protocol, 64) + target + source + made


def _reset(segment: bytes) -> bytes | None:
    """The reset that answers a TCP segment, without its checksum."""
    if len(segment) < 20:
        return None
    sport, dport, sequence, acknowledged, offset, flags = struct.unpack_from("!HHIIBB", segment)
    if flags & 0x04:
        return None
    if flags & 0x10:
        numbers, answer = (acknowledged, 0), 0x04
    else:
        length = len(segment) - (offset >> 4) * 4 + bool(flags & 0x02) + bool(flags & 0x01)
        numbers, answer = (0, (sequence + length) & 0xFFFFFFFF), 0x14
    return struct.pack("!HHIIBBHHH", dport, sport, *numbers, 5 << 4, answer, 0, 0, 0)


# --- OpenFlow ----------------------------------------------------------------------------------------------


def message(kind: int, body: bytes, number: int = 0) -> bytes:
    """An OpenFlow message."""
    return struct.pack("!BBHI", _VERSION, kind, 8 + len(body), number) + body


def experimenter(subtype: int, body: bytes) -> bytes:
    """A message of Open vSwitch's own."""
    return message(_EXPERIMENTER, struct.pack("!II", _NICIRA, subtype) + body)


def greeting(identifier: int = CONTROLLER_ID) -> bytes:
    """What is said first: who we are, and which packets we want."""
    return (
        message(_HELLO, b"")
        + message(_SET_CONFIG, struct.pack("!HH", 0, 0xFFFF))
        + experimenter(_SET_PACKET_IN_FORMAT, struct.pack("!I", _FORMAT_PACKET_IN2))
        + experimenter(_SET_CONTROLLER_ID, struct.pack("!6xH", identifier))
        + message(_BARRIER_REQUEST, b"")
    )


def packet_out(port: int, frame: bytes) -> bytes:
    """A message that sends a frame out of a port."""
    action = struct.pack("!HHIH6x", 0, 16, port, 0xFFFF)
    head = struct.pack("!IIH6x", _NO_BUFFER, _FROM_CONTROLLER, len(action))
    return message(_PACKET_OUT, head + action + frame)


def properties(body: bytes) -> dict[int, bytes]:
    """The properties of a packet-in, by type."""
    found, at = {}, 0
    while at + 4 <= len(body):
        kind, length = struct.unpack_from("!HH", body, at)
        if length < 4:
            break
        found[kind] = body[at + 4 : at + length]
        at += (length + 7) // 8 * 8
    return found


def in_port(metadata: bytes) -> int | None:
    """The port that a packet came in by, of its fields in OXM form."""
    at = 0
    while at + 4 <= len(metadata):
        group, field, length = struct.unpack_from("!HBB", metadata, at)
        value = metadata[at + 4 : at + 4 + length]
        if group == _OXM_IN_PORT and field >> 1 == 0 and length == 4:
            return int.from_bytes(value, "big")
        at += 4 + length
    return None


class Hits:
    """The log of hits."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._second = 0
        self._logged: dict[bytes, int] = {}

    def add(self, cookie: bytes, told: int, frame: bytes) -> None:
        """Log a hit, unless there were too many of its flow in this second."""
        now = time.time()
        if int(now) != self._second:
            self._second, self._logged = int(now), {}
        self._logged[cookie] = self._logged.get(cookie, 0) + 1
        if self._logged[cookie] > RATE:
            return
        hit = {"time": round(now, 6), "cookie": cookie.hex(), "told": told, "frame": frame[:HEAD].hex()}
        with open(self._file, "ab") as log:
            log.write(json.dumps(hit).encode() + b"\n")
            full = log.tell() > MOST_OCTETS
        if full:
            os.replace(self._file, f"{self._file}.1")


class Connection:
    """An OpenFlow connection to a bridge, as the controller with this `id`; echo requests are answered."""

    def __init__(self, remote: str, identifier: int) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(remote)
        self._pending = b""
        self.socket.sendall(greeting(identifier))

    def fileno(self) -> int:
        """The socket's."""
        return self.socket.fileno()

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    def messages(self) -> Iterator[tuple[int, int, bytes]]:
        """What has come, as type, transaction and body. OSError when the bridge is gone."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the bridge has closed the connection")
        self._pending += data
        while len(self._pending) >= 8:
            _, kind, length, number = struct.unpack_from("!BBHI", self._pending)
            if len(self._pending) < length:
                return
            body, self._pending = self._pending[8:length], self._pending[length:]
            if kind == _ECHO_REQUEST:
                self.socket.sendall(message(_ECHO_REPLY, body, number))
            else:
                yield kind, number, body


class Switch(Connection):
    """A connection to br.microseg. `ready`: the bridge knows what we want."""

    def __init__(self, remote: str, hits: Hits) -> None:
        super().__init__(remote, CONTROLLER_ID)
        self._hits = hits
        self.ready = False

    def read(self) -> None:
        """Take in what has come, and act on it. OSError when the bridge is gone."""
        for kind, _, body in self.messages():
            if kind == _BARRIER_REPLY:
                self.ready = True
            elif kind == _EXPERIMENTER and struct.unpack_from("!II", body) == (_NICIRA, _PACKET_IN2):
                self._packet(properties(body[8:]))

    def _packet(self, found: dict[int, bytes]) -> None:
        told, frame = found.get(_USERDATA, b""), found.get(_PACKET, b"")
        if not told or len(frame) < 14:
            return
        if told[0] & LOG:
            self._hits.add(found.get(_COOKIE, b"")[-8:], told[1] if len(told) > 1 else 0, frame)
        port = in_port(found.get(METADATA, b""))
        answer = refusal(frame) if told[0] & REJECT and port is not None else None
        if answer is not None and port is not None:
            self.socket.sendall(packet_out(port, answer))


# --- the daemon --------------------------------------------------------------------------------------------


def serve(remote: str, hits: Hits, ready: int) -> None:
    """Take packets for ever. `ready` is a file descriptor to close when the first ones can come."""
    while True:
        try:
            switch = Switch(remote, hits)
        except OSError:
            time.sleep(RETRY)
            continue
        try:
            while True:
                select.select([switch], [], [])
                switch.read()
                if switch.ready and ready >= 0:
                    os.close(ready)
                    ready = -1
        except OSError:
            switch.close()
            time.sleep(RETRY)


def main(arguments: list[str]) -> None:
    """Go to the background, once connected; the pidfile is there by then."""
    options = dict(one[2:].split("=", 1) for one in arguments if one.startswith("--") and "=" in one)
    [remote] = [one for one in arguments if not one.startswith("--")]
    waiting, ready = os.pipe()
    if os.fork():
        os.close(ready)
        os.read(waiting, 1)
        os._exit(0)
    os.close(waiting)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(options["log-file"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, descriptor in ((0, null), (1, log), (2, log)):
        os.dup2(descriptor, number)
    with open(options["pidfile"], "w") as file:
        file.write(f"{os.getpid()}\n")
    serve(remote, Hits(options["hits"]), ready)


if __name__ == "__main__":
    main(sys.argv[1:])
