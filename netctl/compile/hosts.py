"""Hosts: the uplink bridges br0, br1, ..., the integration bridge with the taps, ovn-controller's settings.

ovn-controller joins the integration bridge to the uplink bridges itself, by patch ports where a localnet port
asks for one, and adds its tunnels; those rows are its own. The bridges of VLAN basic subnets are in
netctl.compile.basic.
"""

from __future__ import annotations

from netctl.compile import slb
from netctl.compile.basic import compile_basic
from netctl.compile.bridges import (
    VLAN_LIMIT,
    add_bridge,
    add_patch,
    add_port,
    add_tap,
    leave_rates_alone,
    nic_ids,
)
from netctl.compile.chains import Chaining
from netctl.compile.flows import FlowSet
from netctl.compile.mirrors import compile_mirrors
from netctl.compile.names import Names
from netctl.compile.policies_rules import Policing
from netctl.compile.rows import Rows, refs
from netctl.compile.subnets import OVN_TYPES
from netctl.model import basic, bgp
from netctl.model.devices import INTEGRATION_BRIDGE
from netctl.model.functions import detours
from netctl.model.intent import Hypervisor, Intent, Port, UplinkBridge
from netctl.model.state import OWNER_KEY, Ref

DATAPATH = "netdev"
"""The datapath type of every bridge: OVS's own in userspace, which needs no kernel module."""

INTEGRATION_MAC_PREFIX = "0a:61:74:6c"
"""First octets of brAtlas' MAC, then the host's number; nobody ever talks to it."""

PROBE_INTERVAL = "60000"
"""Milliseconds between probes of the southbound database (over TCP or SSL; a unix socket needs none).

On a busy machine an answer may well take longer than the default of 5 s, and losing the connection costs
more than learning late that it is lost.
"""


def compile_host(
    intent: Intent,
    host: Hypervisor,
    policing: Policing,
    chaining: Chaining,
    names: Names,
    southbound: str,
    datapath: str,
    rows: Rows,
    flows: FlowSet,
) -> None:
    """All rows and flows of a host."""
    why = f"host {host.name}"
    local, ends = compile_basic(intent, host, policing, chaining, names, datapath, rows, flows)
    bridges = [_integration_bridge(intent, host, names, datapath, rows), *local]
    speakers = [speaker for speaker in bgp.speakers(intent) if speaker.host == host.name]
    bridges += [
        _uplink_bridge(
            host,
            bridge,
            ends.get(bridge.bridge),
            [speaker for speaker in speakers if speaker.switch == bridge.switch],
            datapath,
            rows,
        )
        for bridge in host.bridges
    ]
    slb.compile_flows(intent.name, host, flows)
    for bridge in host.bridges:
        if not slb.balances(bridge):
            flows.switch(bridge.bridge, why)
    compile_mirrors(intent, host, rows)
    mappings = ",".join(f"{bridge.switch}:{bridge.bridge}" for bridge in host.bridges)
    rows.add_shared(
        "Open_vSwitch",
        ".",
        why,
        bridges=refs(bridges),
        other_config={"vlan-limit": VLAN_LIMIT},
        external_ids={
            "system-id": names.chassis(host.name),
            "hostname": host.name,
            "ovn-bridge": INTEGRATION_BRIDGE,
            "ovn-bridge-datapath-type": datapath,
            "ovn-cms-options": f"{OWNER_KEY}={intent.name}",
            "ovn-encap-ip": str(host.address.ip),
            "ovn-encap-type": "geneve",
            "ovn-monitor-all": "true",
            "ovn-openflow-probe-interval": "0",
            "ovn-remote": southbound,
            "ovn-remote-probe-interval": PROBE_INTERVAL,
            **({"ovn-bridge-mappings": mappings} if mappings else {}),
        },
    )


def _integration_bridge(intent: Intent, host: Hypervisor, names: Names, datapath: str, rows: Rows) -> Ref:
    ports = [
        _behind_chains(rows, port, names) if detours(intent, port) else add_tap(rows, port, names)
        for port in intent.ports_by_host[host.name]
        if intent.file.subnets[port.subnet].type in OVN_TYPES
    ]
    return add_bridge(
        rows,
        INTEGRATION_BRIDGE,
        f"host {host.name}",
        datapath=datapath,
        mac=f"{INTEGRATION_MAC_PREFIX}:{host.number >> 8:02x}:{host.number & 255:02x}",
        ports=ports,
        other_config={"disable-in-band": "true"},
        fail_mode="secure",
    )


def _behind_chains(rows: Rows, port: Port, names: Names) -> Ref:
    """What stands in brAtlas for a NIC whose tap is in br.nf."""
    ends = basic.down(port.tap), basic.up(port.tap)
    return add_patch(rows, *ends, f"vm {port.vm}", external_ids=nic_ids(port, names))


def _uplink_bridge(
    host: Hypervisor,
    bridge: UplinkBridge,
    local: Ref | None,
    speakers: list[bgp.Speaker],
    datapath: str,
    rows: Rows,
) -> Ref:
    """An uplink bridge; `local` is its port towards VLAN basic NICs, `speakers` are on access ports."""
    why = f"host {host.name}"
    if bridge.bonded:
        ports = [_bond(host, bridge, rows)]
    else:
        ports = [
            add_port(rows, uplink, why, limited=host.nics[uplink].rate is not None)
            for uplink in bridge.uplinks
        ]
    if local is not None:
        ports.append(local)
    ports += [
        add_port(rows, speaker.device, f"vpc {speaker.way.vpc}", tag=speaker.vlan) for speaker in speakers
    ]
    return add_bridge(
        rows,
        bridge.bridge,
        why,
        datapath=datapath,
        mac=_bridge_mac(host, bridge),
        mtu=bridge.mtu,
        ports=ports,
        fail_mode="secure" if slb.balances(bridge) else None,
    )


def _bond(host: Hypervisor, bridge: UplinkBridge, rows: Rows) -> Ref:
    why = f"host {host.name}"
    limited = any(host.nics[uplink].rate is not None for uplink in bridge.uplinks)
    members = [rows.add("Interface", uplink, why) for uplink in bridge.uplinks]
    config = {"lacp-time": "fast"} if bridge.lacp != "off" else {}
    if bridge.lacp_fallback:
        config["lacp-fallback-ab"] = "true"
    return rows.add(
        "Port",
        bridge.bond,
        why,
        interfaces=refs(members),
        bond_mode=bridge.mode,
        lacp=None if bridge.lacp == "off" else bridge.lacp,
        qos=leave_rates_alone(rows, bridge.bond, why) if limited else None,
        other_config=config,
    )


def _bridge_mac(host: Hypervisor, bridge: UplinkBridge) -> str:
    """br0 has the host's MAC; the others the same with their number in the second octet."""
    number = int(bridge.switch[2:])
    if number == 0:
        return host.mac
    octets = host.mac.split(":")
    octets[1] = f"{(int(octets[1], 16) + number) & 255:02x}"
    return ":".join(octets)
