"""Bonds as ovs-vswitchd runs them: members, which is active, LACP, and the member of each hash."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from dataplane import tools
from dataplane.daemons import VSWITCHD, Runner
from netctl.errors import ChangeError

LacpStatus = Literal["off", "configured", "negotiated"]

HASHES = 256
"""Hashes of a bond: each belongs to one member (BOND_BUCKETS, ofproto/bond.c)."""


WRITE_LIMIT = 30.0
"""Seconds within which ovs-vswitchd must have taken a change of its configuration."""

ASKING = 4.0
"""Seconds that LACP asks for, once a second, when a link comes up: three, and one for the last answer.

Who is not answered by then gives its partner up and asks every 30 s, and a passive host never asks.
"""


@dataclass(frozen=True)
class Bond:
    """A bond of a host. `members` maps each uplink to whether it is enabled; `active` is None without one.

    `mode` is as configured, `lacp` as negotiated, and `fallback` says whether active-backup takes over while
    nobody answers.
    """

    name: str
    mode: str
    active: str | None
    members: dict[str, bool]
    lacp: LacpStatus = "off"
    fallback: bool = False

    @property
    def running(self) -> str:
        """The mode that holds now: another one while LACP has no partner, "" where nothing passes."""
        if self.lacp != "configured":
            return self.mode
        return "active-backup" if self.fallback else ""


@dataclass(frozen=True)
class Partner:
    """Who answers LACP: its system ID and key, None where nobody does; by member the state of its own LACP.

    `ports` are the partner's port numbers, by member.
    """

    system: str | None = None
    key: int | None = None
    states: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Share:
    """What of a bond's traffic one hash is: its member, and the load that OVS counts for it.

    `load` is in KiB, halved at each rebalance; None where OVS tells none.
    """

    hash: int
    member: str
    load: int | None = None


def bond(runner: Runner, node: str, name: str) -> Bond | None:
    """The state of a bond (ovs-appctl bond/show); None when the daemon does not run or has no such bond."""
    try:
        text = runner.ask(node, VSWITCHD, "bond/show", name)
    except ChangeError:
        return None
    return parse(name, text)


def partner(runner: Runner, node: str, name: str) -> Partner:
    """Who answers a bond's LACP (ovs-appctl lacp/show); nobody when it has none."""
    try:
        text = runner.ask(node, VSWITCHD, "lacp/show", name)
    except ChangeError:
        return Partner()
    return parse_partner(text)


def shares(runner: Runner, node: str, bridge: str, name: str) -> list[Share]:
    """The members of a bond's hashes, as far as OVS has given them to one.

    balance-slb gives a hash away with its first packet; balance-tcp has all of them in flows of its own, that
    follow the recirculation which computes the hash. active-backup hashes nothing.
    """
    try:
        bond_, flows, ports = runner.ask_all(
            node, VSWITCHD, [("bond/show", name), ("bridge/dump-flows", bridge), ("dpif/show",)]
        )
    except ChangeError:
        return []
    state = parse(name, bond_)
    loads = parse_shares(bond_)
    if state.running == "balance-slb":
        return loads
    if state.running != "balance-tcp":
        return []
    load = {share.hash: share.load for share in loads}
    return [replace(share, load=load.get(share.hash)) for share in parse_recirculation(bond_, flows, ports)]


def spread(runner: Runner, node: str, bridge: str, name: str) -> None:
    """Deal out the hashes of a balance-tcp bond anew when one of its members has none.

    OVS gives every hash to the member whose LACP is there first, and moves them when it has seen load for
    10 s. It deals out anew, at random, when the basis of the hash changes (`bond-hash-basis`); so that is
    changed, and changed back.
    """
    state = bond(runner, node, name)
    if state is None or state.running != "balance-tcp":
        return
    given = {share.member for share in shares(runner, node, bridge, name)}
    able = {member for member, enabled in state.members.items() if enabled}
    if given and able - given:
        port = ("Port", name, "other_config")
        change = (("set", *port[:2], f"{port[2]}:bond-hash-basis=1"), ("remove", *port, "bond-hash-basis"))
        for words in change:
            tools.run(runner, node, "ovs-vsctl", *words, limit=WRITE_LIMIT)


def ask_again(runner: Runner, node: str, device: str) -> None:
    """Have LACP of one device ask for its partner as if its link had just come up.

    On a busy machine the questions of both sides may have been lost while the other had not yet seen its
    carrier. OVS asks when the settings of a member change, so its priority is changed, and changed back.
    """
    settings = ("Interface", device, "other_config")
    tools.run(
        runner,
        node,
        "ovs-vsctl",
        "set",
        *settings[:2],
        f"{settings[2]}:lacp-port-priority=1",
        limit=WRITE_LIMIT,
    )
    tools.run(runner, node, "ovs-vsctl", "remove", *settings, "lacp-port-priority", limit=WRITE_LIMIT)


def hashes(runner: Runner, node: str, sources: list[tuple[str, int]]) -> list[int]:
    """The balance-slb hash of each (MAC, VLAN) (ovs-appctl bond/hash)."""
    commands = [("bond/hash", mac, str(vlan)) for mac, vlan in sources]
    return [int(text) % HASHES for text in runner.ask_all(node, VSWITCHD, commands)]


def parse(name: str, text: str) -> Bond:
    """The state told by the output of bond/show (ovs-vswitchd(8))."""
    mode = re.search(r"^bond_mode: (\S+)", text, re.MULTILINE)
    members = dict(re.findall(r"^(?:member|slave) (\S+): (enabled|disabled)", text, re.MULTILINE))
    active = re.search(r"^ *active (?:member|slave) mac: \S+?\((\S+)\)", text, re.MULTILINE)
    lacp = re.search(r"^lacp_status: (negotiated|configured)", text, re.MULTILINE)
    chosen = active[1] if active else None
    return Bond(
        name,
        mode[1] if mode else "",
        chosen if chosen in members else None,
        {member: state == "enabled" for member, state in members.items()},
        lacp[1] if lacp else "off",  # type: ignore[arg-type]
        re.search(r"^lacp_fallback_ab: true", text, re.MULTILINE) is not None,
    )


def parse_partner(text: str) -> Partner:
    """The partner told by the output of lacp/show."""
    states: dict[str, str] = {}
    ports: dict[str, int] = {}
    found: tuple[str, int] | None = None
    for part in re.split(r"^(?:member|slave): ", text, flags=re.MULTILINE)[1:]:
        head = re.match(r"(\S+): (\S+)", part)
        if head is None:
            continue
        states[head[1]] = head[2]
        told = dict(re.findall(r"^ *partner (sys_id|key|port_id): (\S+)", part, re.MULTILINE))
        if head[2] == "current" and {"sys_id", "key", "port_id"} <= told.keys():
            found = found or (told["sys_id"], int(told["key"]))
            ports[head[1]] = int(told["port_id"])
    system, key = found or (None, None)
    return Partner(system, key, states, ports)


def parse_shares(text: str) -> list[Share]:
    """The hashes under each member in the output of bond/show: those with a load of 1 KiB or more."""
    found = []
    for part in re.split(r"^(?:member|slave) ", text, flags=re.MULTILINE)[1:]:
        member = part.partition(":")[0]
        found += [
            Share(int(number), member, int(load))
            for number, load in re.findall(r"^ *hash (\d+): (\d+) kB load", part, re.MULTILINE)
        ]
    return sorted(found, key=lambda share: share.hash)


def parse_recirculation(bond_: str, flows: str, ports: str) -> list[Share]:
    """The hashes in the flows that follow a bond's recirculation (bridge/dump-flows; dpif/show has ports)."""
    recirculation = re.search(r"Recirc-ID : (\d+)", bond_)
    if recirculation is None:
        return []
    members = parse("", bond_).members
    names = {
        number: name
        for name, number in re.findall(r"^\s+(\S+) (\d+)/", ports, re.MULTILINE)
        if name in members
    }
    pattern = rf"recirc_id={int(recirculation[1]):#x},dp_hash=(\w+)/0xff,actions=output:(\d+)"
    return sorted(
        (Share(int(number, 16), names[port]) for number, port in re.findall(pattern, flows) if port in names),
        key=lambda share: share.hash,
    )
