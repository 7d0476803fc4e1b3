"""What failures say: what was expected, what came instead, when, and where a packet was last seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from dataplane.capture.summary import summary
from dataplane.checks.places import Place
from netctl.cli.pytest_plugin.nics import Caught, Nics, Sent
from netctl.cli.pytest_plugin.patterns import Pattern

_MOST = 20
"""Packets that are told one by one."""


def dissected(caught: Caught) -> Any:
    """The packet by scapy, with the time and the place at which it came in."""
    from scapy.layers.l2 import Ether

    packet = Ether(caught.frame)
    packet.time = caught.time / 1e9
    packet.sniffed_on = caught.place.name
    return packet


def missing(place: Place, wanted: Pattern, found: int, count: int, nics: Nics, sent: Sent | None) -> str:
    """What to say of a packet that did not come. If it got lost, it is sent once more and followed."""
    from netctl.cli.pytest_plugin.following import follow

    how = f"{found} of {count} times" if found else "not"
    lines = [f"{place.name} did {how} get: {wanted.words}"]
    here = [each for each in nics.caught if each.place.name == place.name]
    told = [each for each in here if not each.taken and nics.is_test_packet(each)]
    lines.append(f"came in at {place.name}: {'' if told else _nothing(here)}".rstrip())
    for line, each in _lines(told, nics):
        lines.append(f"  {line}" + (f": {_why(each, wanted)}" if each else ""))
    if before := sum(each.taken and not wanted.differences(each.frame) for each in here):
        lines.append(f"taken before, by `expect`: {before} that fit")
    if elsewhere := _elsewhere(place, wanted, nics):
        lines.append(f"came in elsewhere: {elsewhere}")
    if nics.lost:
        lines.append(f"the test's sockets had no room for all packets of {', '.join(nics.lost)}")
    if sent is None:
        lines.append("the test has sent nothing")
    else:
        lines.append(f"{sent.place.name} sent {_when(sent.time, nics)}{summary(sent.frame)}")
        if all(each.mark != sent.mark for each in here):
            lines.append(f"  sent once more, watched all the way: {follow(nics, sent, place)}")
    return "\n  ".join(lines)


def _why(caught: Caught, wanted: Pattern) -> str:
    return "; ".join(wanted.differences(caught.frame)) or "it fits"


def _elsewhere(place: Place, wanted: Pattern, nics: Nics) -> str:
    count = Counter(
        each.place.name
        for each in nics.caught
        if each.place.name != place.name and not each.taken and not wanted.differences(each.frame)
    )
    return ", ".join(f"{name} ({number} times)" if number > 1 else name for name, number in count.items())


def unexpected(name: str, left: Sequence[Caught], nics: Nics) -> str:
    """What to say of packets that should not have come, at one NIC or ("") at any."""
    many = "a packet" if len(left) == 1 else f"{len(left)} packets"
    lines = [f"{name} got {many} that it should not get" if name else f"{many} came in that nobody expected"]
    lines += [f"{each.place.name}  {line}" if each else line for line, each in _lines(left, nics)]
    return "\n  ".join(lines)


def _nothing(here: Sequence[Caught]) -> str:
    return "only what systems send by themselves" if any(not each.taken for each in here) else "nothing"


def _lines(caught: Sequence[Caught], nics: Nics) -> Iterator[tuple[str, Caught | None]]:
    """A line a packet."""
    for each in caught[:_MOST]:
        yield _when(each.time, nics) + summary(each.frame), each
    if len(caught) > _MOST:
        yield f"... and {len(caught) - _MOST} more", None


def _when(time: int, nics: Nics) -> str:
    """Milliseconds since the first packet was sent."""
    return f"{(time - nics.sent[0].time) / 1e6:+.3f} ms  " if nics.sent else ""
