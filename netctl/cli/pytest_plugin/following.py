"""Where a packet gets lost: it is sent once more while every tap, uplink and switch port is captured."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address

from dataplane.capture import Capture
from dataplane.capture.filters import layers, tunnelled
from dataplane.capture.observe import Frame
from dataplane.capture.points import Point, usual
from dataplane.checks import lost
from dataplane.checks.flight import Flight
from dataplane.checks.packets import Kind, Packet
from dataplane.checks.places import Place, Target, points
from dataplane.checks.watch import Sighting
from netctl.cli.pytest_plugin.background import Fingerprint, fingerprint, inside
from netctl.cli.pytest_plugin.nics import Nics, Sent
from netctl.errors import NetctlError


def follow(nics: Nics, sent: Sent, receiver: Place) -> str:
    """Send it again; in words, where it was last seen and where it should have been next.

    What comes in meanwhile is not kept.
    """
    places = {(each.node, each.device): each for each in points(nics.intent)}
    watched = [point for point in usual(nics.intent) if (point.node, point.device) in places]
    begin, before = time.time_ns(), len(nics.sent)
    try:
        with Capture(nics.lab, watched) as capture:
            nics.send(nics.places[sent.place.name], sent.frame)
            nics.settle([receiver])
            frames = [frame for batch in capture.frames(lambda: True) for frame in batch]
    except (NetctlError, OSError) as error:
        reason = error.message if isinstance(error, NetctlError) else error.strerror
        return f"it could not be followed: {reason}"
    mark = sent.mark
    again = [each for each in nics.caught if each.time >= begin and each.mark == mark]
    del nics.sent[before:]
    nics.discard_since(begin)
    sightings = list(_sightings(frames, watched, places, mark))
    if any(each.place.name == receiver.name for each in again):
        return "the next one did arrive"
    if again:
        return f"it comes in at {', '.join(dict.fromkeys(each.place.name for each in again))}"
    return _lost(nics, sent, receiver, sightings)


def _lost(nics: Nics, sent: Sent, receiver: Place, sightings: Iterable[Sighting]) -> str:
    target = Target(receiver.name, receiver.ip or receiver.ip6 or IPv4Address(0), {receiver: None})
    flight = Flight(0, nics.places[sent.place.name], target, left=[sent.time], waypoints=list(sightings))
    return lost.where(nics.intent, flight)


def _sightings(
    frames: Iterable[Frame],
    watched: list[Point],
    places: dict[tuple[str, str], Place],
    mark: Fingerprint,
) -> Iterator[Sighting]:
    for frame in frames:
        if all(fingerprint(layer) != mark for layer in layers(frame.octets)):
            continue
        point = watched[frame.point]
        _, tags, body = inside(frame.octets)
        network = -1
        if tunnelled(frame.octets):
            header = (body[0] & 0xF) * 4 + 8
            network = int.from_bytes(body[header + 4 : header + 7])
        packet = Packet(Kind.REQUEST, 0, 0, tunnel=network)
        place = places[point.node, point.device]
        yield Sighting(place, frame.time, frame.outgoing, tags[0] if tags else None, False, packet)
