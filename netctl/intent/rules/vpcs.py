"""Rules for VPCs: ways out, routes, floating IPs, routing policies, load balancers."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address

from netctl.intent import defaults
from netctl.intent.findings import Findings
from netctl.intent.rules.mirrors import mirrored_by
from netctl.intent.rules.subnets import between
from netctl.intent.source import Path_
from netctl.model.intent import LabFile
from netctl.model.vpc import Reroute, Vpc


def _own(lab: LabFile) -> dict[str, dict[str, IPv4Network]]:
    """The networks of each VPC's own subnets."""
    result: dict[str, dict[str, IPv4Network]] = {name: {} for name in lab.vpcs}
    for name, subnet in lab.subnets.items():
        if subnet.type == "overlay" and subnet.vpc in result and subnet.cidr is not None:
            result[subnet.vpc or ""][name] = subnet.cidr
    return result


def _subnets_sound(lab: LabFile, findings: Findings) -> bool:
    return all(findings.sound("subnets", name) for name in findings.names("subnets"))


def ways_out(lab: LabFile, findings: Findings) -> None:
    """A VPC leaves over external subnets, each once, with addresses of theirs, by hosts with uplinks."""
    for name, vpc in lab.vpcs.items():
        seen: set[str] = set()
        for index, external in enumerate(vpc.external):
            path: Path_ = ("vpcs", name, "external", index)
            subnet = lab.subnets.get(external.subnet)
            if external.subnet in seen:
                findings.error(
                    (*path, "subnet"), f"{name} leaves over {external.subnet} twice", "keep one of the two"
                )
            seen.add(external.subnet)
            if external.snat_ip is not None and not external.nat and findings.sound(*path, "nat"):
                findings.error(
                    (*path, "snat_ip"),
                    "without NAT there is no SNAT address",
                    "remove it, or write nat: true",
                    key=True,
                )
            for position, host in enumerate(external.gateway_hosts):
                if host in external.gateway_hosts[:position]:
                    findings.error(
                        (*path, "gateway_hosts", position), f"{host} is there twice", "write each host once"
                    )
            if subnet is None:
                continue
            if subnet.type != "external":
                findings.error(
                    (*path, "subnet"),
                    f"{external.subnet} is a subnet of type {subnet.type}, not an external one",
                    "name a subnet of type: external",
                )
                continue
            for key, what in (("router_ip", "router"), ("snat_ip", "SNAT address")):
                address: IPv4Address | None = getattr(external, key)
                if address is not None and subnet.cidr is not None and not _inside(address, subnet.cidr):
                    findings.error(
                        (*path, key),
                        f"the {what} {address} is not an address of {external.subnet} ({subnet.cidr})",
                        f"write one of {between(subnet.cidr)}",
                    )
            if not findings.sound("hosts") or not findings.sound("virtual_switches"):
                continue
            for position, host in enumerate(external.gateway_hosts):
                if host not in lab.hosts:
                    continue
                if not any(
                    bridge.switch == subnet.switch and bridge.uplinks
                    for bridge in defaults.bridges(lab, host)
                ):
                    findings.error(
                        (*path, "gateway_hosts", position),
                        f"{host} has no uplink in {subnet.switch}, which carries VLAN {subnet.vlan}",
                        f"give {subnet.switch} an uplink there, or name another host",
                    )


def inside_and_outside(lab: LabFile, findings: Findings) -> None:
    """What a VPC has inside is not outside as well, and whoever leaves can come back."""
    own = _own(lab)
    for name, vpc in lab.vpcs.items():
        if not _subnets_sound(lab, findings):
            continue
        for index, external in enumerate(vpc.external):
            path: Path_ = ("vpcs", name, "external", index)
            cidr = lab.subnets[external.subnet].cidr if external.subnet in lab.subnets else None
            for subnet, network in own[name].items():
                if cidr is not None and network.overlaps(cidr):
                    findings.error(
                        (*path, "subnet"),
                        f"{external.subnet} ({cidr}) overlaps the subnet {subnet} ({network}) of {name}: "
                        "nobody could tell inside from outside",
                        "choose another network for one of them",
                    )
            if not external.nat and not vpc.routable and own[name]:
                findings.warn(
                    (*path, "nat"),
                    f"{name} says no externally routable prefixes: all of its subnets go out over "
                    f"{external.subnet}",
                    f"write vpcs.{name}.routable: [{next(iter(own[name].values()))}]",
                )
        if vpc.external and not vpc.routes and findings.sound("vpcs", name, "routes"):
            findings.warn(
                ("vpcs", name),
                f"{name} has no routes: it reaches the external subnets themselves and nothing beyond",
                f"write vpcs.{name}.routes: [{{to: 0.0.0.0/0, via: {vpc.external[0].subnet}}}]",
                key=True,
            )


def _inside(address: IPv4Address, cidr: IPv4Network) -> bool:
    return address in cidr and address not in (cidr.network_address, cidr.broadcast_address)


def routes(lab: LabFile, findings: Findings) -> None:
    """A route leads over an external subnet of the VPC, or to an address that the VPC reaches directly."""
    own = _own(lab)
    for name, vpc in lab.vpcs.items():
        outside = dict.fromkeys(external.subnet for external in vpc.external)
        for index, route in enumerate(vpc.routes):
            path: Path_ = ("vpcs", name, "routes", index)
            if route in vpc.routes[:index]:
                findings.error(path, f"the route to {route.to} is there twice", "keep one of the two")
                continue
            if _is_attached(lab, vpc, route.via):
                continue
            if route.via not in lab.subnets and route.via in lab.vpcs:
                attachable = lab.vpcs[route.via].type == "transit"
                findings.error(
                    (*path, "via"),
                    f"{name} does not attach to {route.via}: this route leads nowhere",
                    f"write vpcs.{name}.attach: [{route.via}]"
                    if attachable
                    else "name a transit VPC that both attach to",
                )
                continue
            if route.via in lab.subnets:
                subnet = lab.subnets[route.via]
                if route.via not in outside and findings.sound("vpcs", name, "external"):
                    there = " or ".join(sorted(outside))
                    findings.error(
                        (*path, "via"),
                        f"{name} has no way out over {route.via}: this route leads nowhere",
                        f"write vpcs.{name}.external: [{{subnet: {route.via}}}] as well"
                        + (f", or route over {there}" if there else ""),
                    )
                elif subnet.gateway is None and findings.sound("subnets", route.via, "gateway"):
                    findings.error(
                        (*path, "via"),
                        f"the external subnet {route.via} has no gateway to route to",
                        f"write subnets.{route.via}.gateway, or the next hop's address here",
                    )
                continue
            address = _address(route.via)
            if address is None or not (
                _subnets_sound(lab, findings) and findings.sound("vpcs", name, "external")
            ):
                continue
            near = [*own[name].values()]
            near += [
                cidr for one in outside if one in lab.subnets and (cidr := lab.subnets[one].cidr) is not None
            ]
            if not any(address in network for network in near):
                findings.error(
                    (*path, "via"),
                    f"{address} is in no subnet that {name} has or leaves over: this route leads nowhere",
                    f"write an address of {_networks(near)}" if near else "give the VPC a subnet",
                )


def _is_attached(lab: LabFile, vpc: Vpc, via: str) -> bool:
    """Whether a route leads over a transit VPC: by its name, a subnet of it, or an address there."""
    address = _address(via)
    for hub in vpc.attach:
        inside = {name: subnet for name, subnet in lab.subnets.items() if subnet.vpc == hub}
        if via == hub or via in inside:
            return True
        if address and any(subnet.cidr and address in subnet.cidr for subnet in inside.values()):
            return True
    return False


def _networks(networks: list[IPv4Network]) -> str:
    return ", ".join(str(network) for network in networks[:4])


def _address(text: str) -> IPv4Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address if isinstance(address, IPv4Address) else None


def floating_ips(lab: LabFile, findings: Findings) -> None:
    """A floating IP is an address of an external subnet with NAT, for a NIC in the VPC."""
    for name, vpc in lab.vpcs.items():
        outside = {
            external.subnet: lab.subnets[external.subnet].cidr
            for external in vpc.external
            if external.nat and external.subnet in lab.subnets
        }
        targets: dict[str, IPv4Address] = {}
        for address, target in vpc.floating_ips.items():
            path: Path_ = ("vpcs", name, "floating_ips", str(address))
            sound = _subnets_sound(lab, findings) and findings.sound("vpcs", name, "external")
            if sound and not any(cidr is not None and _inside(address, cidr) for cidr in outside.values()):
                where = ", ".join(f"{subnet} ({cidr})" for subnet, cidr in outside.items())
                findings.error(
                    path,
                    f"the floating IP {address} is in no external subnet that {name} leaves over with NAT",
                    f"write an address of {where}"
                    if where
                    else f"write vpcs.{name}.external: [{{subnet: ...}}]",
                    key=True,
                )
            _in_vpc(lab, findings, name, target, path)
            nic = target if "/" in target else f"{target}/0"
            first = targets.setdefault(nic, address)
            if first != address:
                findings.error(
                    path,
                    f"{target} has the floating IP {first} already",
                    "give it one, or use another NIC",
                    key=True,
                )


def _in_vpc(lab: LabFile, findings: Findings, vpc: str, target: str, path: Path_) -> None:
    vm, _, index = target.partition("/")
    nics = lab.vms[vm].nics if vm in lab.vms else []
    number = int(index or 0) if (index or "0").isascii() and (index or "0").isdigit() else len(nics)
    if number >= len(nics) or not findings.sound("vms", vm, "nics"):
        return
    if mirrored := mirrored_by(lab, target):
        findings.error(
            path, f"{target} gets copies of {mirrored} and nothing else", "name a NIC of a VM in the VPC"
        )
        return
    subnet = lab.subnets.get(nics[number].subnet)
    if subnet is not None and subnet.vpc != vpc and findings.sound("subnets", nics[number].subnet):
        findings.error(
            path,
            f"{target} is on {nics[number].subnet}, which is not in {vpc}",
            "name a VM, or a NIC of it, in the VPC",
        )


def routable_prefixes(lab: LabFile, findings: Findings) -> None:
    """An externally routable prefix matters where the VPC leaves without NAT."""
    own = _own(lab)
    for name, vpc in lab.vpcs.items():
        for index, prefix in enumerate(vpc.routable):
            path: Path_ = ("vpcs", name, "routable", index)
            if prefix in vpc.routable[:index]:
                findings.error(path, f"{prefix} is there twice", "write each prefix once")
                continue
            if not _subnets_sound(lab, findings):
                continue
            _routable_inside_only(lab, findings, vpc, prefix, path)
            if not any(prefix.overlaps(cidr) for cidr in own[name].values()):
                findings.warn(
                    path,
                    f"no subnet of {name} is in {prefix}",
                    "write a network that the VPC has, or leave it out",
                )
            if vpc.external and all(external.nat for external in vpc.external):
                findings.warn(
                    path,
                    f"{name} leaves with NAT only: nobody outside will see {prefix}",
                    "write nat: false for an external subnet that should route it",
                )


def _routable_inside_only(
    lab: LabFile, findings: Findings, vpc: Vpc, prefix: IPv4Network, path: Path_
) -> None:
    """An external subnet's own addresses, which NAT gives out there, are not the VPC's to route."""
    for external in vpc.external:
        cidr = lab.subnets[external.subnet].cidr if external.subnet in lab.subnets else None
        if cidr is not None and prefix.overlaps(cidr):
            findings.error(
                path,
                f"{prefix} overlaps the external subnet {external.subnet} ({cidr}): those are not the VPC's",
                "write networks that the VPC has inside",
            )


def one_owner_of_a_prefix(lab: LabFile, findings: Findings) -> None:
    """Two VPCs that leave over one external subnet without NAT route different prefixes there."""
    seen: list[tuple[str, str, IPv4Network]] = []
    for name, vpc in lab.vpcs.items():
        ways = [external.subnet for external in vpc.external if not external.nat]
        for index, prefix in enumerate(vpc.routable):
            for way in ways:
                other = next((o for o, w, p in seen if o != name and w == way and p.overlaps(prefix)), None)
                if other is not None:
                    findings.error(
                        ("vpcs", name, "routable", index),
                        f"{other} routes (part of) {prefix} over {way} too: nobody could tell them apart",
                        "let one of them leave with NAT, or choose other prefixes",
                    )
            seen += [(name, way, prefix) for way in ways]


def routing_policies(lab: LabFile, findings: Findings) -> None:
    """Ports go with TCP and UDP; a reroute says where to, in the VPC."""
    own = _own(lab)
    for name, vpc in lab.vpcs.items():
        seen: set[int] = set()
        same: dict[tuple[object, ...], object] = {}
        for index, policy in enumerate(vpc.routing_policies):
            path: Path_ = ("vpcs", name, "routing_policies", index)
            ports = frozenset({*policy.ports, policy.port} - {None})
            what = (policy.priority, policy.from_, policy.to, policy.protocol, ports)
            if same.setdefault(what, policy) != policy:
                findings.error(
                    path,
                    f"{name} does something else with the same packets at priority {policy.priority} already",
                    "keep one of the two, or give this one another priority",
                )
            elif policy.priority in seen:
                findings.warn(
                    (*path, "priority"),
                    f"{name} has two routing policies of priority {policy.priority}: which one wins is open",
                    "give each its own priority; the highest is first",
                )
            seen.add(policy.priority)
            for key in ("port", "ports"):
                ported = policy.protocol in ("tcp", "udp") or not findings.sound(*path, "protocol")
                if getattr(policy, key) and not ported:
                    findings.error(
                        (*path, key),
                        f"protocol {policy.protocol} has no ports",
                        "write protocol: tcp or udp",
                        key=True,
                    )
            if policy.port is not None and policy.ports:
                findings.error(
                    (*path, "ports"), "there are `port` and `ports`", "write all of them in `ports`", key=True
                )
            near = {one for one, subnet in lab.subnets.items() if subnet.vpc == name}
            near |= {one.subnet for one in vpc.external}
            for key, end in (("from", policy.from_), ("to", policy.to)):
                if end in lab.subnets and end not in near and findings.sound("subnets", end):
                    findings.error(
                        (*path, key), f"{end} is not a subnet of {name}", "name one of the VPC's subnets"
                    )
            target = policy.action.reroute if isinstance(policy.action, Reroute) else policy.reroute
            where: Path_ = (
                (*path, "action", "reroute") if isinstance(policy.action, Reroute) else (*path, "reroute")
            )
            if policy.action == "reroute" and target is None and findings.sound(*path, "reroute"):
                findings.error(
                    (*path, "action"), "a reroute needs a next hop", "write action: {reroute: ADDRESS}"
                )
            elif target is not None and policy.action in ("permit", "deny"):
                findings.error(
                    where,
                    f"`reroute` does not go with action: {policy.action}",
                    "write action: reroute",
                    key=True,
                )
            elif target is None or not _subnets_sound(lab, findings):
                continue
            elif not any(target in cidr for cidr in own[name].values()):
                findings.error(
                    where,
                    f"{target} is in no subnet of {name}: this leads nowhere",
                    f"write an address of {_networks(list(own[name].values()))}"
                    if own[name]
                    else "give it a subnet",
                )


def load_balancers(lab: LabFile, findings: Findings) -> None:
    """Every VIP with its port is one balancer's, and its backends are in the VPC."""
    for name, vpc in lab.vpcs.items():
        seen: dict[tuple[IPv4Address, int, str], str] = {}
        for balancer, it in vpc.load_balancers.items():
            path: Path_ = ("vpcs", name, "load_balancers", balancer)
            first = seen.setdefault((it.vip, it.port, it.protocol), balancer)
            if first != balancer:
                findings.error(
                    (*path, "vip"),
                    f"{it.vip} {it.protocol}/{it.port} is the load balancer {first}'s already",
                    "choose another address or port",
                )
            if not it.backends and findings.sound(*path, "backends"):
                findings.error(
                    (*path, "backends"),
                    f"{balancer} has no backends",
                    "write backends: [web1:8443]",
                    key=True,
                )
            for index, backend in enumerate(it.backends):
                if backend in it.backends[:index]:
                    findings.error(
                        (*path, "backends", index), f"{backend} is there twice", "write each backend once"
                    )
                owner = backend.rpartition(":")[0]
                if _address(owner) is None:
                    _in_vpc(lab, findings, name, owner, (*path, "backends", index))


def transit(lab: LabFile, findings: Findings) -> None:
    """VPCs attach to transit VPCs."""
    for name, vpc in lab.vpcs.items():
        for index, other in enumerate(vpc.attach):
            path: Path_ = ("vpcs", name, "attach", index)
            if other == name:
                findings.error(path, f"{name} cannot attach to itself", "name a VPC of type: transit")
            elif other in lab.vpcs and lab.vpcs[other].type != "transit" and findings.sound("vpcs", other):
                findings.error(path, f"{other} is not a transit VPC", f"write vpcs.{other}.type: transit")
            elif other in vpc.attach[:index]:
                findings.error(path, f"{name} attaches to {other} twice", "keep one of the two")
            elif vpc.type == "transit" and findings.sound("vpcs", name, "type"):
                findings.error(
                    path,
                    f"{name} is a transit VPC itself: regular VPCs attach to it, it attaches to none",
                    "attach the VPCs to both, or leave out type: transit",
                )


def one_network_in_a_transit(lab: LabFile, findings: Findings) -> None:
    """A transit VPC routes to all that attach to it, so no two of their subnets overlap."""
    if not _subnets_sound(lab, findings):
        return
    own = _own(lab)
    for hub, transit_vpc in lab.vpcs.items():
        if transit_vpc.type != "transit":
            continue
        seen: list[tuple[str, str, IPv4Network]] = [(hub, name, cidr) for name, cidr in own[hub].items()]
        for vpc, definition in lab.vpcs.items():
            if hub not in definition.attach:
                continue
            for subnet, cidr in own[vpc].items():
                other = next(((v, s) for v, s, c in seen if c.overlaps(cidr)), None)
                if other is not None:
                    findings.error(
                        ("vpcs", vpc, "attach", definition.attach.index(hub)),
                        f"{subnet} of {vpc} ({cidr}) overlaps {other[1]} of {other[0]}: {hub} routes both",
                        "choose another network for one of them",
                    )
            seen += [(vpc, name, cidr) for name, cidr in own[vpc].items()]


RULES = (
    ways_out,
    inside_and_outside,
    routes,
    floating_ips,
    routable_prefixes,
    one_owner_of_a_prefix,
    routing_policies,
    load_balancers,
    transit,
    one_network_in_a_transit,
)
