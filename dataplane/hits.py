"""Hits: what policies logged of packets, read from each host's own logs in the order of time.

ovn-controller writes what ACLs log into its log (ovn-nb(5), ACL log), the daemon beside br.microseg into its
own (dataplane.punt). Both become the same values; what a rule is, their reader knows.
"""

from __future__ import annotations

import calendar
import heapq
import json
import os
import re
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import BinaryIO

from dataplane import store
from dataplane.daemons import CONTROLLER, HITS
from dataplane.punt import WATCHED


@dataclass(frozen=True, slots=True)
class Hit:
    """A packet that a rule of a policy logged.

    Which rule, `label` says in words on subnets that OVN carries (policy, rule, outcome), `cookie` on VLAN
    basic ones; the other is empty. `passed` is None where the rule decides that. `number` is the port, or the
    ICMP type.
    """

    time: float
    host: str
    label: str
    cookie: int
    inbound: bool
    passed: bool | None
    source_mac: str
    target_mac: str
    source: IPv4Address | IPv6Address | None
    target: IPv4Address | IPv6Address | None
    protocol: str
    source_port: int | None
    number: int | None


def read(lab: str, hosts: Iterable[str]) -> list[Hit]:
    """All hits that the hosts' logs still have, in the order of time."""
    found = (list(_of_file(host, file)) for host in hosts for file in _files(lab, host, old=True))
    return list(heapq.merge(*(sorted(hits, key=_when) for hits in found), key=_when))


def _when(hit: Hit) -> float:
    return hit.time


def _files(lab: str, host: str, old: bool = False) -> list[Path]:
    place = store.directory(lab) / host
    return [
        *([place / f"{HITS}.1"] if old else []),
        place / HITS,
        place / f"{CONTROLLER.role}.log",
    ]


def _of_file(host: str, file: Path) -> Iterator[Hit]:
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        hit = parse(host, line.decode(errors="replace"))
        if hit is not None:
            yield hit


class Follower:
    """Hits as they come, from now on; of hosts that come later, from their first on."""

    def __init__(self, lab: str, hosts: Iterable[str]) -> None:
        self._lab = lab
        self._tails: dict[str, list[_Tail]] = {}
        self._watch(hosts, whole=False)

    def new(self, hosts: Iterable[str]) -> list[Hit]:
        """The hits of these hosts since the last call, in the order of time. Waits for nothing."""
        self._watch(hosts, whole=True)
        return sorted(
            (hit for tails in self._tails.values() for tail in tails for hit in tail.new()), key=_when
        )

    def _watch(self, hosts: Iterable[str], whole: bool) -> None:
        for host in hosts:
            if host not in self._tails:
                self._tails[host] = [_Tail(host, file, whole) for file in _files(self._lab, host)]


class _Tail:
    """What is added to a file, also to one that takes its place."""

    def __init__(self, host: str, file: Path, whole: bool) -> None:
        self._host, self._file = host, file
        self._log = self._open()
        if self._log is not None and not whole:
            self._log.seek(0, os.SEEK_END)

    def _open(self) -> BinaryIO | None:
        try:
            return self._file.open("rb")
        except FileNotFoundError:
            return None

    def new(self) -> Iterator[Hit]:
        """The hits of the whole lines that were added."""
        log, now = self._log, self._open()
        yield from self._rest(log)
        if now is not None and (log is None or not os.path.sameopenfile(log.fileno(), now.fileno())):
            log, self._log, now = now, now, log
            yield from self._rest(log)
        if now is not None:
            now.close()

    def _rest(self, log: BinaryIO | None) -> Iterator[Hit]:
        while log is not None:
            start = log.tell()
            line = log.readline()
            if not line.endswith(b"\n"):
                log.seek(start)
                return
            hit = parse(self._host, line.decode(errors="replace"))
            if hit is not None:
                yield hit


# --- lines ------------------------------------------------------------------------------------------------


def parse(host: str, line: str) -> Hit | None:
    """A line of either log; None for what is no hit."""
    return _of_json(host, line) if line.startswith("{") else _of_acl(host, line)


_ACL = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?P<fraction>\.\d+)?Z\|\d+\|acl_log\([^)]*\)\|INFO\|"
    r'name="(?P<name>[^"]*)", verdict=(?P<verdict>\w+), severity=\w+, direction=(?P<direction>[\w-]+): '
    r"(?P<protocol>\w+),(?P<fields>.*)"
)
_PROTOCOLS = {"tcp6": "tcp", "udp6": "udp"}


def _of_acl(host: str, line: str) -> Hit | None:
    found = _ACL.match(line)
    if found is None:
        return None
    fields = dict(field.split("=", 1) for field in found["fields"].split(",") if "=" in field)
    when = calendar.timegm(time.strptime(found["time"], "%Y-%m-%dT%H:%M:%S")) + float(found["fraction"] or 0)
    number = fields.get("tp_dst", fields.get("icmp_type"))
    source_port = fields.get("tp_src")
    return Hit(
        time=when,
        host=host,
        label=found["name"],
        cookie=0,
        inbound=found["direction"] == "to-lport",
        passed=found["verdict"] in ("allow", "pass"),
        source_mac=fields.get("dl_src", ""),
        target_mac=fields.get("dl_dst", ""),
        source=_address(fields.get("nw_src", fields.get("ipv6_src"))),
        target=_address(fields.get("nw_dst", fields.get("ipv6_dst"))),
        protocol=_PROTOCOLS.get(found["protocol"], found["protocol"]),
        source_port=int(source_port) if source_port else None,
        number=int(number) if number else None,
    )


def _address(text: str | None) -> IPv4Address | IPv6Address | None:
    return None if text is None else ip_address(text)


def _of_json(host: str, line: str) -> Hit | None:
    try:
        hit = json.loads(line)
        frame = bytes.fromhex(hit["frame"])
        return _of_frame(host, float(hit["time"]), int(hit["cookie"], 16), int(hit["told"]), frame)
    except (ValueError, KeyError, TypeError, struct.error):
        return None  # half a line


_NUMBERS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}


def _of_frame(host: str, when: float, cookie: int, told: int, frame: bytes) -> Hit:
    at = 12
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    ethertype, packet = struct.unpack_from("!H", frame, at)[0], frame[at + 2 :]
    source: IPv4Address | IPv6Address | None = None
    target: IPv4Address | IPv6Address | None = None
    protocol, source_port, number = f"ethertype 0x{ethertype:04x}", None, None
    body = b""
    if ethertype == 0x0800:
        source, target = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
        body = packet[(packet[0] & 0xF) * 4 :]
        protocol = _NUMBERS.get(packet[9], f"protocol {packet[9]}")
    elif ethertype == 0x86DD:
        source, target = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
        body = packet[40:]
        protocol = _NUMBERS.get(packet[6], f"protocol {packet[6]}")
    if protocol in ("tcp", "udp") and len(body) >= 4:
        source_port, number = struct.unpack_from("!HH", body)
    elif protocol.startswith("icmp") and body:
        number = body[0]
    return Hit(
        time=when,
        host=host,
        label="",
        cookie=cookie,
        inbound=told & 3 == 2,
        passed=True if told & WATCHED else None,
        source_mac=frame[6:12].hex(":"),
        target_mac=frame[:6].hex(":"),
        source=source,
        target=target,
        protocol=protocol,
        source_port=source_port,
        number=number,
    )
