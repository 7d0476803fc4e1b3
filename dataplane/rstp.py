"""Waiting for RSTP where the links between switches close a loop (IEEE 802.1D-2004, clause 17)."""

from __future__ import annotations

import re
import time

from dataplane import daemons
from dataplane.daemons import Runner

LIMIT = 40.0
"""Seconds that the protocol may take: twice the forward delay of 15 s where a peer does not agree."""

PACE = 0.02
"""Seconds between two questions."""

_PORT = re.compile(r"^  \S+ +(Root|Designated|Alternate|Backup|Disabled|Master) +(\S+) ", re.MULTILINE)
_FORWARDS = {"Root", "Designated", "Master"}


def settle(runner: Runner, switch: str) -> None:
    """Wait until every port of a switch forwards that is to forward; no longer than LIMIT.

    Where RSTP is off there is nothing to wait for.
    """
    deadline = time.monotonic() + LIMIT
    while not settled(runner.ask(switch, daemons.VSWITCHD, "rstp/show")):
        if time.monotonic() > deadline:
            return  # a port may be kept down by hand, and `status` shows what does not work
        time.sleep(PACE)


def settled(shown: str) -> bool:
    """Whether `rstp/show` tells of no port that is on its way to forwarding."""
    return all(state == "Forwarding" for role, state in _PORT.findall(shown) if role in _FORWARDS)
