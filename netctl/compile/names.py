"""What things are called in OVN: as the user called them, and never the same name for two things.

    web1/0      the port of VM web1's first NIC: VM and index, as users write it
    web1/0.20   the port of the same NIC, which is a trunk, in VLAN 20
    web@vs0     the localnet port of subnet web
    20@vs0      the switch of a VLAN that is trunked but has no subnet, and its localnet port
    app:shop    the port of subnet app towards the router of VPC shop
    shop/app    the port of that router towards the subnet: an index is no name, so it is never a NIC's

Ports of switches and of routers share one name space in the southbound database, hence the different
separators; names of the intent have none of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256

from netctl.model.intent import Port


@dataclass(frozen=True, slots=True)
class Names:
    """Names with a prefix, which keeps apart the labs that share one OVN."""

    prefix: str = ""

    def switch(self, subnet: str) -> str:
        """The logical switch of a subnet."""
        return f"{self.prefix}{subnet}"

    def router(self, vpc: str) -> str:
        """The logical router of a VPC."""
        return f"{self.prefix}{vpc}"

    def nic(self, port: Port) -> str:
        """The logical switch port of a NIC, also its interface's `iface-id`."""
        return f"{self.prefix}{port.name}"

    def trunked(self, port: Port, vlan: int) -> str:
        """The logical switch port of a trunked NIC in one of its other VLANs."""
        return f"{self.prefix}{port.name}.{vlan}"

    def unnamed(self, virtual_switch: str, vlan: int) -> str:
        """The logical switch of a VLAN without a subnet, and its port that leads there."""
        return f"{self.prefix}{vlan}@{virtual_switch}"

    def localnet(self, subnet: str, virtual_switch: str) -> str:
        """The logical switch port that leads to a VLAN."""
        return f"{self.prefix}{subnet}@{virtual_switch}"

    def to_router(self, subnet: str, vpc: str) -> str:
        """The logical switch port that leads to a router."""
        return f"{self.prefix}{subnet}:{vpc}"

    def router_port(self, vpc: str, subnet: str) -> str:
        """The logical router port that leads to a subnet."""
        return f"{self.prefix}{vpc}/{subnet}"

    def load_balancer(self, vpc: str, name: str) -> str:
        """A load balancer of a VPC."""
        return f"{self.prefix}{vpc}/{name}"

    def transit(self, vpc: str) -> str:
        """What stands for a transit VPC's switch where else a subnet's name stands; no subnet has it."""
        return f"{vpc}@transit"

    def zone(self, owner: str) -> str:
        """The names of a VPC's or subnet's VMs."""
        return f"{self.prefix}{owner}"

    def chassis(self, host: str) -> str:
        """The chassis of a host, its `system-id`."""
        return f"{self.prefix}{host}"

    def identifier(self, words: str) -> str:
        """A port group or address set for what these words say, as OVN's expressions can name it."""
        readable = re.sub(r"[^A-Za-z0-9]+", "_", f"{self.prefix}{words}").strip("_")[:48]
        digest = sha256(f"{self.prefix}{words}".encode()).hexdigest()[:10]
        return f"{readable}_{digest}"
