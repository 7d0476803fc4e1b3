"""What the words host.* do."""

from __future__ import annotations

from typing import Any

from netctl.cli.acli import finding
from netctl.cli.acli.answers import Answer, blocks, table
from netctl.cli.acli.parser import Call
from netctl.cli.operations import Running

NORMAL, DISCONNECTED = "AcropolisNormal", "Disconnected"
"""A host whose daemons all run, and one where one does not."""


def list_(running: Running, call: Call) -> Answer:
    """host.list: of aCLI's columns those that a lab can fill."""
    intent, states = running.intent, _states(running)
    rows = []
    for name, host in intent.hosts.items():
        connected = states[name] == NORMAL
        rows.append((host.address.ip, name, finding.uuid(intent, "host", name), states[name], connected))
    return table(("Hypervisor IP", "Hypervisor DNS Name", "Host UUID", "Node state", "Connected"), rows)


def get(running: Running, call: Call) -> Answer:
    """host.get."""
    intent = running.intent
    name = finding.host(intent, call, call.names[0])
    host = intent.hosts[name]
    about: dict[str, Any] = {
        "cluster_name": host.cluster,
        "hypervisor_address": str(host.address.ip),
        "hypervisor_name": name,
        "node_state": _states(running)[name],
        "uplink": [{"name": nic, "switch": it.switch, "rate": it.rate} for nic, it in host.nics.items()],
        "uuid": finding.uuid(intent, "host", name),
        "vm": sorted(vm for vm, where in intent.placement.items() if where == name),
    }
    return blocks({name: about})


def list_vms(running: Running, call: Call) -> Answer:
    """host.list_vms."""
    intent = running.intent
    name = finding.host(intent, call, call.names[0])
    there = sorted(vm for vm, where in intent.placement.items() if where == name)
    return table(("VM name", "VM UUID"), [(vm, finding.uuid(intent, "VM", vm)) for vm in there])


def _states(running: Running) -> dict[str, str]:
    from dataplane import daemons

    wanted = {daemon.role for daemon in daemons.ALL["host"]}
    alive = running.rack.observe(running.intent.hosts).running
    return {
        name: NORMAL if wanted <= daemons.roles_of(alive.get(name, ())) else DISCONNECTED
        for name in running.intent.hosts
    }
