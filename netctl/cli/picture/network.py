"""The intent as a graph: switches, hosts, VMs, bare machines, subnets and VPCs, and what joins them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import networkx

    from netctl.model import Intent, Machine

    Graph = networkx.MultiGraph[str]


def network(intent: Intent) -> Graph:
    """The graph. Nodes are `kind:name` with their facts as attributes; edges carry a `kind` as well.

    Kinds of nodes: switch, host, vm, machine, subnet, vpc. Kinds of edges: link (switch to switch),
    cable (NIC to switch), runs (VM to host), nic (VM or machine to subnet), routed (subnet to VPC) and
    external (VPC to external subnet).
    """
    import networkx

    graph: Graph = networkx.MultiGraph(name=intent.name, title=intent.file.title)
    for name in intent.switches:
        graph.add_node(f"switch:{name}", kind="switch", name=name)
    for a, b in intent.links:
        graph.add_edge(f"switch:{a}", f"switch:{b}", kind="link", mlag=is_mlag(intent, a, b))
    _add_networks(graph, intent)
    _add_hosts(graph, intent)
    _add_vms(graph, intent)
    _add_machines(graph, intent)
    return graph


def of_kind(graph: Graph, kind: str) -> list[str]:
    """Nodes of a kind, sorted by name."""
    return sorted(node for node, facts in graph.nodes(data=True) if facts["kind"] == kind)


def to_json(graph: Graph) -> dict[str, Any]:
    """The graph as data: nodes with an `id`, edges with `a` and `b`."""
    nodes = [{"id": node, **facts} for node, facts in graph.nodes(data=True)]
    edges = [{"a": a, "b": b, **facts} for a, b, facts in graph.edges(data=True)]
    return {**graph.graph, "nodes": nodes, "edges": edges}


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key by which vm2 comes before vm10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def is_mlag(intent: Intent, a: str, b: str) -> bool:
    """Whether two switches answer LACP as one."""
    return any({a, b} == set(pair) for pair in intent.file.fabric.mlag)


def subnet_of(intent: Intent, machine: Machine) -> str | None:
    """The subnet that a bare machine is in by its VLAN, if one has it."""
    vlan = machine.definition.vlan
    for name, subnet in sorted(intent.file.subnets.items()):
        if vlan is not None and subnet.vlan == vlan:
            return name
    return None


def _add_networks(graph: Graph, intent: Intent) -> None:
    for name, subnet in sorted(intent.file.subnets.items()):
        facts = {"type": subnet.type, "vlan": subnet.vlan, "cidr": _text(subnet.cidr), "vpc": subnet.vpc}
        graph.add_node(f"subnet:{name}", kind="subnet", name=name, **_known(facts))
    for name, vpc in sorted(intent.file.vpcs.items()):
        graph.add_node(f"vpc:{name}", kind="vpc", name=name, type=vpc.type)
        for way in vpc.external:
            graph.add_edge(f"vpc:{name}", f"subnet:{way.subnet}", kind="external", nat=way.nat)
    for name, subnet in sorted(intent.file.subnets.items()):
        if subnet.vpc is not None:
            graph.add_edge(f"subnet:{name}", f"vpc:{subnet.vpc}", kind="routed")


def _add_hosts(graph: Graph, intent: Intent) -> None:
    for host in intent.hosts.values():
        graph.add_node(
            f"host:{host.name}",
            kind="host",
            name=host.name,
            address=str(host.address.ip),
            cluster=host.cluster,
            bonds={bridge.bond: bridge.mode for bridge in host.bridges},
        )
        for nic, cable in sorted(host.nics.items()):
            facts = {"nic": nic, "rate": cable.rate}
            graph.add_edge(f"host:{host.name}", f"switch:{cable.switch}", kind="cable", **_known(facts))


def _add_vms(graph: Graph, intent: Intent) -> None:
    for name, vm in sorted(intent.file.vms.items()):
        facts: dict[str, Any] = {"guest": vm.kind, "categories": dict(vm.categories) or None}
        graph.add_node(f"vm:{name}", kind="vm", name=name, **_known(facts))
    for name, host in sorted(homes(intent).items()):
        graph.add_edge(f"vm:{name}", f"host:{host}", kind="runs")
    for port in intent.ports:
        facts = {
            "nic": port.guest_device,
            "ip": _text(port.ip),
            "ip6": _text(port.ip6),
            "mac": port.mac,
            "mode": port.mode,
        }
        facts["trunked"] = list(port.trunked) or None
        graph.add_edge(f"vm:{port.vm}", f"subnet:{port.subnet}", kind="nic", **_known(facts))


def homes(intent: Intent) -> dict[str, str]:
    """VM to host, as the file says or as it was placed."""
    placed = {port.vm: port.host for port in intent.ports}
    for name, vm in intent.file.vms.items():
        host = placed.get(name) or vm.host or intent.assignments.placement.get(name)
        if host is not None:
            placed[name] = host
    return placed


def _add_machines(graph: Graph, intent: Intent) -> None:
    for name, machine in intent.machines.items():
        made = machine.definition
        facts = {"ip": _text(made.ip), "vlan": made.vlan, "type": made.kind}
        graph.add_node(f"machine:{name}", kind="machine", name=name, **_known(facts))
        graph.add_edge(f"machine:{name}", f"switch:{made.switch}", kind="cable", nic="eth0")
        subnet = subnet_of(intent, machine)
        if subnet is not None:
            graph.add_edge(f"machine:{name}", f"subnet:{subnet}", kind="nic", nic="eth0")


def layers(intent: Intent) -> list[list[str]]:
    """Switches by their distance from hosts and machines: the leaves first, then the spines, ..."""
    import networkx

    graph = network(intent)
    ends = [*of_kind(graph, "host"), *of_kind(graph, "machine")]
    near = {str(other) for node in ends for other in graph.neighbors(node)}
    leaves = near & set(of_kind(graph, "switch"))
    switches = graph.subgraph(f"switch:{name}" for name in intent.switches)
    distance = networkx.multi_source_dijkstra_path_length(switches, leaves, weight=None) if leaves else {}
    found: dict[int, list[str]] = {}
    for name in intent.switches:
        found.setdefault(int(distance.get(f"switch:{name}", 0)), []).append(name)
    return [found[depth] for depth in sorted(found)]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}
