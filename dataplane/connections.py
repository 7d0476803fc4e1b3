"""Connections that a host tracks for NICs and routers on OVN's networks (ovs-vswitchd(8), dpctl)."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from dataplane.daemons import CONTROLLER, VSWITCHD, Runner
from netctl.errors import ChangeError

_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmp6": 58}
"""IP's numbers."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection as its first packet went; `port` is the logical switch port whose zone it is in.

    A router's zones are called `red_snat` and `red_dnat`. `number` is the port that it goes to, or the ICMP
    type; `source_number` the other port, or the ICMP id. `seen_source` and `seen_target` are the ends after
    translation.
    """

    port: str
    zone: int
    protocol: str
    source: IPv4Address | IPv6Address
    target: IPv4Address | IPv6Address
    source_number: int
    number: int
    code: int = 0
    seen_source: IPv4Address | IPv6Address | None = None
    seen_target: IPv4Address | IPv6Address | None = None

    @property
    def tuple_(self) -> str:
        """What tells it from others, as dpctl/flush-conntrack takes it."""
        family = "nw" if self.source.version == 4 else "ipv6"
        ends = f"ct_{family}_src={self.source},ct_{family}_dst={self.target}"
        protocol = _PROTOCOLS[self.protocol]
        if self.protocol.startswith("icmp"):
            numbers = f"icmp_id={self.source_number},icmp_type={self.number},icmp_code={self.code}"
            return f"{ends},ct_nw_proto={protocol},{numbers}"
        return f"{ends},ct_nw_proto={protocol},ct_tp_src={self.source_number},ct_tp_dst={self.number}"


_ENTRY = re.compile(
    r"^(?P<protocol>tcp|udp|icmpv6|icmp),orig=\(src=(?P<src>[\da-f.:]+),dst=(?P<dst>[\da-f.:]+),"
    r"(?:sport=(?P<sport>\d+),dport=(?P<dport>\d+)|id=(?P<id>\d+),type=(?P<type>\d+),code=(?P<code>\d+))"
    r"\),reply=\(src=(?P<seen_dst>[\da-f.:]+),dst=(?P<seen_src>[\da-f.:]+),.*?,zone=(?P<zone>\d+)",
    re.MULTILINE,
)
_ZONE = re.compile(r"^(\S+) (\d+)$", re.MULTILINE)


def tracked(runner: Runner, host: str) -> list[Connection]:
    """The connections that a host tracks for its NICs. ChangeError when a daemon of it does not answer."""
    zones = {int(zone): port for port, zone in _ZONE.findall(runner.ask(host, CONTROLLER, "ct-zone-list"))}
    return parse(runner.ask(host, VSWITCHD, "dpctl/dump-conntrack"), zones)


def parse(dump: str, zones: dict[int, str]) -> list[Connection]:
    """The connections in what dpctl/dump-conntrack says, of the zones that are a port's."""
    found = []
    for entry in _ENTRY.finditer(dump):
        zone = int(entry["zone"])
        if zone in zones:
            found.append(
                Connection(
                    port=zones[zone],
                    zone=zone,
                    protocol=entry["protocol"].replace("icmpv6", "icmp6"),
                    source=ip_address(entry["src"]),
                    target=ip_address(entry["dst"]),
                    source_number=int(entry["sport"] or entry["id"]),
                    number=int(entry["dport"] or entry["type"]),
                    code=int(entry["code"] or 0),
                    seen_source=ip_address(entry["seen_src"]),
                    seen_target=ip_address(entry["seen_dst"]),
                )
            )
    return found


def forget(runner: Runner, host: str, connections: Iterable[Connection]) -> None:
    """Have a host forget connections: their next packets are judged anew, whichever way they go."""
    for one in connections:
        try:
            runner.ask(host, VSWITCHD, "dpctl/flush-conntrack", f"zone={one.zone}", one.tuple_)
        except ChangeError as error:
            if os.strerror(errno.ENOENT) not in error.message:
                raise  # it has not just ended by itself
