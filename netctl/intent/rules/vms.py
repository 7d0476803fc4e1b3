"""Rules for VMs, their NICs, and the addresses that a file gives."""

from __future__ import annotations

from ipaddress import IPv4Address

from netctl.intent import defaults
from netctl.intent.assignment import hosts_for
from netctl.intent.findings import Findings
from netctl.intent.rules.fabric import unreserved_mac
from netctl.intent.rules.hosts import possible_rate
from netctl.intent.rules.subnets import SMALLEST, between
from netctl.intent.source import Path_
from netctl.model.intent import LabFile


def placement(lab: LabFile, findings: Findings) -> None:
    """There is a host for a VM, and the one that the file names is among those that it may run on."""
    for name, vm in lab.vms.items():
        path = ("vms", name)
        if vm.host in lab.hosts and vm.affinity and vm.host not in vm.affinity:
            findings.error(
                (*path, "host"),
                f"{vm.host} is not in the affinity of {name}",
                f"write one of {', '.join(vm.affinity)}, or add it there",
            )
            continue
        if name in vm.anti_affinity:
            findings.error(
                (*path, "anti_affinity"),
                f"{name} cannot be kept apart from itself",
                "remove it from the list",
            )
        if not any(_clusters(lab, nic.subnet) for nic in vm.nics):
            continue
        if not (findings.sound("clusters") and findings.sound("hosts") and findings.sound(*path)):
            continue
        allowed = hosts_for(lab, vm)
        for index, nic in enumerate(vm.nics):
            clusters = _clusters(lab, nic.subnet)
            if (
                vm.host in lab.hosts
                and clusters
                and defaults.cluster_of(lab).get(vm.host or "") not in clusters
            ):
                findings.error(
                    (*path, "nics", index, "subnet"),
                    f"the subnet {nic.subnet} is not in the cluster of {name}'s host {vm.host}",
                    f"add the cluster to subnets.{nic.subnet}.clusters, or place {name} elsewhere",
                )
        if vm.host is None and not allowed and lab.hosts:
            findings.error(
                path,
                f"there is no host for {name}: none in its affinity has all of its subnets",
                "widen its affinity or the subnets' clusters",
                key=True,
            )


def _clusters(lab: LabFile, subnet: str) -> list[str] | None:
    return lab.subnets[subnet].clusters if subnet in lab.subnets else None


def images(lab: LabFile, findings: Findings) -> None:
    """Images are for real VMs."""
    for name, vm in lab.vms.items():
        if vm.image is not None and vm.kind != "qemu" and findings.sound("vms", name, "kind"):
            findings.error(
                ("vms", name, "image"),
                f"{name} is a namespace, it boots no image",
                "write kind: qemu as well",
                key=True,
            )


def nic_modes(lab: LabFile, findings: Findings) -> None:
    """Trunks carry VLANs, access NICs one; overlay subnets have none, external ones no VMs."""
    vlans = {subnet.vlan for subnet in lab.subnets.values() if subnet.type != "overlay"}
    for name, vm in lab.vms.items():
        for index, nic in enumerate(vm.nics):
            path: Path_ = ("vms", name, "nics", index)
            subnet = lab.subnets.get(nic.subnet)
            if subnet is not None and subnet.type == "external":
                findings.error(
                    (*path, "subnet"),
                    f"{nic.subnet} is an external subnet: VPCs leave through it, VMs are not on it",
                    "write type: vlan for a VLAN with VMs, or put the VM in a VPC",
                )
            if nic.mode == "access":
                if nic.trunked and findings.sound(*path, "mode"):
                    findings.error(
                        (*path, "trunked"),
                        "an access NIC has no trunked VLANs",
                        "write mode: trunk as well",
                        key=True,
                    )
                continue
            if subnet is not None and subnet.type == "overlay":
                findings.error(
                    (*path, "mode"),
                    f"{nic.subnet} is an overlay subnet: it has no VLANs to trunk",
                    "trunk on a subnet of type vlan or vlan-basic",
                )
                continue
            if not nic.trunked and findings.sound(*path, "trunked"):
                findings.error(
                    (*path, "mode"), "this trunk carries no VLANs", "write trunked: [20, 30], or mode: access"
                )
            for position, vlan in enumerate(nic.trunked):
                here = (*path, "trunked", position)
                if vlan in nic.trunked[:position]:
                    findings.error(here, f"VLAN {vlan} is there twice", "write each VLAN once")
                elif vlan not in vlans and findings.sound("subnets"):
                    findings.warn(
                        here,
                        f"no subnet is on VLAN {vlan}",
                        f"this trunk will carry it; is {vlan} what you mean?",
                    )


def nic_addresses(lab: LabFile, findings: Findings) -> None:
    """A NIC's address is a host's of its subnet; who asks by DHCP is answered."""
    for name, vm in lab.vms.items():
        for index, nic in enumerate(vm.nics):
            if nic.ip is None or nic.subnet not in lab.subnets:
                continue
            subnet = lab.subnets[nic.subnet]
            path = ("vms", name, "nics", index, "ip")
            if not findings.sound("subnets", nic.subnet, "cidr"):
                continue
            cidr = subnet.cidr
            if nic.ip == "dhcp":
                if (
                    cidr is not None
                    and not subnet.answers_dhcp
                    and findings.sound("subnets", nic.subnet, "dhcp")
                ):
                    findings.error(
                        path,
                        f"nobody answers DHCP in {nic.subnet}",
                        f"write subnets.{nic.subnet}.dhcp: true, or leave `ip` out",
                    )
                continue
            if cidr is None:
                if subnet.cidr6 is None:
                    findings.error(
                        path,
                        f"{nic.subnet} is unmanaged: it has no cidr, so netctl gives no addresses in it",
                        f"write subnets.{nic.subnet}.cidr, or leave `ip` out",
                    )
                continue
            if cidr.prefixlen > SMALLEST:
                continue
            if nic.ip not in cidr:
                findings.error(
                    path,
                    f"{nic.ip} is not in {cidr}, the network of {nic.subnet}",
                    f"write one of {between(cidr)}",
                )
            elif nic.ip in (cidr.network_address, cidr.broadcast_address):
                what = "network" if nic.ip == cidr.network_address else "broadcast"
                findings.error(
                    path, f"{nic.ip} is the {what} address of {cidr}", f"write one of {between(cidr)}"
                )


def addresses_differ(lab: LabFile, findings: Findings) -> None:
    """Nobody has an address that somebody else of the same network has."""
    seen: dict[tuple[str, IPv4Address], defaults.Claim] = {}
    for claim in defaults.claims(lab):
        first = seen.setdefault((claim.subnet, claim.address), claim)
        if first is claim or first.owner == claim.owner:
            continue
        if (
            first.path[-1] == "gateway"
            and claim.path[0] == "physical"
            and lab.subnets[claim.subnet].type != "overlay"
        ):
            continue  # the bare machine is the gateway
        key = claim.path[-2:-1] == ("floating_ips",)
        findings.error(
            claim.path,
            f"{claim.address} is {first.owner} already (line {findings.line(*first.path)})",
            "choose another address" + ("" if key or claim.path[0] != "vms" else ", or leave it out"),
            key=key,
        )


def macs_differ(lab: LabFile, findings: Findings) -> None:
    """Nobody has a MAC address that somebody else of the same VLAN or VPC has, or that is a host's."""
    seen: dict[tuple[str, str | int | None, str], tuple[str, Path_]] = {}

    def claim(kind: str, network: str | int | None, mac: str, owner: str, path: Path_) -> None:
        first, where = seen.setdefault((kind, network, mac), (owner, path))
        if where != path:
            findings.error(
                path,
                f"{mac} is {first}'s already (line {findings.line(*where)})",
                "choose another MAC address, or leave it out to have one assigned",
            )

    for name, machine in lab.physical.items():
        if machine.mac is not None:
            claim("vlan", machine.vlan, machine.mac, name, ("physical", name, "mac"))
    for name, vm in lab.vms.items():
        for index, nic in enumerate(vm.nics):
            if nic.mac is None:
                continue
            path = ("vms", name, "nics", index, "mac")
            unreserved_mac(findings, path, nic.mac)
            subnet = lab.subnets.get(nic.subnet)
            if subnet is None:
                continue
            if subnet.type == "overlay":
                claim("vpc", subnet.vpc, nic.mac, f"{name}/{index}", path)
                continue
            for vlan in {subnet.vlan, *nic.trunked}:
                claim("vlan", vlan, nic.mac, f"{name}/{index}", path)


def nic_rates(lab: LabFile, findings: Findings) -> None:
    """A NIC's rate is one that can be kept to."""
    for name, vm in lab.vms.items():
        for index, nic in enumerate(vm.nics):
            possible_rate(findings, ("vms", name, "nics", index, "rate"), nic.rate)


RULES = (placement, images, nic_modes, nic_addresses, addresses_differ, macs_differ, nic_rates)
