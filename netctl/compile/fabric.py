"""Top-of-rack switches: one bridge each, every VLAN on every port but those of bare machines."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

from netctl.compile.bridges import add_bridge, add_port
from netctl.compile.rows import Rows
from netctl.model import devices
from netctl.model.intent import Intent

SWITCH_MAC_PREFIX = "0a:61:74"
"""First octets of a switch's MAC, then a hash of its name, so that adding a switch changes no other."""


def compile_switch(intent: Intent, switch: str, datapath: str, rows: Rows) -> None:
    """All rows of a switch.

    Where links close a loop, RSTP breaks it (IEEE 802.1D-2004). Hosts and machines never bridge between their
    ports, so theirs are edge ports, which forward at once.
    """
    edge = {"rstp-port-admin-edge": "true"} if intent.rstp else {}
    ports = []
    for host in intent.hosts.values():
        for nic, cabled in host.nics.items():
            if cabled.switch == switch:
                device = devices.cable(host.name, nic)
                ports.append(add_port(rows, device, f"host {host.name}", port_config=edge))
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
        mac=f"{SWITCH_MAC_PREFIX}:{sha256(switch.encode()).digest()[:3].hex(':')}",
        mtu=intent.file.fabric.mtu,
        ports=ports,
        rstp_enable=intent.rstp or None,
    )
    rows.add_shared("Open_vSwitch", ".", f"switch {switch}", bridges=(bridge,))
