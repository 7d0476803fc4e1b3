"""Network functions and the service chains that string them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from netctl.model.base import AllOrNames, Model, Name
from netctl.model.policy import Service


class FirewallRule(Model):
    """A rule of the `firewall` program; the first that matches decides."""

    deny: Service | None = Field(None, description="What to drop.")
    allow: Service | None = Field(None, description="What to let pass.")


class NetworkFunction(Model):
    """A packet processor: inline, or a tap that gets a copy."""

    mode: Literal["inline", "tap"] = Field(description="`inline`: packets pass it; `tap`: it gets a copy.")
    hosts: AllOrNames = Field("all", description="One instance on each.")
    kind: Literal["namespace", "qemu"] = Field("namespace", description="`qemu`: a real VM.")
    image: Name | None = Field(None, description="The image of a qemu function, from vm-images/.")
    program: str = Field("bridge", description="bridge, firewall, capture, ids, delay, or a command.")
    rules: list[FirewallRule] = Field(
        default_factory=list, description="Of the program firewall; the first that matches decides."
    )


class ServiceChain(Model):
    """Functions in order; the reverse direction passes them in reverse."""

    functions: list[Name] = Field(
        min_length=1, max_length=8, description="One to eight network functions, in the order of the way out."
    )
    on_failure: Literal["close", "open"] = Field(
        "close", description="A function is dead: `close` drops, `open` goes around it."
    )
