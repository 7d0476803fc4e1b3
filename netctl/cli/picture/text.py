"""The picture in a terminal: networks, hosts side by side as far as there is room, and the fabric."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from netctl.cli.picture.hosts import bond_words
from netctl.cli.picture.network import homes, is_mlag, natural, subnet_of
from netctl.cli.picture.shapes import subnet_colours

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from netctl.model import Hypervisor, Intent


def text(intent: Intent) -> Iterator[RenderableType]:
    """What to print, one after the other."""
    from rich.columns import Columns
    from rich.text import Text

    colours = subnet_colours(intent)
    title = Text(intent.name, "bold")
    if intent.file.title:
        title.append(f"  {intent.file.title}", "not bold")
    yield title
    yield Text()
    yield _networks(intent, colours)
    panels = [_host(intent, host, colours) for host in intent.hosts.values()]
    if panels:
        yield Text()
        yield Columns(panels, padding=(0, 1), equal=True)
    yield Text()
    yield _fabric(intent, colours)


def _networks(intent: Intent, colours: dict[str, str]) -> Text:
    from rich.text import Text

    lines = []
    for name, vpc in sorted(intent.file.vpcs.items()):
        inside = sorted(subnet for subnet, facts in intent.file.subnets.items() if facts.vpc == name)
        line = Text.assemble((f"VPC {name}", "bold"), "  ")
        line.append_text(Text("  ").join(_subnet(intent, subnet, colours) for subnet in inside))
        lines.append(line)
        for way in vpc.external:
            lines.append(Text(f"    → {way.subnet} ({'NAT' if way.nat else 'no NAT'})", "dim"))
    for subnet, facts in sorted(intent.file.subnets.items(), key=lambda item: (item[1].vlan or 0, item[0])):
        if facts.vpc not in intent.file.vpcs:
            kind = {"vlan": "VLAN", "vlan-basic": "VLAN basic", "external": "external VLAN"}.get(
                facts.type, "overlay"
            )
            vlan = f" {facts.vlan}" if facts.vlan is not None else ""
            lines.append(Text.assemble((f"{kind}{vlan}", "bold"), "  ", _subnet(intent, subnet, colours)))
    for name, chain in sorted(intent.file.service_chains.items()):
        lines.append(Text.assemble((f"chain {name}", "bold"), f"  {' → '.join(chain.functions)}"))
    return Text("\n").join(lines)


def _subnet(intent: Intent, name: str, colours: dict[str, str]) -> Text:
    from rich.text import Text

    cidr = intent.file.subnets[name].cidr
    return Text.assemble((f"■ {name}", colours[name]), f" {cidr}" if cidr else "")


def _host(intent: Intent, host: Hypervisor, colours: dict[str, str]) -> RenderableType:
    from rich.panel import Panel
    from rich.text import Text

    vms = sorted((vm for vm, where in homes(intent).items() if where == host.name), key=natural)
    width = max(map(len, vms), default=0)
    lines = []
    for vm in vms:
        ports = [port for port in intent.ports_by_host[host.name] if port.vm == vm]
        for number, port in enumerate(ports):
            trunk = f" trunk {','.join(map(str, port.trunked))}" if port.mode == "trunk" else ""
            name = vm if number == 0 else ""
            address = " ".join(map(str, port.addresses))
            square = ("■ ", colours[port.subnet])
            lines.append(
                Text.assemble((f"{name:{width}}", "bold"), " ", square, f"{port.subnet}{trunk} {address}")
            )
        if not ports:
            lines.append(Text(vm, "bold"))
    for bridge in host.bridges:
        lines.append(Text.assemble((f"{bridge.bridge} ", "bold"), (bond_words(bridge), "dim")))
        for nic in bridge.uplinks:
            lines.append(Text(f"  {nic} ─ {host.nics[nic].switch}", "dim"))
    title = Text.assemble((host.name, "bold"), f" {host.address.ip}")
    return Panel(Text("\n").join(lines), title=title, title_align="left", expand=False, padding=(0, 1))


def _fabric(intent: Intent, colours: dict[str, str]) -> Text:
    from rich.text import Text

    lines = [Text.assemble(("fabric", "bold"), "  ", ", ".join(intent.switches))]
    for a, b in intent.links:
        lines.append(Text(f"  {a} ═══ {b}" + ("  MLAG" if is_mlag(intent, a, b) else "")))
    if intent.rstp:
        lines.append(Text("  RSTP breaks the loops", "dim"))
    for name, machine in intent.machines.items():
        made = machine.definition
        subnet = subnet_of(intent, machine)
        where = (
            (f"■ {subnet}", colours[subnet])
            if subnet
            else (f"VLAN {made.vlan}" if made.vlan else "untagged", "")
        )
        address = f" {made.ip.ip}" if made.ip else ""
        lines.append(Text.assemble(f"  {made.switch} ─── ", (name, "bold"), "  ", where, address))
    return Text("\n").join(lines)
