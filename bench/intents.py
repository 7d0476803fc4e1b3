"""Intents to measure with, as YAML text of whatever size."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

Document = dict[str, Any]

NICS_A_SUBNET = 50
SUBNETS_A_VPC = 10
VMS_A_HOST = 80


def rack(lab: str, hosts: int, vms: int) -> Document:
    """Hosts with VMs each, as a lab has them: half of the VMs on a VLAN, half in the two subnets of a VPC."""
    networks = ("vlan", "app", "vlan", "db")
    return {
        "name": lab,
        "hosts": {f"hv{host}": {} for host in range(1, hosts + 1)},
        "vpcs": {"vpc": {}},
        "subnets": {
            "vlan": {"type": "vlan", "vlan": 10, "cidr": "10.10.0.0/22"},
            "app": {"type": "overlay", "vpc": "vpc", "cidr": "192.168.0.0/22"},
            "db": {"type": "overlay", "vpc": "vpc", "cidr": "192.168.4.0/22"},
        },
        "vms": {
            f"vm{host}-{vm}": {"host": f"hv{host}", "nics": [{"subnet": networks[vm % len(networks)]}]}
            for host in range(1, hosts + 1)
            for vm in range(vms)
        },
    }


def idle(lab: str, hosts: int) -> Document:
    """Hosts and nothing on them."""
    return {"name": lab, "hosts": {f"hv{host}": {} for host in range(1, hosts + 1)}}


def flat(lab: str, hosts: int, vms: int) -> Document:
    """Hosts with VMs each, all in one VLAN."""
    return {
        "name": lab,
        "hosts": {f"hv{host}": {} for host in range(1, hosts + 1)},
        "subnets": {"vlan": {"type": "vlan", "vlan": 10, "cidr": "10.10.0.0/22"}},
        "vms": {
            f"vm{host}-{vm}": {"host": f"hv{host}", "nics": [{"subnet": "vlan"}]}
            for host in range(1, hosts + 1)
            for vm in range(vms)
        },
    }


def pair(lab: str) -> Document:
    """Two hosts; two VMs on a VLAN and two in a VPC, one of each on either host."""
    return {
        "name": lab,
        "hosts": {"hv1": {}, "hv2": {}},
        "vpcs": {"vpc": {}},
        "subnets": {
            "vlan": {"type": "vlan", "vlan": 10, "cidr": "10.10.0.0/24"},
            "vpc": {"type": "overlay", "vpc": "vpc", "cidr": "192.168.1.0/24"},
        },
        "vms": {
            f"{network}{host}": {
                "host": f"hv{host}",
                "nics": [{"subnet": network, "ip": f"{prefix}.{10 + host}"}],
            }
            for network, prefix in (("vlan", "10.10.0"), ("vpc", "192.168.1"))
            for host in (1, 2)
        },
    }


def large(nics: int) -> Document:
    """VMs with a NIC each, 50 to a subnet, 10 subnets to a VPC: 10,000 are 200 subnets in 20 VPCs."""
    subnets = max(1, nics // NICS_A_SUBNET)
    vpcs = max(1, subnets // SUBNETS_A_VPC)
    hosts = max(1, nics // VMS_A_HOST)
    names = [f"hv{host + 1}" for host in range(hosts)]
    blocks = IPv4Network("10.0.0.0/8").subnets(new_prefix=24)
    return {
        "name": "large",
        "clusters": {f"pe{at // 32 + 1}": {"hosts": names[at : at + 32]} for at in range(0, hosts, 32)},
        "hosts": {name: {} for name in names},
        "vpcs": {f"vpc{vpc + 1}": {} for vpc in range(vpcs)},
        "subnets": {
            f"net{subnet + 1}": {
                "type": "overlay",
                "vpc": f"vpc{subnet % vpcs + 1}",
                "cidr": str(next(blocks)),
            }
            for subnet in range(subnets)
        },
        "vms": {
            f"vm{nic + 1}": {"host": names[nic % hosts], "nics": [{"subnet": f"net{nic % subnets + 1}"}]}
            for nic in range(nics)
        },
    }


def text(document: Document) -> str:
    """As people write it: one entry of a section on a line. No word here needs quotes."""
    lines = []
    for name, section in document.items():
        if isinstance(section, dict):
            lines.append(f"{name}:")
            lines += [f"  {key}: {_flow(value)}" for key, value in section.items()]
        else:
            lines.append(f"{name}: {_flow(section)}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return str(value)
