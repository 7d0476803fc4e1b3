"""The command that shows how hosts use their uplinks: bond."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netctl.cli import inside, output
from netctl.cli.options import INSIDE_PANEL, Json, Lab, complete_node
from netctl.errors import InputError

if TYPE_CHECKING:
    from dataplane.bonds import Bond
    from netctl.cli.operations import Running
    from netctl.model import Hypervisor, Intent
    from netctl.model.intent import UplinkBridge


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=INSIDE_PANEL)(bond)


def bond(
    host: Annotated[
        str | None,
        typer.Argument(metavar="[HOST]", autocompletion=complete_node, help="Which host; all if left out."),
    ] = None,
    lab: Lab = None,
    json: Json = False,
) -> None:
    """Show bonds as they run: members, which is active, LACP and its partner, the member of each hash.

    The traffic of one hash leaves over one member. With balance-slb a source's MAC and VLAN make the hash,
    with balance-tcp the addresses and ports of a flow.
    """
    running, names = inside.locate(lab, *([host] if host else []))
    chosen = names or sorted(running.intent.hosts)
    for name in chosen:
        if name not in running.intent.hosts:
            raise InputError(
                f"the lab {running.name} has no host {name}",
                f"It has {', '.join(sorted(running.intent.hosts))}.",
            )
    bonds = list(gather(running, chosen))
    if json:
        output.emit({"lab": running.name, "bonds": bonds})
    else:
        for number, found in enumerate(bonds):
            if number:
                output.say()
            show(found)


def gather(running: Running, hosts: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The bonds of hosts as data, one after the other; uplinks without a bond too."""
    from dataplane import bonds

    runner = running.rack.runner
    observed = running.rack.observe(set(hosts))
    for name in hosts:
        host = running.intent.hosts[name]
        devices = observed.snapshots[name].devices if name in observed.snapshots else {}
        for bridge in host.bridges:
            if not bridge.uplinks:
                continue
            found = bonds.bond(runner, name, bridge.bond) if len(bridge.uplinks) > 1 else None
            partner = bonds.partner(runner, name, bridge.bond) if found else bonds.Partner()
            shares = bonds.shares(runner, name, bridge.bridge, bridge.bond) if found else []
            members = found.members if found else {}
            yield {
                "host": name,
                "bridge": bridge.bridge,
                "bond": bridge.bond if len(bridge.uplinks) > 1 else None,
                "members": [
                    {
                        "name": uplink,
                        "carrier": uplink in devices and devices[uplink].carrier,
                        "enabled": members.get(uplink),
                        "active": bool(found and found.active == uplink),
                        "lacp": partner.states.get(uplink),
                        "partner_port": partner.ports.get(uplink),
                        "hashes": sum(share.member == uplink for share in shares),
                    }
                    for uplink in bridge.uplinks
                ],
                **state(found, bridge),
                "partner": {"system": partner.system, "key": partner.key} if partner.system else None,
                "hashes": [
                    {"hash": share.hash, "member": share.member, "load_kib": share.load} for share in shares
                ],
                "sources": list(_sources(running, host, bridge, found, {s.hash: s.member for s in shares})),
            }


def state(found: Bond | None, bridge: UplinkBridge) -> dict[str, Any]:
    """A bond's mode, the mode that holds now ("" for: nothing passes), and its LACP.

    `found` None: ovs-vswitchd does not tell, or a single uplink makes no bond.
    """
    if found is None:
        alone = len(bridge.uplinks) < 2
        return {"mode": "none" if alone else bridge.mode, "running": "none" if alone else None, "lacp": None}
    return {"mode": found.mode, "running": found.running, "lacp": found.lacp}


def _sources(
    running: Running,
    host: Hypervisor,
    bridge: UplinkBridge,
    found: Bond | None,
    members: dict[int, str],
) -> Iterator[dict[str, Any]]:
    """Who sends over a balance-slb bond, with the hash and its member; None until it has sent anything."""
    from dataplane import bonds

    if found is None or found.running != "balance-slb":
        return
    every = list(_senders(running.intent, host, bridge))
    numbers = bonds.hashes(running.rack.runner, host.name, [(mac, vlan) for _, mac, vlan in every])
    for (name, mac, vlan), number in zip(every, numbers, strict=True):
        yield {"source": name, "mac": mac, "vlan": vlan, "hash": number, "member": members.get(number)}


def _senders(intent: Intent, host: Hypervisor, bridge: UplinkBridge) -> Iterator[tuple[str, str, int]]:
    if bridge.bridge == "br0":
        yield host.name, host.mac, 0
    for port in intent.ports_by_host[host.name]:
        subnet = intent.file.subnets[port.subnet]
        if subnet.type != "overlay" and subnet.switch == bridge.switch:
            for vlan in sorted({subnet.vlan or 0, *port.trunked}):
                yield port.name, port.mac, vlan


# --- for people -------------------------------------------------------------------------------------


def show(found: dict[str, Any]) -> None:
    """One bond: what it is now, its members, and the hashes of each."""
    output.say(f"{found['host']} {found['bond'] or found['bridge']}: {describe(found)}", style="bold")
    lacp = found["lacp"] not in (None, "off")
    hashed = bool(found["hashes"])
    columns = ["member", "state", *(["LACP", "partner's port"] if lacp else [])]
    rows = [
        [
            f"{member['name']}{'*' if member['active'] else ''}",
            _state(member),
            *([member["lacp"], member["partner_port"]] if lacp else []),
            *([member["hashes"], _ranges(found["hashes"], member["name"])] if hashed else []),
        ]
        for member in found["members"]
    ]
    if hashed:
        columns += ["hashes", "which"]
    output.table(columns, rows, fold="which" if hashed else None)
    if found["sources"]:
        output.say()
        output.table(
            ("source", "MAC", "VLAN", "hash", "member"),
            [
                (s["source"], s["mac"], s["vlan"] or "untagged", s["hash"], s["member"] or "none yet")
                for s in found["sources"]
            ],
        )


def describe(found: dict[str, Any]) -> str:
    """What a bond is configured as and what it is now, in a few words."""
    mode: str = found["mode"]
    if mode == "none":
        return "no bond"
    if found["running"] is None:
        return f"{mode}; ovs-vswitchd does not answer"
    if found["lacp"] == "negotiated":
        partner = found.get("partner")
        return f"{mode}, LACP with {partner['system']} key {partner['key']}" if partner else f"{mode}, LACP"
    if found["lacp"] == "configured":
        return f"{mode} without a LACP partner: {found['running'] or 'nothing passes'}"
    return mode


def _state(member: dict[str, Any]) -> str:
    if not member["carrier"]:
        return "no carrier"
    return "disabled" if member["enabled"] is False else "up"


def _ranges(hashes: Iterable[dict[str, Any]], member: str) -> str:
    """The hashes of a member, neighbours drawn together: 0-3, 7, 9-12."""
    numbers = [share["hash"] for share in hashes if share["member"] == member]
    runs = [
        [number for _, number in run]
        for _, run in groupby(enumerate(sorted(numbers)), lambda item: item[1] - item[0])
    ]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
