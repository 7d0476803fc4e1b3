"""The daemon of a BGP speaker that tells its bgpd what to announce: what OVN's databases say at this moment.

    python -I bgp_feed.py --pidfile=FILE --log-file=FILE --schemas=DIR NORTHBOUND SOUTHBOUND PORT CHASSIS VTY

PORT is the router port of a way out of a VPC; its northbound row says in external_ids what routers are to
learn (`bgp-announce`) and who they are (`bgp-peers`, see netctl.compile.external). The southbound database
says whether CHASSIS is the port's gateway now, and which NICs are up. VTY is bgpd's socket.

OVN's own dynamic routing would write the routes into a VRF of the host for FRR to find; there may be no VRFs
in the kernel, see docs/decisions/0003-bgp.md. While a database is away, what it said last holds.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

import ovs.db.idl
import ovs.poller

SPEAKERS_AS = 64512
"""The autonomous system of bgpd (netctl.model.bgp, which a daemon of its own does not import)."""

RETRY = 0.2
"""Seconds until the next try where bgpd does not answer."""

HANDOVER = 2.0
"""Seconds that a host goes on to announce when another has become the gateway: until routers have its word.

The next hop is the same, so nothing goes to the wrong place meanwhile.
"""


@dataclass(frozen=True)
class Wanted:
    """What bgpd is to do: announce prefixes with a next hop to some neighbours."""

    hop: str = ""
    peers: frozenset[str] = frozenset()
    prefixes: frozenset[str] = frozenset()


class Bgpd:
    """A bgpd, and what it was told."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._told = Wanted()

    def make(self, wanted: Wanted) -> bool:
        """Tell it what differs; False where it does not answer, and has to be told all when it does."""
        try:
            if self._gone():
                self._told = Wanted()
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(10)
                self._socket.connect(self._path)
                self._say("enable")
            for lines in commands(self._told, wanted):
                for line in ("configure terminal", *lines, "end"):
                    self._say(line)
        except OSError:
            if self._socket is not None:
                self._socket.close()
            self._socket = None
            return False
        self._told = wanted
        return True

    def wait(self, poller: Any) -> None:
        """Wake up when it goes away."""
        if self._socket is not None:
            poller.fd_wait(self._socket.fileno(), ovs.poller.POLLIN)

    def _gone(self) -> bool:
        if self._socket is None:
            return True
        # Between commands it has nothing to say: what is there to read is its end.
        if select.select([self._socket], [], [], 0)[0]:
            self._socket.close()
            self._socket = None
        return self._socket is None

    def _say(self, line: str) -> None:
        """One command; the answer ends with three zeros and its code (FRR's vtysh.c)."""
        assert self._socket is not None
        self._socket.sendall(line.encode() + b"\0")
        answer = b""
        while len(answer) < 4 or answer[-4:-1] != b"\0\0\0":
            more = self._socket.recv(4096)
            if not more:
                raise ConnectionResetError
            answer += more
        if answer[-1] != 0:
            words = answer[:-4].decode(errors="replace").strip()
            print(f"bgpd refuses `{line}`: {words or answer[-1]}", file=sys.stderr, flush=True)


def commands(told: Wanted, wanted: Wanted) -> list[list[str]]:
    """The configuration commands that lead from one to the other, in blocks."""
    blocks = []
    if wanted.hop != told.hop and wanted.hop:
        blocks.append(["route-map announce permit 10", f"set ip next-hop {wanted.hop}"])
    router = [f"no neighbor {peer}" for peer in sorted(told.peers - wanted.peers)]
    for peer in sorted(wanted.peers - told.peers):
        router += [f"neighbor {peer} peer-group routers", f"neighbor {peer} timers connect 1"]
    networks = [f"network {prefix}" for prefix in sorted(wanted.prefixes - told.prefixes)]
    networks += [f"no network {prefix}" for prefix in sorted(told.prefixes - wanted.prefixes)]
    if networks:
        router += ["address-family ipv4 unicast", *networks]
    if router:
        blocks.append([f"router bgp {SPEAKERS_AS}", *router])
    return blocks


class Ovn:
    """What OVN's databases say of one router port."""

    def __init__(self, northbound: str, southbound: str, schemas: str, port: str, chassis: str) -> None:
        self._port, self._chassis = port, chassis
        self._north = _replica(
            northbound,
            f"{schemas}/ovn-nb.ovsschema",
            {"Logical_Router_Port": ["name", "networks", "external_ids"]},
        )
        self._north.cond_change("Logical_Router_Port", [["name", "==", port]])
        self._south = _replica(
            southbound,
            f"{schemas}/ovn-sb.ovsschema",
            {"Port_Binding": ["logical_port", "chassis", "up"], "Chassis": ["name"]},
        )
        self._asked: list[Any] = [False]
        self._south.cond_change("Port_Binding", self._asked)

    def run(self) -> None:
        """Take in what the databases have sent, and ask for the ports that matter."""
        self._north.run()
        self._south.run()
        there = self._announced().values()
        names = sorted({f"cr-{self._port}", *(nic for nic in there if nic)})
        asked = [["logical_port", "==", name] for name in names]
        if asked != self._asked:
            self._asked = asked
            self._south.cond_change("Port_Binding", asked)
            self._south.run()  # that sends it

    def wait(self, poller: Any) -> None:
        """Wake up when they have something to say."""
        self._north.wait(poller)
        self._south.wait(poller)

    @property
    def known(self) -> bool:
        """Whether both databases have been heard of."""
        monitoring = ovs.db.idl.Idl.IDL_S_MONITORING
        return bool(self._north.state == monitoring and self._south.state == monitoring)

    def wanted(self) -> Wanted:
        """What is to be announced while this host is the gateway."""
        row = self._row()
        if row is None:
            return Wanted()
        up = {
            binding.logical_port
            for binding in self._south.tables["Port_Binding"].rows.values()
            if binding.up == [True]
        }
        prefixes = {prefix for prefix, nic in self._announced().items() if nic is None or nic in up}
        hop = row.networks[0].partition("/")[0] if row.networks else ""
        return Wanted(hop, frozenset(row.external_ids.get("bgp-peers", "").split()), frozenset(prefixes))

    def gateway(self) -> str | None:
        """The chassis that is the port's gateway now."""
        for binding in self._south.tables["Port_Binding"].rows.values():
            if binding.logical_port == f"cr-{self._port}" and binding.chassis:
                return str(binding.chassis[0].name)
        return None

    def _row(self) -> Any:
        return next(iter(self._north.tables["Logical_Router_Port"].rows.values()), None)

    def _announced(self) -> dict[str, str | None]:
        row = self._row()
        words = row.external_ids.get("bgp-announce", "").split() if row is not None else []
        return {prefix: nic or None for prefix, _, nic in (word.partition("=") for word in words)}


def _replica(remote: str, schema: str, tables: dict[str, list[str]]) -> Any:
    helper = ovs.db.idl.SchemaHelper(location=schema)
    for table, columns in tables.items():
        helper.register_columns(table, columns)
    return ovs.db.idl.Idl(remote, helper)


def run(ovn: Ovn, bgpd: Bgpd, chassis: str) -> None:
    """Keep bgpd at what the databases say, until somebody ends this process."""
    wanted = Wanted()
    last = float("-inf")
    while True:
        ovn.run()
        poller = ovs.poller.Poller()
        if ovn.known:
            wanted = ovn.wanted()
            gateway, now = ovn.gateway(), time.monotonic()
            if gateway == chassis:
                last = now
            left = last + HANDOVER - now if gateway is not None else 0
            if gateway != chassis and left <= 0:
                wanted = Wanted(wanted.hop, wanted.peers)
            elif gateway != chassis:
                poller.timer_wait(max(1, int(1000 * left)))
        if bgpd.make(wanted):
            bgpd.wait(poller)
        else:
            poller.timer_wait(int(1000 * RETRY))
        ovn.wait(poller)
        poller.block()


def main(arguments: list[str]) -> None:
    """Become a daemon and feed."""
    options = dict(word.removeprefix("--").split("=", 1) for word in arguments if word.startswith("--"))
    northbound, southbound, port, chassis, vty = (word for word in arguments if not word.startswith("--"))
    if os.fork():
        os._exit(0)
    log = os.open(options["log-file"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    with open(options["pidfile"], "w") as file:
        file.write(f"{os.getpid()}\n")
    run(Ovn(northbound, southbound, options["schemas"], port, chassis), Bgpd(vty), chassis)


if __name__ == "__main__":
    main(sys.argv[1:])
