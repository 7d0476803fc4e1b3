"""The intent as typed, frozen values, a file per concept. No I/O, and none of OVN's or OVS's words."""

from netctl.model.intent import (
    GENEVE_OVERHEAD,
    Assignments,
    Gateway,
    Hypervisor,
    Intent,
    LabFile,
    Machine,
    Port,
    UplinkBridge,
)

__all__ = [
    "GENEVE_OVERHEAD",
    "Assignments",
    "Gateway",
    "Hypervisor",
    "Intent",
    "LabFile",
    "Machine",
    "Port",
    "UplinkBridge",
]
