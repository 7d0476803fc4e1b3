"""The databases that netctl reads, writes and waits for: OVN's two, and Open vSwitch's on every node."""

from netctl.drivers.databases import Databases
from netctl.drivers.readiness import (
    Expected,
    gateway_nodes,
    hear_from_all,
    remove_stale_chassis,
    unready_ports,
    wait_for_failover,
    wait_for_neighbours,
    wait_until_ready,
)

__all__ = [
    "Databases",
    "Expected",
    "gateway_nodes",
    "hear_from_all",
    "remove_stale_chassis",
    "unready_ports",
    "wait_for_failover",
    "wait_for_neighbours",
    "wait_until_ready",
]
