"""One Open vSwitch asked what it would do with a packet: `ofproto/trace` and `dpif/show` (ovs-vswitchd(8)).

Nothing is sent and nothing is learned: `-generate` is never asked for.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field

from dataplane import daemons
from dataplane.daemons import Runner
from dataplane.trace.actions import after
from dataplane.trace.packet import Packet

MOST_PASSES = 8
"""How often a packet may come back into a switch's datapath; six times is Open vSwitch's own limit."""

_BRIDGE = re.compile(r"^  (\S+):$")
_PORT = re.compile(r"^    (\S+) (\d+)/(\d+|none): \((\S+?)(?::\s*(.*))?\)$")
_HEADING = re.compile(r'^\s*bridge\("(.+)"\)$')
_RULE = re.compile(
    r"^\s*(\d+)\. (?:(?P<match>.*?), )?(?:priority (?P<priority>\d+)(?:, cookie (?P<cookie>0x[0-9a-f]+))?"
    r"|(?P<none>No match\.))$"
)
_AGAIN = re.compile(r"\brecirc\((0x[0-9a-f]+)\)")
_NOTE = re.compile(r"^\s*(?:->|>>) (.*)$")


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a bridge; `datapath` is its number there, None for a patch port."""

    bridge: str
    name: str
    datapath: int | None
    kind: str
    options: str


@dataclass(slots=True)
class Rule:
    """A flow that the packet met, with what was said about its actions."""

    bridge: str
    table: int
    match: str
    priority: int
    cookie: int
    actions: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Traced:
    """The rules that a packet met in their order, and the datapath's actions, a text for each passage."""

    rules: tuple[Rule, ...]
    actions: tuple[str, ...]

    @property
    def bridges(self) -> list[str]:
        """The bridges in the order that the packet came to them."""
        return list(dict.fromkeys(rule.bridge for rule in self.rules))


def ports(runner: Runner, node: str) -> list[Port]:
    """The ports of all bridges of a node. ChangeError when its ovs-vswitchd does not answer."""
    return read_ports(runner.ask(node, daemons.VSWITCHD, "dpif/show"))


def read_ports(text: str) -> list[Port]:
    """The ports in what `dpif/show` printed."""
    found, bridge = [], ""
    for line in text.splitlines():
        heading = _BRIDGE.match(line)
        port = _PORT.match(line)
        if heading:
            bridge = heading[1]
        elif port:
            number = None if port[3] == "none" else int(port[3])
            found.append(Port(bridge, port[1], number, port[4], port[5] or ""))
    return found


def trace(runner: Runner, node: str, bridge: str, where: str, packet: Packet) -> Traced:
    """What a bridge does with a packet that comes in as `where` says, such as `in_port=eth0`.

    ofproto/trace goes on by itself where a packet comes from conntrack; where it is parsed anew (decap of
    ovs-actions(7)) it has to be asked for the rest. ChangeError when the switch does not answer.
    """

    def ask(where: str, packet: Packet, last: str) -> Traced:
        flow = f"{where},{packet.flow()}"
        return read(runner.ask(node, daemons.VSWITCHD, "ofproto/trace", bridge, flow), last)

    found = ask(where, packet, "")
    for _ in range(MOST_PASSES):
        again = _AGAIN.search(found.actions[-1]) if found.actions else None
        if again is None:
            break
        more = ask(f"recirc_id={again[1]},{where}", after(found.actions, packet), found.rules[-1].bridge)
        found = Traced(found.rules + more.rules, found.actions + more.actions)
    return found


def read(text: str, resumed: str = "") -> Traced:
    """What ofproto/trace printed; `resumed`: the bridge in which it goes on, where it says another.

    A packet that comes back from conntrack is in the bridge that sent it there, whatever the heading says: it
    names the bridge of the port where the packet once came in.
    """
    rules: list[Rule] = []
    actions: list[str] = []
    bridge = ""
    away: deque[str] = deque()
    back = False
    for line in text.splitlines():
        heading, rule, note = _HEADING.match(line), _RULE.match(line), _NOTE.match(line)
        if line.startswith("recirc("):
            back = bool(away)
        elif heading:
            bridge = away.popleft() if back else resumed or heading[1]
            back, resumed = False, ""
        elif line.startswith("Datapath actions: "):
            actions.append(line.removeprefix("Datapath actions: "))
        elif rule:
            rules.append(
                Rule(
                    bridge,
                    int(rule[1]),
                    rule["match"] or "",
                    int(rule["priority"] or -1),
                    int(rule["cookie"] or "0", 16),
                )
            )
        elif note and rules:
            rules[-1].notes.append(note[1])
            if "forked to recirculate" in note[1]:
                away.append(bridge)
        elif rules and not back and line.startswith(" ") and line.strip():
            rules[-1].actions.append(line.strip())
    return Traced(tuple(rules), tuple(actions))
