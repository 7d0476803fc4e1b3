"""Top-of-rack switches: one bridge each, every VLAN on every port but those of bare machines.

A host's LACP bond is a LACP bond here as well, where all of its cables end at this switch. Where they end at
the two switches of an MLAG pair, each port runs LACP alone, under one name for both (netctl.compile.mlag).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from hashlib import sha256

from netctl.compile import mlag
from netctl.compile.bridges import VLAN_LIMIT, add_bridge, add_port, leave_rates_alone
from netctl.compile.partners import Aggregate, aggregates
from netctl.compile.rows import Rows, refs
from netctl.model import devices
from netctl.model.intent import Intent
from netctl.model.state import Ref

SWITCH_MAC_PREFIX = "0a:61:74"
"""First octets of a switch's MAC, then a hash of its name, so that adding a switch changes no other."""


def compile_switch(intent: Intent, switch: str, datapath: str, rows: Rows) -> None:
    """All rows of a switch.

    Where links close a loop, RSTP breaks it (IEEE 802.1D-2004). Hosts and machines never bridge between their
    ports, so theirs are edge ports, which forward at once.
    """
    edge = {"rstp-port-admin-edge": "true"} if intent.rstp else {}
    here = [aggregate for aggregate in aggregates(intent) if switch in aggregate.switches]
    bonded = {device for aggregate in here for device in aggregate.on(switch)}
    ports = []
    for aggregate in here:
        if mlag.peer(intent, switch) is None:
            ports.append(_bond(rows, aggregate, edge))
        else:
            ports += mlag.add_legs(rows, intent, switch, aggregate)
    for host in intent.hosts.values():
        for nic, cabled in host.nics.items():
            device = devices.cable(host.name, nic)
            if cabled.switch == switch and device not in bonded:
                limited = cabled.rate is not None
                ports.append(add_port(rows, device, f"host {host.name}", limited=limited, port_config=edge))
    parallel: Counter[str] = Counter()
    for link in intent.links:
        if switch in link:
            peer = link[1] if link[0] == switch else link[0]
            device = devices.link(peer, parallel[peer])
            parallel[peer] += 1
            ports.append(add_port(rows, device, f"switch {switch}"))
    for machine in intent.machines.values():
        if machine.definition.switch == switch:
            ports.append(
                add_port(
                    rows,
                    devices.machine_cable(machine.name),
                    f"physical {machine.name}",
                    tag=machine.definition.vlan or 0,
                    port_config=edge,
                )
            )
    bridge = add_bridge(
        rows,
        devices.SWITCH_BRIDGE,
        f"switch {switch}",
        datapath=datapath,
        mac=_mac(switch),
        mtu=intent.file.fabric.mtu,
        ports=ports,
        fail_mode=None if mlag.peer(intent, switch) is None else "secure",
        rstp_enable=intent.rstp or None,
    )
    rows.add_shared(
        "Open_vSwitch",
        ".",
        f"switch {switch}",
        bridges=(bridge,),
        other_config={"vlan-limit": VLAN_LIMIT},
    )


def _bond(rows: Rows, aggregate: Aggregate, config: Mapping[str, str]) -> Ref:
    """The switch's side of a host's LACP bond; active, so that a passive host gets an answer too."""
    why = f"host {aggregate.host}"
    members = [rows.add("Interface", device, why) for _, device in aggregate.ports]
    return rows.add(
        "Port",
        aggregate.name,
        why,
        interfaces=refs(members),
        bond_mode="balance-tcp",
        lacp="active",
        qos=leave_rates_alone(rows, aggregate.name, why) if aggregate.limited else None,
        other_config={"lacp-time": "fast", **config},
    )


def _mac(switch: str) -> str:
    return f"{SWITCH_MAC_PREFIX}:{sha256(switch.encode()).digest()[:3].hex(':')}"
