"""What a lab is doing now: hosts, daemons, bonds, subnets, VMs. Gathered here, shown by `netctl status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from netctl.cli import bgp, functions, output, vpcs
from netctl.cli.bond import describe
from netctl.cli.bond import state as bond_state
from netctl.cli.options import LAB_PANEL, Json, LabArgument

if TYPE_CHECKING:
    from netctl.cli.operations import Running
    from netctl.model import Intent
    from netctl.model.intent import Port


MOST_EVENTS = 10
"""How many failovers are told."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=LAB_PANEL)(status)


def status(lab: LabArgument = None, json: Json = False) -> None:
    """Show hosts, daemons, bonds and their active uplink, subnets, VMs, addresses and bound ports."""
    from netctl.cli import operations

    report = gather(operations.locate(lab))
    if json:
        output.emit(report)
    else:
        show(report)


def gather(running: Running) -> dict[str, Any]:
    """The state of a lab as data. What cannot be read is said in `trouble`, and is no error."""
    from dataplane import daemons, dnsmasq
    from dataplane.bonds import bond
    from dataplane.events import failovers
    from netctl import reconcile
    from netctl.cli import operations

    intent, rack = running.intent, running.rack
    observed = rack.observe()
    reachable = rack.reachable()
    unbound = reconcile.unbound(intent, reachable, silent=rack.silent)
    wrong = reconcile.misprogrammed(operations.desired(running), reachable)
    faults = list(running.record.faults)
    trouble = [str(change) for change in rack.difference(observed)]

    def basic(port: Port) -> bool:
        return intent.file.subnets[port.subnet].type == "vlan-basic"

    def alive(node: str) -> dict[str, bool]:
        roles = daemons.roles_of(observed.running.get(node, ()))
        found = {daemon.role: daemon.role in roles for daemon in daemons.of(rack.inventory.nodes[node])}
        cvm = rack.inventory.nodes.get(f"{node}.cvm")
        if cvm is not None:
            roles = daemons.roles_of(observed.running.get(cvm.name, ()))
            found |= {server: server in roles for server in map(dnsmasq.role, cvm.servers)}
        return found

    hosts = []
    for host in intent.hosts.values():
        bonds = []
        for bridge in host.bridges:
            state = bond(rack.runner, host.name, bridge.bond) if len(bridge.uplinks) > 1 else None
            bonds.append(
                {
                    "bridge": bridge.bridge,
                    "bond": bridge.bond,
                    **bond_state(state, bridge),
                    "members": state.members if state else dict.fromkeys(bridge.uplinks),
                    "active": state.active if state else None,
                }
            )
        hosts.append(
            {
                "name": host.name,
                "cluster": host.cluster,
                "address": str(host.address),
                "daemons": alive(host.name),
                "bonds": bonds,
            }
        )
    subnets = [
        {
            "name": name,
            "type": subnet.type,
            "vlan": subnet.vlan,
            "vpc": subnet.vpc,
            "cidr": str(subnet.cidr) if subnet.cidr else None,
            "cidr6": str(subnet.cidr6) if subnet.cidr6 else None,
            "gateway": _gateway(intent, name),
            "dhcp_server": str(subnet.dhcp_address) if subnet.answers_dhcp else None,
            "nics": sum(port.subnet == name for port in intent.ports),
        }
        for name, subnet in sorted(intent.file.subnets.items())
    ]
    seen = _seen(running)
    nics = [
        {
            "vm": port.vm,
            "nic": port.index,
            "host": port.host,
            "subnet": port.subnet,
            "ip": str(port.ip) if port.ip else None,
            "ip6": str(port.ip6) if port.ip6 else None,
            "mac": port.mac,
            "tap": port.tap,
            "link": "up" if port.enabled else "down",
            "bound": port.enabled and port.name not in unbound and not (port.host in wrong and basic(port)),
            "seen": seen.get(port.name, []),
        }
        for port in intent.ports
    ]
    nics += [
        {
            "vm": mirror.vm,
            "nic": mirror.index,
            "host": mirror.host,
            "subnet": None,
            "ip": None,
            "ip6": None,
            "mac": mirror.mac,
            "tap": mirror.tap,
            "link": "up" if mirror.enabled else "down",
            "bound": mirror.enabled,
            "mirrors": mirror.source,
        }
        for mirror in intent.mirrors
    ]
    return {
        "lab": running.name,
        "title": intent.file.title,
        "state": "degraded" if trouble or unbound or wrong or faults else running.record.state,
        "file": running.record.file,
        "engine": {
            "name": rack.runner.engine.name,
            "ovn": rack.runner.engine.ovn_version,
            "ovs": rack.runner.engine.ovs_version,
        },
        "central": alive("_central"),
        "hosts": hosts,
        "switches": [{"name": name, "daemons": alive(name)} for name in intent.switches],
        "subnets": subnets,
        "vpcs": vpcs.gather(running),
        "nics": nics,
        "functions": functions.gather(running, faults),
        "machines": [
            {"name": name, "switch": machine.definition.switch, "vlan": machine.definition.vlan}
            | {"ip": str(machine.definition.ip) if machine.definition.ip else None}
            | {"kind": machine.definition.kind}
            for name, machine in intent.machines.items()
        ],
        "bgp": bgp.gather(running, observed),
        "faults": faults,
        "events": [
            {"time": event.time, "host": event.host, "what": event.what}
            for event in failovers(rack.runner, intent.hosts, MOST_EVENTS)
        ],
        "trouble": trouble + [reason for found in (wrong, unbound) for _, reason in sorted(found.items())],
    }


def _seen(running: Running) -> dict[str, list[str]]:
    """The addresses that VLAN basic NICs use, by vm/index: what their CVM has learned from ARP."""
    from netctl.model import addressing

    learned = running.rack.seen_addresses()
    found = {}
    for host in running.intent.hosts.values():
        by_device = learned.get(f"{host.name}.cvm", {})
        for subnet in addressing.subnets_of(running.intent, host):
            device = addressing.tunnel_end(subnet.bridge, "arp", subnet.vlan)
            for port in subnet.ports:
                found[port.name] = [str(each) for each in sorted(by_device.get((device, port.mac), ()))]
    return found


def _gateway(intent: Intent, subnet: str) -> str | None:
    """The gateway as NICs have it, so that a default is shown too; as the file says, where there are none."""
    found = [port.gateway for port in intent.ports if port.subnet == subnet and port.gateway]
    gateway = found[0] if found else intent.file.subnets[subnet].gateway
    return str(gateway) if gateway else None


def show(report: dict[str, Any]) -> None:
    """The state of a lab as tables."""
    title = f": {report['title']}" if report["title"] else ""
    engine = report["engine"]
    output.say(f"{report['lab']}{title}", style="bold")
    output.say(
        f"{report['state']}, from {report['file']}; "
        f"OVN {engine['ovn']}, OVS {engine['ovs']} ({engine['name']})"
    )
    output.heading("hosts and switches")
    rows = [("OVN central", "", _daemons(report["central"]), "")]
    for host in report["hosts"]:
        bonds = ", ".join(_bond(bond) for bond in host["bonds"])
        rows.append((host["name"], host["address"].partition("/")[0], _daemons(host["daemons"]), bonds))
    rows += [(switch["name"], "", _daemons(switch["daemons"]), "") for switch in report["switches"]]
    output.table(("node", "address", "daemons", "uplinks"), rows, fold="daemons")
    if report["subnets"]:
        output.heading("subnets")
        output.table(
            ("subnet", "type", "VLAN or VPC", "addresses", "gateway", "NICs"),
            [
                (s["name"], s["type"], s["vpc"] or s["vlan"], _networks(s), s["gateway"], s["nics"])
                for s in report["subnets"]
            ],
        )
    vpcs.show(report["vpcs"])
    if report["nics"]:
        output.heading("VMs")
        six = any(nic["ip6"] for nic in report["nics"])
        output.table(
            ("NIC", "host", "subnet", "address", *(["IPv6 address"] if six else []), "MAC", "port"),
            [
                (
                    f"{n['vm']}/{n['nic']}",
                    n["host"],
                    n["subnet"],
                    n["ip"] or (f"seen: {', '.join(n['seen'])}" if n.get("seen") else None),
                    *([n["ip6"]] if six else []),
                    n["mac"],
                    _bound(n),
                )
                for n in sorted(report["nics"], key=lambda n: (n["vm"], n["nic"]))
            ],
        )
    functions.show(report["functions"])
    if report["machines"]:
        output.heading("bare machines")
        output.table(
            ("machine", "switch", "VLAN", "address"),
            [(m["name"], m["switch"], m["vlan"], m["ip"]) for m in report["machines"]],
        )
    bgp.show(report["bgp"])
    if report["events"]:
        output.heading("the last failovers (UTC)")
        for event in report["events"]:
            output.say(f"  {event['time'].replace('T', ' ').rstrip('Z')}  {event['host']}  {event['what']}")
    if report["faults"]:
        output.heading("broken on purpose")
        for line in report["faults"]:
            output.say(f"  {line}", style="yellow")
        output.say("`netctl heal all` mends it")
    if report["trouble"]:
        output.heading("trouble")
        for line in report["trouble"]:
            output.say(f"  {line}", style="red")
        output.say(f"`netctl apply {report['file']}` mends it")


def _networks(subnet: dict[str, Any]) -> str:
    return ", ".join(network for network in (subnet["cidr"], subnet["cidr6"]) if network)


def _daemons(daemons: dict[str, bool]) -> str:
    dead = [role for role, runs in daemons.items() if not runs]
    return f"not running: {', '.join(dead)}" if dead else "all running"


def _bond(bond: dict[str, Any]) -> str:
    members = []
    for name, enabled in bond["members"].items():
        mark = "*" if name == bond["active"] else ("" if enabled is not False else " down")
        members.append(f"{name}{mark}")
    return f"{bond['bond']} {describe(bond)} ({' '.join(members)})"


def _bound(nic: dict[str, Any]) -> str:
    state = "bound" if nic["bound"] else ("link down" if nic["link"] == "down" else "not bound")
    if "mirrors" in nic and nic["bound"]:
        state = f"gets copies of {nic['mirrors']}"
    return f"{nic['tap']} {state}"
