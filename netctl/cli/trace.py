"""Command that says why a packet goes where it goes: trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from netctl.cli import output
from netctl.cli.options import PROOF_PANEL, Json, Lab, complete_node
from netctl.errors import InputError

if TYPE_CHECKING:
    from dataplane.trace import Story
    from netctl.cli.operations import Running
    from netctl.model import Intent
    from netctl.model.check import Probe

DHCP_SERVER, DHCP_CLIENT = 67, 68
"""UDP ports (RFC 2131, 4.1): who asks the one uses the other."""

MOST_LINES = 6
"""How many lines of a trace stand under a failed check."""

Word = Literal["icmp", "icmp6", "tcp", "udp", "arp"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PROOF_PANEL)(trace)


def trace(
    source: Annotated[
        str,
        typer.Argument(metavar="A", autocompletion=complete_node, help="Who sends: a VM, NIC or machine."),
    ],
    target: Annotated[
        str, typer.Argument(metavar="B", autocompletion=complete_node, help="A VM, NIC, machine or address.")
    ],
    protocol: Annotated[
        str | None, typer.Option("--protocol", metavar="P", help="icmp, icmp6, tcp, udp or arp.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", min=1, max=65535, help="Where to, for tcp and udp.")
    ] = None,
    vlan: Annotated[
        int | None, typer.Option("--vlan", metavar="N", min=1, max=4094, help="Send it tagged.")
    ] = None,
    lab: Lab = None,
    json: Json = False,
) -> None:
    """Say why a packet from A to B goes where it goes: the verdict first, then switch by switch.

    Asks OVN and every Open vSwitch on the way what they would do; nothing is sent and nothing changes.
    """
    from netctl.cli.inside import locate

    word = _protocol(protocol, port)
    running, (source, target) = locate(lab, source, target)
    story = follow(running, source, target, word, port or 0, vlan)
    if json:
        output.emit(
            {
                "lab": running.name,
                "from": source,
                "to": target,
                "verdict": story.verdict,
                "delivered": story.delivered,
                "also": list(story.also),
                "stages": [
                    {
                        "node": stage.node,
                        "what": stage.what,
                        "why": [_named(running.intent, why) for why in stage.why],
                    }
                    for stage in story.stages
                ],
            }
        )
        return
    output.say(story.verdict, style="bold green" if story.delivered else "bold red")
    if story.also:
        output.say(f"copies reach {', '.join(story.also)}: a switch floods", style="yellow")
    width = max((len(stage.node) for stage in story.stages), default=0)
    for number, stage in enumerate(story.stages, 1):
        output.say(f"{number:>3}  {stage.node:<{width}}  {stage.what}")
        for why in stage.why:
            output.say(f"{'':>5}{'':<{width}}  {_named(running.intent, why)}", style="dim")


def explain(running: Running, probe: Probe) -> list[str]:
    """Why a probe's packet goes where it goes, for failed checks: the verdict, what decided, the last stages.

    Never raises for what a broken lab can do; what cannot be asked is a line.
    """
    if probe.from_ is None or probe.to is None:
        return []
    try:
        story = follow(running, probe.from_, probe.to, probe.protocol, probe.port or 0, probe.vlan)
    except Exception as error:  # a diagnosis must not hide the failure that it is about
        return [f"it cannot be traced: {error}"]
    lines = [story.verdict]
    lines += [_named(running.intent, why) for why in story.whys[-2:]]
    left = MOST_LINES - len(lines)
    lines += [f"{stage.node}: {stage.what}" for stage in story.stages[-left:]]
    return lines


def follow(running: Running, source: str, target: str, protocol: Word, port: int, vlan: int | None) -> Story:
    """The story of one packet. InputError for nodes that are not there or cannot send so."""
    from dataclasses import replace

    from dataplane.checks import places
    from dataplane.trace import Stage, Story, walk
    from dataplane.trace.packet import Packet

    intent = running.intent
    known = places.places(intent)
    sender = places.source(intent, known, source)
    there = places.target(intent, known, sender, target, protocol)
    version = there.address.version
    own = sender.address(version)
    if own is None:
        raise InputError(
            f"{sender.name} has no IPv{version} address to send from", "Trace from a NIC that has one."
        )
    if protocol == "icmp" and version == 6:
        protocol = "icmp6"
    hop = _next_hop(intent, known, sender, there, protocol)
    if hop is None:
        verdict = f"dropped at {sender.node}: nobody in its subnet has the address {there.address}"
        by = "ARP" if version == 4 else "neighbour discovery"
        return Story(verdict, False, (Stage(sender.node, f"{sender.name} asks by {by}, and gets no answer"),))
    packet = Packet(
        sender.mac.hex(":"),
        hop,
        str(own),
        str(there.address),
        protocol,
        port,
        vlans=(vlan,) if vlan else (),
    )
    if protocol == "udp" and port == DHCP_SERVER:
        packet = replace(packet, source_port=DHCP_CLIENT)
    return walk(
        intent, running.rack.inventory, running.rack.runner, known, sender, there.servers, there.label, packet
    )


def _next_hop(intent: Intent, known: Any, sender: Any, there: Any, protocol: Word) -> str | None:
    """The MAC address to which the sender's stack sends: the receiver's, or its gateway's; None: nobody's."""
    from dataplane.trace.packet import BROADCAST
    from netctl.compile.routers import router_mac
    from netctl.model import addressing

    if protocol == "arp":
        return BROADCAST
    version = there.address.version
    network, gateway = sender.prefix(version), sender.router(version)
    local = network is not None and there.address in network
    if not local and gateway is None:
        # A guest would not even send it; as one that means harm would: straight to the receiver.
        local = True
    address = there.address if local else gateway
    near = [place for place in known.values() if place.segment == sender.segment]
    owner = next((place for place in near if place.address(version) == address), None)
    if owner is None and local:
        owner = next(iter(there.servers), None)
    if owner is not None:
        return str(owner.mac.hex(":"))
    for subnet in addressing.subnets_of(intent, intent.hosts[sender.host]) if local and sender.host else ():
        if (
            subnet.server is not None
            and subnet.server.ip == address
            and sender.name in {port.name for port in subnet.ports}
        ):
            return subnet.mac
    inside = [subnet for subnet in intent.file.subnets.values() if subnet.vpc is not None]
    routed = [subnet for subnet in inside if address in (subnet.router, subnet.router6)]
    if routed:
        return router_mac(routed[0].router or routed[0].router6)
    return None if local else router_mac(address)


def _protocol(word: str | None, port: int | None) -> Word:
    known: tuple[Word, ...] = ("icmp", "icmp6", "tcp", "udp", "arp")
    chosen = word or ("tcp" if port else "icmp")
    for each in known:
        if chosen == each:
            if each in ("tcp", "udp") and port is None:
                raise InputError(f"netctl trace: {each} needs a port", "Write --port 80.")
            if each not in ("tcp", "udp") and port is not None:
                raise InputError(
                    f"netctl trace: {each} has no ports", "Leave --port out, or write --protocol tcp."
                )
            return each
    raise InputError(f"netctl trace: there is no protocol {chosen}", f"Write one of {', '.join(known)}.")


_SECTIONS = {
    "vm": "vms",
    "subnet": "subnets",
    "vpc": "vpcs",
    "policy": "policies",
    "host": "hosts",
    "physical": "physical",
}


def _named(intent: Intent, why: str) -> str:
    """A thing of the intent with the line where the file speaks of it: `policy app inbound 0 (line 23)`."""
    kind, *rest = why.split()
    section = _SECTIONS.get(kind)
    if section is None or not rest or intent.locate is None:
        return why
    path = [int(word) if word.isdigit() else word for word in rest]
    line, _ = intent.locate(section, *path)
    return f"{why} (line {line})"
