"""Failovers as the switches of hosts logged them: an uplink lost or back, another one active."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from dataplane.daemons import VSWITCHD, Runner

TAIL = 256 << 10
"""Octets at the end of a log that are looked at."""

_LINE = re.compile(r"^(\d{4}-\d\d-\d\dT[\d:.]+Z)\|\d+\|bond\|INFO\|(.*)$", re.MULTILINE)
_TOLD = re.compile(r"bond (\S+): active member is now (\S+)|member (\S+): (enabled|disabled)")


@dataclass(frozen=True, order=True, slots=True)
class Event:
    """When (UTC, ISO 8601), on which host, and what happened to its uplinks."""

    time: str
    host: str
    what: str


def failovers(runner: Runner, hosts: Iterable[str], most: int) -> list[Event]:
    """The last failovers of these hosts, oldest first; what ovs-vswitchd logged of its bonds.

    Choosing an uplink before one was ever lost is none.
    """
    found: list[Event] = []
    for host in hosts:
        found += _of_host(runner, host)
    return sorted(found, key=lambda event: event.time)[-most:]


def _of_host(runner: Runner, host: str) -> list[Event]:
    found = []
    lost = False
    for time, words in _LINE.findall(_tail(runner, host)):
        told = _TOLD.fullmatch(words)
        if told is None:
            continue
        bond, active, member, state = told.groups()
        lost |= state == "disabled"
        if lost:
            text = f"{bond}: {active} is active now" if bond else f"{member} {_WORDS[state]}"
            found.append(Event(time, host, text))
    return found


_WORDS = {"enabled": "is back", "disabled": "is lost"}


def _tail(runner: Runner, host: str) -> str:
    try:
        with open(runner.directory(host) / f"{VSWITCHD.role}.log", "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - TAIL))
            return log.read().decode(errors="replace")
    except OSError:
        return ""
