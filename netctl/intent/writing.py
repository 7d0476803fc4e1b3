"""Model -> YAML: what the user wrote, with what netctl assigned pinned down."""

from __future__ import annotations

import io
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from netctl.intent.source import is_text
from netctl.model.base import Model, attributes
from netctl.model.fabric import Physical
from netctl.model.intent import Intent, LabFile
from netctl.model.vm import Nic, Vm

_WIDTH = 110

_YAML11 = yaml.resolver.Resolver()
"""What other readers, of YAML 1.1, take a plain scalar for: what they would mistake is put in quotes."""


def dump(what: LabFile | Intent) -> str:
    """The file's text. Of an intent, with every address, MAC and host that was assigned written in.

    Loading the text gives the same intent. Comments are not kept: the model does not know them.
    """
    lab = what.file if isinstance(what, Intent) else what
    data: dict[str, Any] = lab.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(what, Intent):
        _pin(data, what)
    return dump_data(data)


def dump_data(data: dict[str, Any]) -> str:
    """The text of a file of plain values."""
    text = io.StringIO()
    dumper = yaml.SafeDumper(text, width=_WIDTH, allow_unicode=True, sort_keys=False)
    dumper.open()
    dumper.serialize(_node(data, 0))
    dumper.close()
    return text.getvalue()


def _pin(data: dict[str, Any], intent: Intent) -> None:
    for vm, host in intent.placement.items():
        data["vms"][vm] = _ordered(Vm, {"host": host, **data["vms"][vm]})
    for port in intent.ports:
        nics = data["vms"][port.vm]["nics"]
        pinned = {"mac": port.mac} if port.ip is None else {"mac": port.mac, "ip": str(port.ip)}
        nics[port.index] = _ordered(Nic, {**pinned, **nics[port.index]})
    for mirror in intent.mirrors:
        nics = data["vms"][mirror.vm]["nics"]
        nics[mirror.index] = _ordered(Nic, {"mac": mirror.mac, **nics[mirror.index]})
    for gateway in intent.gateways:
        for external in data["vpcs"][gateway.vpc]["external"]:
            if external["subnet"] == gateway.subnet:
                external.setdefault("router_ip", str(gateway.router_ip))
    for name, machine in intent.machines.items():
        data["physical"][name] = _ordered(Physical, {"mac": machine.mac, **data["physical"][name]})


def _ordered(model: type[Model], values: dict[str, Any]) -> dict[str, Any]:
    return {key: values[key] for key in attributes(model) if key in values}


def _node(value: Any, depth: int) -> Node:
    """Sections and their entries a line each, the rest in braces, as people write it by hand."""
    if isinstance(value, dict):
        pairs = [(_scalar(key), _node(item, depth + 1)) for key, item in value.items()]
        return MappingNode("tag:yaml.org,2002:map", pairs, flow_style=depth > 1 or not pairs)
    if isinstance(value, list):
        items = [_node(item, depth + 1) for item in value]
        return SequenceNode("tag:yaml.org,2002:seq", items, flow_style=depth > 1 or not items)
    return _scalar(value)


def _scalar(value: Any) -> ScalarNode:
    if isinstance(value, str):
        tag = "tag:yaml.org,2002:str"
        plain = is_text(value) and _YAML11.resolve(ScalarNode, value, (True, False)) == tag  # type: ignore[no-untyped-call]
        return ScalarNode(tag, value, style=None if plain else '"')
    if isinstance(value, bool):
        return ScalarNode("tag:yaml.org,2002:bool", "true" if value else "false")
    kind = "int" if isinstance(value, int) else "float"
    return ScalarNode(f"tag:yaml.org,2002:{kind}", repr(value))
