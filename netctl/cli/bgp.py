"""BGP as `netctl status` tells of it: what routers have learned of VPCs, and who tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netctl.cli import output

if TYPE_CHECKING:
    from dataplane.rack import Observed
    from netctl.cli.operations import Running


def gather(running: Running, observed: Observed) -> dict[str, Any]:
    """The routers with their routes, and the speakers, as data."""
    from dataplane import bgp, daemons
    from netctl.model.bgp import speakers

    inventory = running.rack.inventory

    def runs(node: str) -> bool:
        roles = daemons.roles_of(observed.running.get(node, ()))
        return all(daemon.role in roles for daemon in daemons.of(inventory.nodes[node]))

    routers = []
    for node in inventory.of_kind("machine"):
        if node.bgp is None or node.name not in observed.snapshots:
            continue
        have = bgp.learned(inventory.namespace(node.name))
        routers.append(
            {
                "name": node.name,
                "runs": runs(node.name),
                "routes": [
                    {
                        "to": str(prefix),
                        "via": str(have.get(prefix, "")) or None,
                        "stated": prefix in node.bgp.learned,
                    }
                    for prefix in sorted({*have, *node.bgp.learned})
                ],
            }
        )
    return {
        "routers": routers,
        "speakers": [
            {
                "name": speaker.name,
                "host": speaker.host,
                "vpc": speaker.way.vpc,
                "subnet": speaker.way.subnet,
                "address": str(speaker.address.ip),
                "runs": runs(speaker.name),
            }
            for speaker in speakers(running.intent)
        ],
    }


def show(report: dict[str, Any]) -> None:
    """Routers and speakers as tables."""
    if not report["routers"]:
        return
    output.heading("BGP: what routers have learned")
    output.table(
        ("router", "prefix", "next hop"),
        [
            (router["name"], route["to"], _via(route))
            for router in report["routers"]
            for route in router["routes"] or [{"to": "nothing", "via": "", "stated": True}]
        ],
    )
    if report["speakers"]:
        output.heading("BGP: who tells them")
        output.table(
            ("speaker", "for", "address", "daemons"),
            [
                (
                    s["name"],
                    f"{s['vpc']}/{s['subnet']}",
                    s["address"],
                    "running" if s["runs"] else "not running",
                )
                for s in report["speakers"]
            ],
        )


def _via(route: dict[str, Any]) -> str:
    if route["via"] is None:
        return "not learned"
    return str(route["via"]) + ("" if route["stated"] else " (not stated)")


def _runs(speaker: dict[str, Any]) -> str:
    return "running" if speaker["runs"] else "not running"
