"""Who answers a host's LACP (IEEE 802.1AX): the ToR ports at the other end of each balance-tcp bond."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from netctl.model import devices
from netctl.model.intent import Intent

BONDS_OF_A_HOST = 8
"""Numbers that each host has for its bonds."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A host's LACP bond as the fabric sees it: `ports` are (switch, its device), as the uplinks are written.

    `number` is unique in the lab, whatever other hosts have, and is the aggregation key on an MLAG pair.
    `limited`: a rate is set for one of its uplinks.
    """

    host: str
    bond: str
    number: int
    ports: tuple[tuple[str, str], ...]
    limited: bool

    @property
    def name(self) -> str:
        """The port of a switch that has all of the bond's cables."""
        return f"{self.host}.{self.bond}"

    @property
    def switches(self) -> frozenset[str]:
        """The switches that the bond is cabled to."""
        return frozenset(switch for switch, _ in self.ports)

    def on(self, switch: str) -> tuple[str, ...]:
        """The bond's devices on one switch."""
        return tuple(device for at, device in self.ports if at == switch)


def aggregates(intent: Intent) -> Iterator[Aggregate]:
    """The bonds that have a partner: all uplinks of theirs end at one switch, or at an MLAG pair's two."""
    pairs = [frozenset(pair) for pair in intent.file.fabric.mlag]
    for host in intent.hosts.values():
        bonds = [bridge for bridge in host.bridges if bridge.lacp != "off" and len(bridge.uplinks) > 1]
        for index, bridge in enumerate(bonds):
            aggregate = Aggregate(
                host.name,
                bridge.bond,
                host.number * BONDS_OF_A_HOST + index,
                tuple((host.nics[nic].switch, devices.cable(host.name, nic)) for nic in bridge.uplinks),
                any(host.nics[nic].rate is not None for nic in bridge.uplinks),
            )
            if len(aggregate.switches) == 1 or any(aggregate.switches <= pair for pair in pairs):
                yield aggregate
