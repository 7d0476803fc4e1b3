"""The YAML reference in Markdown, from the models' descriptions.

`python -m netctl.intent.reference > docs/reference.md` writes it; a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from netctl.intent.supported import NOT_YET
from netctl.model.base import AddressRange, Says, attributes
from netctl.model.check import Probe
from netctl.model.intent import LabFile

HEAD = """# The intent file

<!-- Made from the models by `python -m netctl.intent.reference`; do not edit here. -->

One YAML file says what a lab is: hosts, uplinks, subnets, VPCs, VMs, policies, chains, checks.
`netctl validate FILE` tells every mistake in it at once, with its line; `netctl schema` prints a JSON schema
for editors.

```yaml
name: shop
title: A shop on two hosts
hosts: {hv1: {}, hv2: {}}
vpcs: {shop: {}}
subnets:
  web: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}
  app: {type: overlay, vpc: shop, cidr: 192.168.1.0/24}
vms:
  web1: {host: hv1, nics: [{subnet: web, ip: 10.10.0.11}]}
  web2: {nics: [{subnet: web}]}
  app1: {nics: [{subnet: app}]}
checks:
  - {from: web1, to: web2, expect: delivered}
  - {from: web1, to: app1, expect: dropped}
```

- A **name** is a lower-case letter, then letters, digits and dashes, 32 at most. No two hosts, switches, VMs,
  bare machines and network functions have the same one: each becomes the network namespace LAB.NAME.
- Everything has a default but names and what an object is for. A key with nothing behind it (`hv1:`) is as if
  left out.
- What is left open (addresses, MACs, hosts of VMs) netctl decides, and then keeps: it does not depend on the
  order of the file, and adding things moves nothing.
- Scalars are YAML 1.2's: `off` is a word, a MAC address of digits is text, a leading zero is no octal number.
- Anchors, aliases and merge keys (`<<`) may be used. Unknown keys and duplicate keys are mistakes.
"""

TAIL = """## Not supported yet

This version refuses these, by name and place, when everything else in the file is right:

"""


def reference() -> str:
    """The whole page."""
    parts = [HEAD, "## The file\n", *_table(LabFile), ""]
    for key, attribute in attributes(LabFile).items():
        info = LabFile.model_fields[attribute]
        model = _model(info.annotation)
        if model is None:
            if key in ("address_groups", "service_groups"):
                parts += [
                    f"## {key}\n",
                    f"{info.description} Each is {_type(get_args(info.annotation)[1])}.\n",
                ]
            continue
        entries = {"fabric": key, "checks": "checks[]"}.get(key, f"{key}.NAME")
        parts += [f"## {key}\n", f"`{entries}`: {_first_line(model)}\n", *_table(model), ""]
        parts += _inner(model, entries, {model, Probe})
    parts.append(TAIL + "\n".join(_not_yet()))
    return "\n".join(parts) + "\n"


def _not_yet() -> Iterator[str]:
    seen: dict[str, list[str]] = {}
    for pattern, _, name in NOT_YET:
        seen.setdefault(name, []).append(f"`{_pattern_text(pattern)}`")
    for name, patterns in seen.items():
        yield f"- {name} ({', '.join(patterns)})"


def _pattern_text(pattern: str) -> str:
    """A pattern with its stars as users read them: vms.NAME.nics[].rate."""
    text = ""
    annotation: Any = LabFile
    for step in pattern.split("."):
        if step == "*":
            parts = [part for part in _parts(annotation) if get_origin(part) in (list, dict)]
            text += "[]" if get_origin(parts[0]) is list else ".NAME"
            annotation = get_args(parts[0])[-1]
            continue
        text += f".{step}" if text else step
        models = [
            part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, BaseModel)
        ]
        annotation = models[0].model_fields[attributes(models[0])[step]].annotation
    return text


def _inner(model: type[BaseModel], where: str, seen: set[type[BaseModel]]) -> Iterator[str]:
    """Tables of what the fields of a model hold, each once."""
    for key, attribute in attributes(model).items():
        inner = _model(model.model_fields[attribute].annotation)
        if inner is None or inner in seen or inner is AddressRange:
            continue
        seen.add(inner)
        here = f"{where}.{key}{_suffix(model.model_fields[attribute].annotation)}"
        if not inner.model_fields:
            continue
        yield f"### {here}\n"
        yield f"{_first_line(inner)}\n"
        yield from _table(inner)
        yield ""
        yield from _inner(inner, here, seen)


def _suffix(annotation: Any) -> str:
    for part in _parts(annotation):
        if get_origin(part) is list:
            return "[]"
        if get_origin(part) is dict:
            return ".NAME"
    return ""


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().split("\n")[0]


def _table(model: type[BaseModel]) -> Iterator[str]:
    yield "| key | value | default | |"
    yield "| --- | --- | --- | --- |"
    for key, attribute in attributes(model).items():
        info = model.model_fields[attribute]
        what = _type(info.annotation, info.metadata)
        about = (info.description or "").replace("|", "\\|")
        yield f"| `{key}` | {what} | {_default(info)} | {about} |"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**needed**"
    value = info.default if info.default_factory is None else info.get_default(call_default_factory=True)
    if value is None or value == [] or value == {} or value == "" or isinstance(value, BaseModel):
        return ""
    if value is PydanticUndefined:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _parts(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _parts(get_args(annotation)[0])
    elif origin in (list, dict, Literal) or origin is None:
        yield annotation
    else:
        for part in get_args(annotation):
            yield from _parts(part)


def _model(annotation: Any) -> type[BaseModel] | None:
    for part in _parts(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
        if get_origin(part) in (list, dict):
            found = _model(get_args(part)[-1])
            if found:
                return found
    return None


def _type(annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> str:
    """A type in users' words."""
    for item in metadata:
        if isinstance(item, Says):
            return item.text
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type(get_args(annotation)[0], get_args(annotation)[1:])
    if origin is Literal:
        return " \\| ".join(f"`{word}`" for word in get_args(annotation))
    if origin is list:
        inner = _type(get_args(annotation)[0])
        return f"a list of {_plural(inner)}"
    if origin is dict:
        key, value = get_args(annotation)
        inner = _type(value)
        named = _type(key)
        return f"{named} to {inner}" if inner not in ("", "a mapping") else f"by {named.split(' ', 1)[-1]}"
    if origin is not None:
        kinds = [_type(part) for part in get_args(annotation) if part is not NoneType]
        return ", or ".join(dict.fromkeys(kinds))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a mapping"
    return {str: "text", int: "a number", float: "a number", bool: "true or false"}.get(annotation, "a value")


def _plural(text: str) -> str:
    article, _, rest = text.partition(" ")
    if article not in ("a", "an"):
        return {"text": "words"}.get(text, text)
    head, comma, tail = rest.partition(",")
    first, of, more = head.partition(" of ")
    words = f"{first}es" if first.endswith(("ss", "ch")) else f"{first}s"
    return f"{words}{of}{more}{comma}{tail}"


if __name__ == "__main__":
    sys.stdout.write(reference())
