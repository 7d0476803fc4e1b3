"""Network functions and the service chains that string them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from netctl.model.base import AllOrNames, Model, Name


class FirewallRule(Model):
    """A rule of the `firewall` program; the first that matches decides."""

    deny: str | None = None
    allow: str | None = None


class NetworkFunction(Model):
    """A packet processor: inline, or a tap that gets a copy."""

    mode: Literal["inline", "tap"]
    hosts: AllOrNames = Field("all", description="One instance on each.")
    kind: Literal["namespace", "qemu"] = "namespace"
    image: Name | None = None
    program: str = Field("bridge", description="bridge, firewall, capture, ids, delay, or a command.")
    rules: list[FirewallRule] = Field(default_factory=list)


class ServiceChain(Model):
    """Functions in order; the reverse direction passes them in reverse."""

    functions: list[Name] = Field(min_length=1, max_length=8)
    on_failure: Literal["close", "open"] = "close"
