"""Transit VPCs: who reaches whom, as which address, and nothing beyond what the routes state."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import yaml

from tests.live.conftest import Lab, Ping, netctl

INTENT = """
hosts: {hv1: {}, hv2: {}, hv3: {}}
subnets:
  internet: {type: external, vlan: 30, cidr: 203.0.113.0/24, gateway: 203.0.113.1}
  red-a: {type: overlay, vpc: red, cidr: 10.1.0.0/24}
  blue-a: {type: overlay, vpc: blue, cidr: 10.2.0.0/24}
  green-a: {type: overlay, vpc: green, cidr: 10.3.0.0/24}
  shared: {type: overlay, vpc: hub, cidr: 10.9.0.0/24}
vpcs:
  hub:
    type: transit
    external: [{subnet: internet, router_ip: 203.0.113.50, gateway_hosts: [hv3, hv1]}]
    routes: [{to: 0.0.0.0/0, via: internet}]
  red:
    attach: [hub]
    routes: [{to: 10.2.0.0/24, via: hub}, {to: 10.9.0.0/24, via: shared}, {to: 203.0.113.0/24, via: hub}]
  blue: {attach: [hub], routes: [{to: 10.0.0.0/8, via: 10.9.0.1}]}
  green: {attach: [hub]}
vms:
  r1: {host: hv1, nics: [{subnet: red-a}]}
  b1: {host: hv2, nics: [{subnet: blue-a}]}
  g1: {host: hv3, nics: [{subnet: green-a}]}
  s1: {host: hv2, nics: [{subnet: shared}]}
physical:
  server: {switch: tor1, vlan: 30, ip: 203.0.113.1/24}
checks:
  - {from: r1, to: b1}
  - {from: b1, to: r1, protocol: tcp, port: 80}
  - {from: r1, to: s1, protocol: udp, port: 80}
  - {from: b1, to: s1}
  - {from: r1, to: g1, expect: dropped}
  - {from: g1, to: r1, expect: dropped}
  - {from: r1, to: server, protocol: tcp, port: 80, snat: 203.0.113.50}
  - {from: s1, to: server, snat: 203.0.113.50}
  - {from: b1, to: server, expect: dropped}
"""


def test_routes_as_stated_and_nothing_else(lab: Lab) -> None:
    intent: dict[str, Any] = yaml.safe_load(INTENT)
    lab.up(intent)
    netctl("test", lab.file, "--lab", lab.name)

    beside = Ping(lab, "r1", "10.9.0.2")
    apart = deepcopy(intent)
    apart["vpcs"]["blue"] = {}
    apart["checks"] = [{"from": "b1", "to": "r1", "expect": "dropped"}]
    lab.apply(apart)
    netctl("test", lab.file, "--lab", lab.name)
    lab.apply(intent)
    assert beside.lost() == 0
    netctl("test", lab.file, "--lab", lab.name)
    netctl("plan", lab.file)
