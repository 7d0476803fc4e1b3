"""Security policies (microsegmentation): who may talk to whom, by category."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Tag

from netctl.model.base import (
    WORD_OR_LIST,
    WORD_OR_MAP,
    AnyNetwork,
    Flag,
    Model,
    Name,
    Says,
    mistake,
    show,
)

COMBINATIONS = ("all", "any", "not")


def _selector(value: Any, at: tuple[str | int, ...] = ()) -> Any:
    if not isinstance(value, dict) or not value:
        raise mistake(f"{show(value)} is not a selector of categories", "write it such as {Tier: web}", at)
    for key, part in value.items():
        here = (*at, key)
        if key == "not":
            _selector(part, here)
        elif key in COMBINATIONS:
            if not isinstance(part, list) or not part:
                raise mistake(
                    f"`{key}` takes a list of selectors", f"write {key}: [{{Tier: web}}, {{Tier: app}}]", here
                )
            for index, inner in enumerate(part):
                _selector(inner, (*here, index))
        elif isinstance(part, list):
            for index, inner in enumerate(part):
                _category_value(inner, (*here, index))
        else:
            _category_value(part, here)
    return value


def _category_value(value: Any, at: tuple[str | int, ...]) -> None:
    if not isinstance(value, str) or not value:
        quoted = f'in quotes: "{show(value)}"' if isinstance(value, int | float) else "such as web"
        raise mistake(f"{show(value)} is not a category's value", f"write a word, {quoted}", at)


Selector = Annotated[
    dict[str, Any],
    BeforeValidator(_selector, json_schema_input_type=dict[str, Any]),
    Says("a selector of categories"),
]
"""Categories that a VM must all have (a list of values: any of them), or `all:`, `any:`, `not:` of
selectors."""


def selects(selector: Mapping[str, Any], categories: Mapping[str, str]) -> bool:
    """Whether somebody with these categories is selected: by all keys at once."""
    for key, wanted in selector.items():
        if key == "all":
            fits = all(selects(part, categories) for part in wanted)
        elif key == "any":
            fits = any(selects(part, categories) for part in wanted)
        elif key == "not":
            fits = not selects(wanted, categories)
        elif isinstance(wanted, list):
            fits = categories.get(key) in wanted
        else:
            fits = categories.get(key) == wanted
        if not fits:
            return False
    return True


def selector_text(selector: Mapping[str, Any]) -> str:
    """A selector in words, such as `Tier=web`: the same for the same selector, whatever the order."""
    return (
        json.dumps(_sorted(selector), sort_keys=True, separators=(",", ":"))
        if _deep(selector)
        else (" ".join(f"{key}={value}" for key, value in sorted(selector.items())))
    )


def _deep(selector: Mapping[str, Any]) -> bool:
    """Whether plain words would not do."""
    return any(
        not isinstance(value, str) or not f"{key}{value}".isprintable() or set(" =") & set(f"{key}{value}")
        for key, value in selector.items()
    )


def _sorted(value: Any) -> Any:
    """A selector with its lists, whose order means nothing, in order."""
    if isinstance(value, Mapping):
        return {key: _sorted(part) for key, part in value.items()}
    if isinstance(value, list):
        return sorted((_sorted(part) for part in value), key=lambda part: json.dumps(part, sort_keys=True))
    return value


class Chooser:
    """Says who is selected, of many at once: `selects` for all of them, but by an index."""

    def __init__(self, categories: Sequence[Mapping[str, str]]) -> None:
        self._everybody = frozenset(range(len(categories)))
        found: dict[tuple[str, str], set[int]] = {}
        for number, have in enumerate(categories):
            for category in have.items():
                found.setdefault(category, set()).add(number)
        self._by_category = {category: frozenset(members) for category, members in found.items()}

    def select(self, selector: Mapping[str, Any]) -> frozenset[int]:
        """Those that are selected, by their places in what it was made with."""
        found = self._everybody
        for key, wanted in selector.items():
            if key == "all":
                found = found.intersection(*(self.select(part) for part in wanted))
            elif key == "any":
                found &= frozenset[int]().union(*(self.select(part) for part in wanted))
            elif key == "not":
                found -= self.select(wanted)
            elif isinstance(wanted, list):
                found &= frozenset[int]().union(*(self._with(key, value) for value in wanted))
            else:
                found &= self._with(key, wanted)
        return found

    def _with(self, key: str, value: str) -> frozenset[int]:
        return self._by_category.get((key, value), frozenset())


Service = Annotated[str, Says("a service, or a service group")]
"""`tcp/80`, `udp/5000-5010`, `icmp`, `icmp/8`, a bare protocol, or a service group."""

Peer = Annotated[
    Annotated[Selector, Tag("<map>")] | Annotated[str, Tag("<word>")],
    WORD_OR_MAP,
    Says("a selector of categories, a group, a subnet, a VPC, a network, or any"),
]
"""A category selector, an address group, a subnet, a VPC, a CIDR, or `any`."""


class InboundRule(Model):
    """What may come in."""

    from_: Peer = Field("any", alias="from", description="Who may send.")
    services: list[Service] = Field(default_factory=list, description="Default: every service.")
    action: Literal["allow", "reject"] = Field("allow", description="`reject`: refuse with an answer.")
    chain: Name | None = Field(None, description="A service chain for what this allows.")


class OutboundRule(Model):
    """What may go out."""

    to: Peer = Field("any", description="Who may be sent to.")
    services: list[Service] = Field(default_factory=list, description="Default: every service.")
    action: Literal["allow", "reject"] = Field("allow", description="`reject`: refuse with an answer.")
    chain: Name | None = Field(None, description="A service chain for what this allows.")


class IntraServices(Model):
    """Services between VMs of the secured group."""

    services: list[Service] = Field(min_length=1, description="What is allowed.")


IntraGroup = Annotated[
    Annotated[Literal["allow", "deny"], Tag("<word>")] | Annotated[IntraServices, Tag("<map>")], WORD_OR_MAP
]
"""`allow`, `deny`, or the services that are allowed."""

Scope = Annotated[
    Annotated[Literal["all", "vlan"], Tag("<word>")] | Annotated[list[Name], Tag("<list>")], WORD_OR_LIST
]
"""`all`, `vlan`, or a list of VPCs."""


class Policy(Model):
    """A security policy; quarantine is evaluated first, then isolation, then application."""

    type: Literal["application", "isolation", "quarantine", "shared-service"] = Field(
        description="What it is for, and so when it is evaluated."
    )
    mode: Literal["enforce", "monitor", "save"] = Field(
        "enforce", description="`monitor` counts and logs, and blocks nothing; `save` keeps it, not applied."
    )
    scope: Scope = Field("all", description="Where: `all`, `vlan` (no VPC), or a list of VPCs.")
    secured: Selector | None = Field(None, description="The VMs with all of these categories.")
    between: list[Selector] | None = Field(None, description="The two sides of an isolation policy.")
    inbound: list[InboundRule] | None = Field(None, description="Left out: not restricted.")
    outbound: list[OutboundRule] | None = Field(None, description="Left out: not restricted.")
    intra_group: IntraGroup = Field("deny", description="Between VMs of the secured group.")
    hit_log: Flag = Field(False, description="Log what it decides.")
    chain: Name | None = Field(None, description="A service chain for all that it allows.")

    @property
    def punts(self) -> bool:
        """Whether it needs somebody beside the switch: to log, or to answer what it rejects."""
        rules = (*(self.inbound or ()), *(self.outbound or ()))
        told = self.hit_log or self.mode == "monitor" or any(rule.action == "reject" for rule in rules)
        return told and self.mode != "save"


AddressGroup = list[AnyNetwork]
"""Networks under one name."""

ServiceGroup = list[Annotated[str, Says("a service, such as tcp/443")]]
"""Services under one name."""
