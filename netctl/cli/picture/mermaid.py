"""The picture as Mermaid, which GitHub and many wikis draw inside Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netctl.cli.picture.network import homes, network, of_kind
from netctl.cli.picture.shapes import subnet_colours

if TYPE_CHECKING:
    from netctl.cli.picture.network import Graph
    from netctl.model import Intent

INDENT = "    "


def mermaid(intent: Intent) -> str:
    """A flowchart: networks on top, hosts with their VMs in the middle, switches at the bottom."""
    graph = network(intent)
    colours = subnet_colours(intent)
    where = homes(intent)
    lines = ["---", f"title: {_quoted(intent.file.title or intent.name)}", "---", "flowchart TB"]
    for vpc in of_kind(graph, "vpc"):
        lines.append(f'{INDENT}subgraph {_id(vpc)}["VPC {graph.nodes[vpc]["name"]}"]')
        for subnet in of_kind(graph, "subnet"):
            if graph.nodes[subnet].get("vpc") == graph.nodes[vpc]["name"]:
                lines.append(f"{INDENT * 2}{_subnet(graph, subnet)}")
        lines.append(f"{INDENT}end")
    for subnet in of_kind(graph, "subnet"):
        if f"vpc:{graph.nodes[subnet].get('vpc')}" not in graph:
            lines.append(f"{INDENT}{_subnet(graph, subnet)}")
    for host in of_kind(graph, "host"):
        facts = graph.nodes[host]
        lines.append(f'{INDENT}subgraph {_id(host)}["{facts["name"]}<br/><small>{facts["address"]}</small>"]')
        vms = sorted(vm for vm, home in where.items() if home == facts["name"])
        lines += [f'{INDENT * 2}{_id(f"vm:{vm}")}(["{vm}"])' for vm in vms]
        for bond, mode in facts["bonds"].items():
            lines.append(
                f'{INDENT * 2}{_id(host)}_{bond.replace("-", "_")}["{bond}<br/><small>{mode}</small>"]'
            )
        lines.append(f"{INDENT}end")
    for machine in of_kind(graph, "machine"):
        facts = graph.nodes[machine]
        address = f"<br/><small>{facts['ip']}</small>" if "ip" in facts else ""
        lines.append(f'{INDENT}{_id(machine)}[/"{facts["name"]}{address}"/]')
    lines += [
        f'{INDENT}{_id(switch)}[["{graph.nodes[switch]["name"]}"]]' for switch in of_kind(graph, "switch")
    ]
    lines += _edges(intent, graph)
    for subnet in of_kind(graph, "subnet"):
        colour = colours[graph.nodes[subnet]["name"]]
        lines.append(f"{INDENT}style {_id(subnet)} fill:{colour}22,stroke:{colour}")
    return "\n".join(lines) + "\n"


def _edges(intent: Intent, graph: Graph) -> list[str]:
    lines = []
    for a, b, facts in sorted(graph.edges(data=True), key=lambda edge: (edge[2]["kind"], *sorted(edge[:2]))):
        ends = dict(zip(map(_kind, (a, b)), (a, b), strict=True))
        if facts["kind"] == "nic" and "vm" in ends:
            label = f'|"{facts["ip"]}"|' if "ip" in facts else ""
            lines.append(f"{INDENT}{_id(ends['subnet'])} ---{label} {_id(ends['vm'])}")
        elif facts["kind"] == "external":
            label = "NAT" if facts["nat"] else "no NAT"
            lines.append(f"{INDENT}{_id(ends['vpc'])} -.->|{label}| {_id(ends['subnet'])}")
        elif facts["kind"] == "cable" and "machine" in ends:
            lines.append(f"{INDENT}{_id(ends['machine'])} ---|eth0| {_id(ends['switch'])}")
        elif facts["kind"] == "link":
            style = "===|MLAG|" if facts["mlag"] else "==="
            lines.append(f"{INDENT}{_id(min(a, b))} {style} {_id(max(a, b))}")
    for host in intent.hosts.values():
        for bridge in host.bridges:
            start = f"{_id(f'host:{host.name}')}_{bridge.bond.replace('-', '_')}"
            for nic in bridge.uplinks:
                lines.append(f"{INDENT}{start} ---|{nic}| {_id(f'switch:{host.nics[nic].switch}')}")
    return lines


def _kind(node: str) -> str:
    return node.partition(":")[0]


def _subnet(graph: Graph, node: str) -> str:
    facts = graph.nodes[node]
    parts = [f"VLAN {facts['vlan']}"] if "vlan" in facts else []
    parts += [facts["cidr"]] if "cidr" in facts else []
    detail = f"<br/><small>{' '.join(parts)}</small>" if parts else ""
    return f'{_id(node)}{{{{"{facts["name"]}{detail}"}}}}'


def _id(node: str) -> str:
    # A dash is kept apart from what joins kind and name; `end` and such are no identifiers by themselves.
    return node.replace("-", "__").replace(":", "_")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', "'") + '"'
