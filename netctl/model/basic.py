"""The bridges that VLAN basic subnets take on a host: one place, so who makes them and who uses them agree.

    tap3  tap4                  tap9          of each virtual switch with VLAN basic subnets
      |     |                     |
     br0.local                br1.local       the NICs: VLANs, port security, delivery
         u                        u
         d0                       d1
     br.microseg ---------------- + ---       security policies
         u0                       u1
         d0                       d1
     br.nf ---------------------- + ---       service chains, then local or out
         u0                       u1
         d                        d
        br0                      br1          the uplink bridges

Ports are patch ports; d leads down to the VMs, u up to the uplinks, and the digit is the virtual switch's.
"""

from __future__ import annotations

from netctl.model.intent import Hypervisor, Intent, Port, UplinkBridge

MICROSEG = "br.microseg"
"""The bridge in which security policies of VLAN basic subnets are."""

NETWORK_FUNCTIONS = "br.nf"
"""The bridge in which service chains are."""


def local(bridge: UplinkBridge) -> str:
    """The bridge with the taps of VLAN basic NICs: br0.local."""
    return f"{bridge.bridge}.local"


def up(bridge: str, number: int | None = None) -> str:
    """The patch port of a bridge towards the uplinks; of a shared bridge with the virtual switch's number."""
    return f"{bridge}.u{'' if number is None else number}"


def down(bridge: str, number: int | None = None) -> str:
    """The patch port of a bridge towards the VMs; of a shared bridge with the virtual switch's number."""
    return f"{bridge}.d{'' if number is None else number}"


def number(bridge: UplinkBridge) -> int:
    """The number of a virtual switch: 0 for vs0."""
    return int(bridge.switch[2:])


def bridges_of(intent: Intent, host: Hypervisor) -> list[UplinkBridge]:
    """The uplink bridges of a host over which VLAN basic subnets leave it."""
    switches = {
        subnet.switch
        for subnet in intent.file.subnets.values()
        if subnet.type == "vlan-basic" and (subnet.clusters is None or host.cluster in subnet.clusters)
    }
    return [bridge for bridge in host.bridges if bridge.switch in switches]


def ports_of(intent: Intent, host: Hypervisor, bridge: UplinkBridge) -> list[Port]:
    """The NICs on a host that are on VLAN basic subnets of a virtual switch, also those that are down."""
    subnets = intent.file.subnets
    return [
        port
        for port in intent.ports_by_host[host.name]
        if subnets[port.subnet].type == "vlan-basic" and subnets[port.subnet].switch == bridge.switch
    ]


def is_basic(intent: Intent, port: Port) -> bool:
    """Whether a NIC is on a VLAN basic subnet, so that OVN knows nothing of it."""
    return intent.file.subnets[port.subnet].type == "vlan-basic"


def learning_bridges(intent: Intent, host: Hypervisor) -> tuple[str, ...]:
    """The bridges of a host whose own flows learn MAC addresses."""
    found = bridges_of(intent, host)
    return (*(local(bridge) for bridge in found), *((NETWORK_FUNCTIONS,) if found else ()))


def punts(intent: Intent, host: Hypervisor) -> bool:
    """Whether br.microseg of a host may have packets to log, or to answer for a policy that rejects them."""
    return bool(bridges_of(intent, host)) and any(policy.punts for policy in intent.file.policies.values())
