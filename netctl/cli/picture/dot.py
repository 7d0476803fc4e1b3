"""The picture as DOT, for Graphviz."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netctl.cli.picture.network import homes, network
from netctl.cli.picture.shapes import NEUTRAL, subnet_colours

if TYPE_CHECKING:
    from netctl.cli.picture.network import Graph
    from netctl.model import Intent


def dot(intent: Intent) -> str:
    """An undirected graph, VPCs and hosts as clusters; `dot -Tsvg` lays it out."""
    graph = network(intent)
    colours = subnet_colours(intent)
    lines = [
        f"graph {_quoted(intent.name)} {{",
        f"  label={_quoted(intent.file.title or intent.name)}; labelloc=t; fontname=Helvetica;",
        "  compound=true; rankdir=TB; newrank=true; nodesep=0.4; ranksep=0.7;",
        "  node [fontname=Helvetica, fontsize=11, shape=box, style=rounded];",
        "  edge [fontname=Helvetica, fontsize=9];",
    ]
    for name in sorted(intent.file.vpcs):
        lines.append(f"  subgraph {_quoted(f'cluster_vpc_{name}')} {{")
        lines.append(f"    label={_quoted(f'VPC {name}')}; style=rounded; color={_quoted(NEUTRAL)};")
        lines.append(f"    {_quoted(f'vpc:{name}')} [label=router, shape=circle, fontsize=9];")
        for subnet, facts in sorted(intent.file.subnets.items()):
            if facts.vpc == name:
                lines.append(f"    {_subnet(graph, subnet, colours[subnet])}")
        lines.append("  }")
    for subnet, facts in sorted(intent.file.subnets.items()):
        if facts.vpc not in intent.file.vpcs:
            lines.append(f"  {_subnet(graph, subnet, colours[subnet])}")
    where = homes(intent)
    for host in intent.hosts.values():
        lines.append(f"  subgraph {_quoted(f'cluster_host_{host.name}')} {{")
        lines.append(f"    label={_quoted(f'{host.name} {host.address.ip}')}; style=rounded;")
        for vm in sorted(vm for vm, at in where.items() if at == host.name):
            lines.append(f"    {_quoted(f'vm:{vm}')} [label={_quoted(vm)}];")
        bonds = "\n".join(f"{bridge.bond} {bridge.mode}" for bridge in host.bridges)
        lines.append(
            f"    {_quoted(f'host:{host.name}')} [label={_quoted(bonds or host.name)}, style=filled];"
        )
        lines.append("  }")
    for name in intent.machines:
        lines.append(f"  {_quoted(f'machine:{name}')} [label={_quoted(name)}, shape=component];")
    for name in intent.switches:
        lines.append(
            f"  {_quoted(f'switch:{name}')} [label={_quoted(name)}, style=filled, "
            'fillcolor="#334155", fontcolor=white];'
        )
    lines += _edges(graph, colours)
    return "\n".join([*lines, "}", ""])


def _edges(graph: Graph, colours: dict[str, str]) -> list[str]:
    lines = []
    rank = {"subnet": 0, "vpc": 1, "vm": 2, "host": 3, "machine": 3, "switch": 4}
    for first, second, facts in sorted(
        graph.edges(data=True), key=lambda edge: (edge[2]["kind"], sorted(edge[:2]), edge[2].get("nic", ""))
    ):
        # Graphviz puts the first end above the second.
        a, b = sorted((first, second), key=lambda node: (rank[node.partition(":")[0]], node))
        look = {"runs": "style=dotted", "link": "penwidth=2", "external": "style=dashed"}.get(
            facts["kind"], ""
        )
        words = [look] if look else []
        if facts["kind"] == "nic":
            words.append(f"color={_quoted(colours[a.partition(':')[2]])}")
            if "ip" in facts:
                words.append(f"label={_quoted(facts['ip'])}")
        elif facts["kind"] == "cable":
            words.append(f"label={_quoted(facts['nic'])}")
        elif facts["kind"] == "external":
            words.append(f"label={_quoted('NAT' if facts['nat'] else 'no NAT')}")
        elif facts["kind"] == "link":
            words.append("constraint=false")
        lines.append(f"  {_quoted(a)} -- {_quoted(b)}" + (f" [{', '.join(words)}]" if words else "") + ";")
    return lines


def _subnet(graph: Graph, name: str, colour: str) -> str:
    facts = graph.nodes[f"subnet:{name}"]
    parts = [name, f"VLAN {facts['vlan']}" if "vlan" in facts else "", facts.get("cidr", "")]
    label = _quoted("\n".join(filter(None, parts)))
    return f"{_quoted(f'subnet:{name}')} [label={label}, shape=hexagon, color={_quoted(colour)}];"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
