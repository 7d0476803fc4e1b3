"""What the words net.*_virtual_switch do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from netctl.cli.acli import finding
from netctl.cli.acli.answers import Answer, blocks, table
from netctl.cli.acli.networks import octets
from netctl.cli.acli.parser import Call
from netctl.cli.acli.task import Task
from netctl.cli.operations import Edit, Running
from netctl.intent.patches import plain
from netctl.model.host import BondMode
from netctl.model.intent import Intent

BONDS: Mapping[str, BondMode] = {
    "kActiveBackup": "active-backup",
    "kBalanceSlb": "balance-slb",
    "kBalanceTcp": "balance-tcp",
    "kNoUplinkBond": "none",
}
"""Bond modes by AHV's names."""

OF_AHV = {mode: name for name, mode in BONDS.items()}


def create(intent: Intent, call: Call) -> Task:
    """net.create_virtual_switch; on hosts that host_uplink_config does not name it has no uplinks."""
    name = call.names[0]
    if not re.fullmatch(r"vs(0|[1-9][0-9]?)", name, re.ASCII):
        raise call.wrong(
            f"{name} is no name for a virtual switch", "Call it vs1, vs2, ...: its bridge is br1, br2, ..."
        )
    if name in finding.intent_switches(intent):
        raise call.wrong(
            f"there is a virtual switch {name} already", f"net.update_virtual_switch {name} changes it."
        )
    made = _said(intent, call, {})
    if "uplinks" not in made:
        made["uplinks"] = []
    return Task(Edit({"virtual_switches": {name: made}}), [name])


def update(intent: Intent, call: Call) -> Task:
    """net.update_virtual_switch: whatever is not named stays."""
    name = finding.switch(intent, call, call.names[0])
    before = plain(intent.file).get("virtual_switches") or {}
    changed = _said(intent, call, before.get(name) or {})
    if not changed:
        raise call.wrong("nothing to change")
    return Task(Edit({"virtual_switches": {name: changed}}), [name])


def delete(intent: Intent, call: Call) -> Task:
    """net.delete_virtual_switch."""
    name = finding.switch(intent, call, call.names[0])
    if name == "vs0":
        raise call.wrong("vs0 is always there", "net.update_virtual_switch vs0 changes it.")
    users = sorted(subnet for subnet, it in intent.file.subnets.items() if it.virtual_switch == name)
    if users:
        raise call.wrong(f"{name} carries {', '.join(users)}", "Move these to another, or net.delete them.")
    return Task(Edit({"virtual_switches": {name: None}}), [name])


def list_(running: Running, call: Call) -> Answer:
    """net.list_virtual_switch."""
    intent = running.intent
    rows = []
    for name in finding.intent_switches(intent):
        bridges = [b for host in intent.hosts.values() for b in host.bridges if b.switch == name]
        modes = sorted({OF_AHV[bridge.mode] for bridge in bridges})
        mtus = sorted({bridge.mtu for bridge in bridges})
        shown = (", ".join(modes), ", ".join(map(str, mtus)))
        rows.append((name, finding.uuid(intent, "virtual switch", name), f"br{name[2:]}", *shown))
    columns = ("Virtual switch name", "Virtual switch UUID", "Bridge name", "Bond type", "MTU")
    return table(columns, rows)


def get(running: Running, call: Call) -> Answer:
    """net.get_virtual_switch."""
    intent = running.intent
    name = finding.switch(intent, call, call.names[0])
    nodes = []
    for host in intent.hosts.values():
        for bridge in host.bridges:
            if bridge.switch == name:
                nodes.append(
                    {
                        "bond_type": OF_AHV[bridge.mode],
                        "bridge_name": bridge.bridge,
                        "host_name": host.name,
                        "host_uuid": finding.uuid(intent, "host", host.name),
                        "lacp": bridge.lacp,
                        "lacp_fallback": bridge.lacp_fallback,
                        "mtu": bridge.mtu,
                        "uplink": list(bridge.uplinks),
                    }
                )
    about = {"name": name, "node_config": nodes, "uuid": finding.uuid(intent, "virtual switch", name)}
    return blocks({name: about})


def _said(intent: Intent, call: Call, before: Mapping[str, Any]) -> dict[str, Any]:
    """What a call says of a virtual switch, as its keys in the file; what hosts differ in gives way to it."""
    said = call.values
    new: dict[str, Any] = {}
    there: dict[str, dict[str, Any]] = {
        host: dict.fromkeys(own) for host, own in (before.get("per_host") or {}).items()
    }
    give_way: set[str] = set()
    if "bond_type" in said:
        new["bond"] = BONDS[said["bond_type"]]
        give_way |= {"bond", "lacp", "lacp_fallback"}
        new |= {"lacp": None, "lacp_fallback": None}
    if call.flag("lacp_fallback") is not None:
        new["lacp_fallback"] = call.flag("lacp_fallback") or None
        give_way.add("lacp_fallback")
    if "mtu" in said:
        new["mtu"] = octets(call)
        give_way.add("mtu")
    if "uplinks" in said:
        new["uplinks"] = call.list("uplinks")
        give_way.add("uplinks")
    per_host: dict[str, dict[str, Any]] = {
        host: {key: None for key in own if key in give_way} for host, own in there.items()
    }
    if "host_uplink_config" in said:
        wanted = _by_host(intent, call, said["host_uplink_config"])
        chosen = list(wanted.values())
        if set(wanted) == set(intent.hosts) and all(uplinks == chosen[0] for uplinks in chosen):
            new["uplinks"] = chosen[0]
            per_host = {host: {**own, "uplinks": None} for host, own in per_host.items()}
        else:
            for host, uplinks in wanted.items():
                per_host.setdefault(host, {})["uplinks"] = uplinks
    if per_host := {host: own for host, own in per_host.items() if own}:
        new["per_host"] = per_host
    return new


def _by_host(intent: Intent, call: Call, text: str) -> dict[str, list[str]]:
    """{hv1:eth2,eth3;hv2:eth2}: the uplinks of each host."""
    found: dict[str, list[str]] = {}
    for part in filter(None, (each.strip() for each in text.strip().strip("{}").split(";"))):
        name, colon, uplinks = part.partition(":")
        if not colon:
            raise call.wrong(
                f"host_uplink_config: {part} names no host", "Write {hv1:eth2,eth3;hv2:eth2,eth3}, in quotes."
            )
        host = finding.host(intent, call, name.strip())
        found[host] = [uplink.strip() for uplink in uplinks.split(",") if uplink.strip()]
    return found
