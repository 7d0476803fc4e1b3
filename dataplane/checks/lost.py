"""Where a packet got lost: the last point on its way where it was seen, and the first where it was not. Pure.

The way is what the intent says: the NIC, its tap, an uplink of its host, the switch at the other end of that
cable, an uplink of the receiver's host, the receiver's tap, the NIC. A way over a gateway host is longer;
then the last sighting still tells where it died.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dataplane.checks.flight import Flight
from dataplane.checks.places import Place
from dataplane.checks.verdict import passing
from dataplane.checks.watch import Sighting
from netctl.model import Intent, devices


@dataclass(frozen=True, slots=True)
class _Stage:
    """Some points, one of which the packet passes in this direction; `near`: before it is on the fabric."""

    label: str
    names: frozenset[str]
    outgoing: bool
    near: bool = False

    def has(self, sighting: Sighting) -> bool:
        return sighting.place.name in self.names and sighting.outgoing == self.outgoing


def where(intent: Intent, flight: Flight) -> str:
    """Where the packet, or if it arrived its answer, was last seen and first missing; "" if nowhere."""
    receiver = next(iter(flight.target.servers), None)
    if not flight.left:
        return ""
    if flight.arrived and receiver:
        receiver = flight.arrived[0].place
        if not flight.answers:
            return _lost(intent, flight, receiver, flight.source, answer=True)
        return ""
    return _lost(intent, flight, flight.source, receiver, answer=False)


def _lost(intent: Intent, flight: Flight, start: Place, end: Place | None, *, answer: bool) -> str:
    aside = _aside(intent, start, end)
    seen = sorted(
        (
            each
            for each in flight.waypoints
            if flight.is_request(each.packet) != answer and each.place.name not in aside
        ),
        key=lambda sighting: sighting.time,
    )
    what = "answer " if answer else ""
    if not seen:
        if answer and not flight.replies:
            return f"{start.node} did not answer"
        first = _way(intent, start, end)[:1]
        return f"{what}last seen leaving {start.name}" + (f", not {first[0].label}" if first else "")
    last = seen[-1]
    text = f"last seen {passing(flight, last)}"
    following = _missing(intent, last, _way(intent, start, end), seen)
    return text + (f", not {following}" if following else "")


def _aside(intent: Intent, start: Place, end: Place | None) -> set[str]:
    """Points off the way that only floods reach: of other hosts, between NICs of one segment."""
    if end is None or start.segment != end.segment:
        return set()
    found = set()
    for host in intent.hosts.values():
        if host.name not in (start.host, end.host):
            for nic, made in host.nics.items():
                found |= {f"{host.name} {nic}", f"{made.switch} {devices.cable(host.name, nic)}"}
    return found


def _missing(intent: Intent, last: Sighting, way: Sequence[_Stage], seen: Sequence[Sighting]) -> str:
    """The first stage behind the last sighting that saw nothing."""
    if last.outgoing and last.place.role == "uplink":
        host = intent.hosts[last.place.node]
        switch = host.nics[last.place.device].switch
        return f"in at {switch} {devices.cable(host.name, last.place.device)}"
    reached = max((at for at, stage in enumerate(way) if any(stage.has(each) for each in seen)), default=-1)
    if last.place.role == "switch":
        reached = max(reached, sum(stage.near for stage in way) - 1)
    return way[reached + 1].label if reached + 1 < len(way) else ""


def _way(intent: Intent, start: Place, end: Place | None) -> list[_Stage]:
    stages = []
    if start.host:
        stages.append(_tap(intent, start, outgoing=False))
    if end is None or start.host is None or start.host != end.host:
        if start.host:
            stages.append(_uplinks(intent, start.host, outgoing=True))
        if end and end.host:
            stages.append(_uplinks(intent, end.host, outgoing=False))
        elif end:
            switch = intent.machines[end.node].definition.switch
            name = f"{switch} {devices.machine_cable(end.node)}"
            stages.append(_Stage(f"out at {name}", frozenset({name}), True))
    if end and end.host:
        stages.append(_tap(intent, end, outgoing=True))
    if end:
        stages.append(_Stage(f"in at {end.name}", frozenset({end.name}), False))
    return stages


def _tap(intent: Intent, nic: Place, *, outgoing: bool) -> _Stage:
    name = f"{nic.host} {intent.port(nic.name).tap}"
    return _Stage(f"{'out' if outgoing else 'in'} at {name}", frozenset({name}), outgoing, near=not outgoing)


def _uplinks(intent: Intent, host: str, *, outgoing: bool) -> _Stage:
    nics = list(intent.hosts[host].nics)
    label = f"{'out' if outgoing else 'in'} at {host} {' or '.join(nics)}"
    return _Stage(label, frozenset(f"{host} {nic}" for nic in nics), outgoing, near=outgoing)
