"""BGP in a lab: FRR's daemons of routers and speakers, their configuration, and what routers have learned.

Each node has its own sockets and files in its run directory. A router runs zebra, which keeps the kernel's
table, and bgpd, which takes calls of speakers on its network. A speaker has a bgpd without zebra, which only
tells; `bgp_feed.py` says what.
"""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from pyroute2 import IPRoute

from dataplane import netns, stack, store
from dataplane.inventory import Bgp, Node
from netctl.errors import MachineError
from netctl.model.bgp import GATEWAYS_AS, ROUTERS_AS

PROGRAMS = Path("/usr/lib/frr")
"""Where FRR's packages put its daemons."""

OWNER = "frr"
"""The user that FRR's daemons become."""

KEEPALIVE, HOLD = 1, 4
"""Seconds between signs of life, and without any until a neighbour counts as dead and its routes go."""

LIMIT = 20.0
"""Seconds within which routers must have learned what they are to know."""

_RTPROT_BGP = 186

_COMMON = f"""\
 bgp router-id {{identifier}}
 no bgp ebgp-requires-policy
 bgp route-map delay-timer 1
 timers bgp {KEEPALIVE} {HOLD}
"""


def configuration(node: Node, bgp: Bgp) -> str:
    """The configuration file of a node's bgpd."""
    common = _COMMON.format(identifier=bgp.identifier)
    if bgp.feeds is None:
        return (
            f"hostname {node.name}\nrouter bgp {ROUTERS_AS}\n{common}"
            f" neighbor gateways peer-group\n neighbor gateways remote-as {GATEWAYS_AS}\n"
            f" bgp listen limit 5000\n bgp listen range {bgp.listens} peer-group gateways\n"
        )
    # The comment has whoever announces something else now start anew.
    return (
        f"! {' '.join(bgp.feeds)}\nhostname {node.name}\nroute-map announce permit 10\n"
        f"router bgp {GATEWAYS_AS}\n{common} no bgp network import-check\n"
        f" neighbor routers peer-group\n neighbor routers remote-as {ROUTERS_AS}\n"
        " neighbor routers timers connect 1\n address-family ipv4 unicast\n"
        "  neighbor routers route-map announce out\n"
    )


def program(name: str) -> str:
    """The path of a daemon of FRR. MachineError when it is not installed."""
    path = PROGRAMS / name
    if not path.exists():
        raise MachineError(
            "a router in this lab speaks BGP, and this machine has no FRR", "Install it: apt-get install frr"
        )
    return str(path)


def outdated(lab: str, node: Node) -> bool:
    """Whether the configuration file is not what it must be; a node without BGP must have none."""
    file = _file(lab, node)
    have = file.read_text() if file.exists() else None
    return have != (None if node.bgp is None else configuration(node, node.bgp))


def prepare(lab: str, node: Node) -> None:
    """Make the run directory, which belongs to FRR's user, and the configuration file, or take that away.

    The namespace must be there: who is no router any more knows and forwards no more.
    """
    file = _file(lab, node)
    if node.bgp is None:
        netns.inside(f"{lab}.{node.name}", _forget)
        file.unlink()
        return
    with store.writing(file):
        file.parent.mkdir(mode=0o755, exist_ok=True)
        file.write_text(configuration(node, node.bgp))
    shutil.chown(file.parent, OWNER, OWNER)


def _file(lab: str, node: Node) -> Path:
    return store.directory(lab) / node.name / "bgpd.conf"


def learned(namespace: str) -> dict[IPv4Network, IPv4Address]:
    """What a router has learned, as its kernel has it: prefix to next hop."""
    return netns.inside(namespace, _learned)


def _learned() -> dict[IPv4Network, IPv4Address]:
    found = {}
    with IPRoute() as netlink:
        for route in netlink.get_routes(family=socket.AF_INET, proto=_RTPROT_BGP):
            if route["proto"] == _RTPROT_BGP and (via := route.get_attr("RTA_GATEWAY")):
                to = IPv4Network(f"{route.get_attr('RTA_DST') or '0.0.0.0'}/{route['dst_len']}")
                found[to] = IPv4Address(via)
    return found


def _forget() -> None:
    """What a router that was ended leaves behind."""
    stack.forward(False)
    with IPRoute() as netlink:
        for prefix in _learned():
            netlink.route("del", dst=str(prefix), proto=_RTPROT_BGP)


def await_learned(
    namespaces: Mapping[str, Mapping[IPv4Network, IPv4Address]], limit: float = LIMIT
) -> list[str]:
    """Wait until routers, by their namespaces, know exactly this. Returns what is not so in the end."""
    deadline = time.monotonic() + limit
    while True:
        wrong = [
            words
            for namespace, wanted in namespaces.items()
            for words in difference(namespace.partition(".")[2], wanted, learned(namespace))
        ]
        if not wrong or time.monotonic() > deadline:
            return wrong
        time.sleep(0.05)


def difference(
    router: str, wanted: Mapping[IPv4Network, IPv4Address], have: Mapping[IPv4Network, IPv4Address]
) -> list[str]:
    """How what a router knows differs from what it is to know, in words."""
    missing = [
        f"{router} has not learned {prefix} via {hop} by BGP"
        for prefix, hop in sorted(wanted.items())
        if have.get(prefix) != hop
    ]
    return missing + [f"{router} still knows {prefix} by BGP" for prefix in sorted(set(have) - set(wanted))]
