"""What the words vm.* do, but for those about NICs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netctl.cli.acli import finding, nics
from netctl.cli.acli.answers import Answer, blocks, table
from netctl.cli.acli.parser import Call
from netctl.cli.acli.task import Task
from netctl.cli.operations import Edit, Running
from netctl.intent.patches import plain
from netctl.model.intent import Intent


def create(intent: Intent, call: Call) -> Task:
    """vm.create: VMs without NICs, on a host where one is said."""
    made: dict[str, Any] = {}
    placed = {"host": finding.host(intent, call, call.values["host"])} if "host" in call.values else {}
    named = {}
    for text in filter(None, call.names[0].split(",")):
        name = finding.new_name(call, "VM", text, {*intent.file.vms, *made})
        made[name] = placed
        named[text] = name
    notes = [f"{text} is called {name} here" for text, name in named.items() if text != name]
    return Task(Edit({"vms": made}), list(made), notes)


def delete(intent: Intent, call: Call) -> Task:
    """vm.delete: VMs go with their NICs."""
    names = finding.vms(intent, call, call.names[0])
    for name in names:
        if user := nics.user_of(intent, name, 0, but=names):
            raise call.wrong(f"{name} is used by {user}", "Change that first.")
    return Task(Edit({"vms": dict.fromkeys(names)}), names)


def on(intent: Intent, call: Call) -> Task:
    """vm.on: what the network sees of a VM that starts: its NICs have a link."""
    return _linked(intent, call, True)


def off(intent: Intent, call: Call) -> Task:
    """vm.off: what the network sees of a VM that is off: no NIC of it has a link."""
    return _linked(intent, call, False)


def _linked(intent: Intent, call: Call, up: bool) -> Task:
    names = finding.vms(intent, call, call.names[0])
    vms = plain(intent.file)["vms"]
    return Task(
        Edit(
            {
                "vms": {
                    name: {"nics": [nics.linked(nic, up) for nic in vms[name].get("nics", [])]}
                    for name in names
                    if vms[name].get("nics")
                }
            }
        ),
        names,
    )


def affinity_set(intent: Intent, call: Call) -> Task:
    """vm.affinity_set: the hosts that VMs may run on; one that is elsewhere moves, by starting anew."""
    names = finding.vms(intent, call, call.names[0])
    hosts = [finding.host(intent, call, text) for text in call.list("host_list")]
    changed: dict[str, Any] = {}
    for name in names:
        changed[name] = {"affinity": hosts}
        if intent.file.vms[name].host not in (None, *hosts):
            changed[name]["host"] = None
    return Task(Edit({"vms": changed}), names)


def affinity_unset(intent: Intent, call: Call) -> Task:
    """vm.affinity_unset: VMs may run on any host; they stay where they are."""
    names = finding.vms(intent, call, call.names[0])
    return Task(Edit({"vms": {name: {"affinity": None} for name in names}}), names)


def list_(running: Running, call: Call) -> Answer:
    """vm.list."""
    intent = running.intent
    rows = [(name, finding.uuid(intent, "VM", name)) for name in sorted(intent.file.vms)]
    return table(("VM name", "VM UUID"), rows)


def get(running: Running, call: Call) -> Answer:
    """vm.get."""
    intent = running.intent
    return blocks({name: _facts(intent, name) for name in finding.vms(intent, call, call.names[0])})


def _facts(intent: Intent, name: str) -> Mapping[str, Any]:
    vm, host, there = intent.file.vms[name], intent.placement[name], finding.nics(intent, name)
    return {
        "config": {
            "name": name,
            "affinity": [{"host_name": each} for each in vm.affinity],
            "categories": [f"{key}:{value}" for key, value in sorted(vm.categories.items())],
            "nic_list": [nics.facts(intent, nic) for nic in there],
        },
        "host_name": host,
        "host_uuid": finding.uuid(intent, "host", host),
        "state": "kOff" if there and not any(nic.enabled for nic in there) else "kOn",
        "uuid": finding.uuid(intent, "VM", name),
    }
