"""Bonds as ovs-vswitchd runs them: members, which is active, who is disabled."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dataplane.daemons import VSWITCHD, Runner
from netctl.errors import ChangeError


@dataclass(frozen=True)
class Bond:
    """A bond of a host. `members` maps each uplink to whether it is enabled; `active` is None without one."""

    name: str
    mode: str
    active: str | None
    members: dict[str, bool]


def bond(runner: Runner, node: str, name: str) -> Bond | None:
    """The state of a bond (ovs-appctl bond/show); None when the daemon does not run or has no such bond."""
    try:
        text = runner.ask(node, VSWITCHD, "bond/show", name)
    except ChangeError:
        return None
    return parse(name, text)


def parse(name: str, text: str) -> Bond:
    """The state told by the output of bond/show (ovs-vswitchd(8))."""
    mode = re.search(r"^bond_mode: (\S+)", text, re.MULTILINE)
    members = dict(re.findall(r"^(?:member|slave) (\S+): (enabled|disabled)", text, re.MULTILINE))
    active = re.search(r"^ *active (?:member|slave) mac: \S+?\((\S+)\)", text, re.MULTILINE)
    chosen = active[1] if active else None
    return Bond(
        name,
        mode[1] if mode else "",
        chosen if chosen in members else None,
        {member: state == "enabled" for member, state in members.items()},
    )
