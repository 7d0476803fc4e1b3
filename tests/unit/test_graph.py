"""Pictures: everything that the grammar knows can be drawn, whole, and the same each time."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from netctl.cli.picture.dot import dot
from netctl.cli.picture.mermaid import mermaid
from netctl.cli.picture.network import layers, network, of_kind
from netctl.cli.picture.shapes import subnet_colours
from netctl.cli.picture.svg import svg
from netctl.cli.picture.text import text
from netctl.intent import loads
from netctl.model import Intent

TOPOLOGIES = sorted((Path(__file__).parents[2] / "topologies").glob("*.yaml"))

EVERYTHING = """
name: everything
title: 'All of it: <angle> & "quoted"'
fabric:
  switches: {leaf1: {}, leaf2: {}, leaf3: {}, spine1: {}, spine2: {}}
  links: [[leaf1, spine1], [leaf2, spine2], [leaf3, spine1], [leaf1, leaf2]]
  mlag: [[leaf1, leaf2]]
hosts:
  hv1: {nics: {eth0: {switch: leaf1}, eth1: {switch: leaf2, rate: 20mbit}, eth2: {switch: leaf3}}}
  hv2: {nics: {eth0: {switch: leaf1}, eth1: {switch: leaf2}, eth2: {switch: leaf3}}}
virtual_switches:
  vs0: {uplinks: [eth0, eth1], bond: balance-tcp}
  vs1: {uplinks: [eth2], bond: none}
vpcs:
  shop:
    external: [{subnet: internet, nat: true, gateway_hosts: [hv1]}]
    floating_ips: {203.0.113.60: web1}
    load_balancers: {front: {vip: 203.0.113.70, port: 443, backends: [web1:8443]}}
    routes: [{to: 0.0.0.0/0, via: internet}]
  empty: {}
subnets:
  app: {type: overlay, vpc: shop, cidr: 192.168.1.0/24}
  db: {type: overlay, vpc: shop, cidr: 192.168.2.0/24}
  web: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}
  side: {type: vlan, vlan: 10, virtual_switch: vs1, cidr: 10.11.0.0/24}
  legacy: {type: vlan-basic, vlan: 20, cidr: 10.20.0.0/24, chain: inspect}
  internet: {type: external, vlan: 30, cidr: 203.0.113.0/24, gateway: 203.0.113.1}
network_functions:
  ids: {mode: tap, program: capture}
  fw: {mode: inline, program: firewall, rules: [{deny: tcp/23}]}
service_chains: {inspect: {functions: [ids, fw], on_failure: close}}
policies:
  only-web: {type: application, secured: {Tier: web}, inbound: [{from: any, services: [tcp/80]}]}
vms:
  web1:
    host: hv1
    categories: {Tier: web}
    nics: [{subnet: app}, {subnet: web, mode: trunk, trunked: [40, 50]}]
  real: {host: hv1, kind: qemu, nics: [{subnet: side}]}
  old: {host: hv2, nics: [{subnet: legacy}]}
  bare: {host: hv2}
physical:
  client: {switch: leaf3, vlan: 30, ip: 203.0.113.9/24}
  odd: {switch: leaf1}
"""


def rack(hosts: int, vms: int) -> str:
    """A lab of many hosts with many VMs each."""
    subnets = {f"net{n}": {"type": "vlan", "vlan": 100 + n, "cidr": f"10.{n}.0.0/16"} for n in range(15)}
    names = [f"hv{n}" for n in range(1, hosts + 1)]
    return yaml.safe_dump(
        {
            "name": "rack",
            "hosts": {name: {} for name in names},
            "subnets": subnets,
            "vms": {
                f"vm{number}-{name}": {"host": name, "nics": [{"subnet": f"net{number % 15}"}]}
                for name in names
                for number in range(vms)
            },
        }
    )


LABS = {
    "everything": EVERYTHING,
    "nothing": "name: nothing",
    "hosts-only": "name: hosts-only\nhosts: {hv1: {}}",
    "one-host": rack(1, 7),
    "six-hosts": rack(6, 12),
    "seven-hosts": rack(7, 2),
    "rack": rack(32, 10),
    "crowded": rack(2, 60),
    **{path.stem: path.read_text() for path in TOPOLOGIES},
}


@pytest.fixture(params=LABS.values(), ids=LABS)
def intent(request: pytest.FixtureRequest) -> Intent:
    return loads(request.param, supported_only=False)


def words(picture: str) -> list[str]:
    return [
        element.text or ""
        for element in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")
    ]


def test_svg_shows_every_host_switch_subnet_and_machine(intent: Intent) -> None:
    seen = words(svg(intent))
    for name in (*intent.hosts, *intent.switches, *intent.machines):
        assert name in seen
    for name in intent.file.subnets:
        assert any(line == name or line.startswith(f"{name} ") for line in seen)


def test_svg_shows_every_vm_or_says_how_many_more(intent: Intent) -> None:
    seen = words(svg(intent))
    hidden = sum(int(match[1]) for line in seen if (match := re.fullmatch(r"and (\d+) more", line)))
    shown = sum(name in seen for name in intent.file.vms)
    assert shown + hidden == len(intent.file.vms)
    assert hidden == 0 or len(intent.file.vms) > 48


def shapes(picture: str) -> Iterator[tuple[float, float, float, float]]:
    """Left, top, right, bottom of every rectangle and (roughly) text."""
    for element in ElementTree.fromstring(picture).iter():
        tag = element.tag.rpartition("}")[2]
        if tag == "rect" and "x" in element.attrib:
            x, y = float(element.attrib["x"]), float(element.attrib["y"])
            yield x, y, x + float(element.attrib["width"]), y + float(element.attrib["height"])
        elif tag == "text":
            x, y = float(element.attrib["x"]), float(element.attrib["y"])
            yield x, y - 8, x, y
        elif tag == "circle":
            x, y = float(element.attrib["cx"]), float(element.attrib["cy"])
            yield x, y, x, y


def test_svg_stays_on_its_page(intent: Intent) -> None:
    picture = svg(intent)
    root = ElementTree.fromstring(picture)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for left, top, right, bottom in shapes(picture):
        assert 0 <= left <= right <= width
        assert 0 <= top <= bottom <= height


def boxes(picture: str, kind: str) -> list[tuple[float, float, float, float]]:
    found = []
    for element in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}rect"):
        if element.get("class") == kind:
            x, y = float(element.attrib["x"]), float(element.attrib["y"])
            found.append((x, y, x + float(element.attrib["width"]), y + float(element.attrib["height"])))
    return found


@pytest.mark.parametrize("kind", ["box", "card", "switch"])
def test_svg_boxes_do_not_overlap(intent: Intent, kind: str) -> None:
    found = sorted(boxes(svg(intent), kind))
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            apart = one[2] <= other[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, f"{one} and {other}"


def test_pictures_do_not_depend_on_the_order_of_the_file() -> None:
    data = yaml.safe_load(EVERYTHING)
    turned = {
        key: dict(reversed(value.items())) if isinstance(value, dict) and key != "fabric" else value
        for key, value in reversed(data.items())
    }
    one, other = (
        loads(EVERYTHING, supported_only=False),
        loads(yaml.safe_dump(turned, sort_keys=False), supported_only=False),
    )
    for draw in (svg, mermaid, dot):
        assert draw(one) == draw(other)


def test_text_drawing_fits_any_terminal(intent: Intent) -> None:
    from rich.console import Console

    for width in (20, 80, 200):
        console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        for part in text(intent):
            console.print(part)
        drawn = console.export_text()
        assert max(map(len, drawn.splitlines())) <= width
    for name in (*intent.hosts, *intent.switches):
        assert name in drawn


def test_network_has_a_node_for_each_thing_and_an_edge_for_each_nic(intent: Intent) -> None:
    graph = network(intent)
    assert of_kind(graph, "host") == [f"host:{name}" for name in sorted(intent.hosts)]
    assert of_kind(graph, "vm") == [f"vm:{name}" for name in sorted(intent.file.vms)]
    nics = [facts for _, _, facts in graph.edges(data=True) if facts["kind"] == "nic" and "mac" in facts]
    assert len(nics) == len(intent.ports)
    cables = [facts for _, _, facts in graph.edges(data=True) if facts["kind"] == "cable"]
    assert len(cables) == sum(len(host.nics) for host in intent.hosts.values()) + len(intent.machines)


def test_switches_stand_in_layers() -> None:
    assert layers(loads(EVERYTHING, supported_only=False)) == [
        ["leaf1", "leaf2", "leaf3"],
        ["spine1", "spine2"],
    ]


def test_each_subnet_has_its_own_colour(intent: Intent) -> None:
    colours = subnet_colours(intent)
    assert set(colours) == set(intent.file.subnets)
    if len(colours) <= 12:
        assert len(set(colours.values())) == len(colours)


def test_mermaid_declares_what_it_joins(intent: Intent) -> None:
    drawn = mermaid(intent)
    lines = [line.strip() for line in drawn.splitlines()]
    assert lines[3] == "flowchart TB"
    assert sum(line.startswith("subgraph ") for line in lines) == lines.count("end")
    declared = set()
    for line in lines:
        match = re.match(r"(?:subgraph )?([a-z]+_\w+)[\[({]", line)
        if match:
            declared.add(match[1])
    for line in lines:
        match = re.fullmatch(r"(\w+) (?:---|===|-\.->)(?:\|[^|]*\|)? (\w+)", line)
        if match:
            assert {match[1], match[2]} <= declared, line


def test_mermaid_quotes_the_title() -> None:
    assert "title: \"All of it: <angle> & 'quoted'\"" in mermaid(loads(EVERYTHING, supported_only=False))


def test_dot_is_balanced_and_joins_declared_nodes(intent: Intent) -> None:
    drawn = dot(intent)
    assert drawn.count("{") == drawn.count("}")
    declared = set(re.findall(r'^\s+("(?:\\.|[^"\\])*") \[', drawn, re.MULTILINE))
    for line in drawn.splitlines():
        match = re.match(r'\s+("[^"]*") -- ("[^"]*")', line)
        if match:
            assert {match[1], match[2]} <= declared, line


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_takes_the_dot(intent: Intent) -> None:
    subprocess.run(["dot", "-Tsvg"], input=dot(intent), text=True, check=True, capture_output=True)
