"""What is not built yet is refused, each line of the table for itself."""

import pytest

from netctl.errors import InputError
from netctl.intent import loads, supported
from netctl.intent.supported import NOT_YET, Wanted

FULL = """
name: lab
fabric: {mlag: [[tor1, tor2]]}
clusters: {pe1: {hosts: [hv1], latency_ms: 2}}
hosts: {hv1: {nics: {eth0: {switch: tor1, rate: 20mbit}, eth1: {switch: tor2}, eth2: {switch: tor1}}}}
virtual_switches:
  vs0: {uplinks: [eth0, eth1], bond: balance-tcp, lacp: active, lacp_fallback: true}
  vs1: {uplinks: [eth2], per_host: {hv1: {bond: balance-tcp, lacp: active, lacp_fallback: true}}}
subnets:
  basic: {type: vlan-basic, vlan: 1, cidr: 10.1.0.0/24, chain: c}
  out: {type: external, vlan: 2, cidr: 10.2.0.0/24, gateway: 10.2.0.1}
  lan: {type: vlan, vlan: 3, cidr: 10.3.0.0/24, cidr6: "fd00::/64", dhcp: true, dhcp_server: 10.3.0.254,
        dns: [10.3.0.1], domain: lab.example, lease_time: 600}
  app: {type: overlay, vpc: shop, cidr: 10.4.0.0/24}
vpcs:
  hub: {type: transit}
  shop:
    attach: [hub]
    external: [{subnet: out}]
    routes: [{to: 0.0.0.0/0, via: out}]
    routable: [10.4.0.0/24]
    floating_ips: {10.2.0.9: c}
    routing_policies: [{priority: 1}]
    load_balancers: {l: {vip: 10.2.0.10, port: 80, backends: [c:80]}}
vms:
  a:
    {kind: qemu, memory: 96, anti_affinity: [b],
     nics: [{subnet: lan, mode: trunk, trunked: [3], rate: 1mbit}]}
  b: {nics: [{subnet: lan, ip: dhcp}]}
  c: {nics: [{subnet: app}]}
physical: {r: {switch: tor1, vlan: 2, ip: 10.2.0.1/24, kind: router}}
policies: {p: {type: application, secured: {Tier: web}, inbound: []}}
network_functions: {f: {mode: tap, kind: qemu, program: ids}}
service_chains: {c: {functions: [f]}}
checks:
  - {from: a, to: b, protocol: icmp6}
  - {from: a, to: b, expect: rejected}
  - {from: a, to: b, vlan: 3, through: [f], via: [tor1], on_uplink: eth0, snat: 10.2.0.9}
  - {from: a, to: 10.0.0.1}
  - steps:
      - {heal: all}
      - {check: {from: a, to: b, protocol: icmp6}}
      - {check: {from: a, to: b, expect: rejected}}
      - {check: {from: a, to: 10.0.0.1, vlan: 3, through: [f], via: [tor1], on_uplink: eth0, snat: 10.2.0.9}}
      - {traffic: {from: a, to: b, protocol: icmp6}}
      - {traffic: {from: a, to: 10.0.0.1, vlan: 3, through: [f], via: [tor1]}}
      - {traffic: {from: a, to: 10.0.0.1, on_uplink: eth0, snat: 10.2.0.9}}
      - {migrate: {vm: b, to: hv1}, max_outage: 1s}
      - {apply: {vms: {}}}
"""


def refused(text: str) -> list[str]:
    try:
        loads(text)
    except InputError as error:
        return [problem.message for problem in error.problems]
    return []


IMPOSSIBLE = {"checks.*.steps.*.traffic.expect"}
"""Refused already: traffic is to be delivered."""


@pytest.mark.parametrize("line", NOT_YET, ids=lambda line: f"{line[0]} {line[2]}")
def test_every_line_of_the_table(line: tuple[str, Wanted, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, as it will be when all others are built."""
    loads(FULL, supported_only=False)
    monkeypatch.setattr(supported, "NOT_YET", (line,))
    pattern, _, name = line
    if pattern in IMPOSSIBLE:
        return
    messages = refused(FULL)
    assert messages
    last = pattern.rpartition(".")[2]
    for message in messages:
        assert message.endswith(f": not supported yet: {name}")
        assert last == "*" or f".{last}:" in message


def test_what_is_inside_of_something_refused_is_not_told_as_well() -> None:
    paths = [message.partition(": ")[0] for message in refused(FULL)]
    assert paths
    assert not [path for path in paths for other in paths if path.startswith((f"{other}.", f"{other}["))]


@pytest.mark.parametrize(
    "text",
    [
        "hosts: {hv1: {}}\nvirtual_switches: {vs0: {bond: active-backup, lacp: off, lacp_fallback: no}}",
        "subnets: {a: {type: vlan, vlan: 1, dhcp: false, dns: []}}",
        "vpcs: {shop: {type: regular, external: [], routes: [], routable: [], floating_ips: {}}}",
        "policies: {p: {type: application, mode: save, secured: {Tier: web}}}",
        "hosts: {hv1: {}}\nvms: {a: {kind: namespace, categories: {Tier: web}, affinity: [hv1], nics: []}}",
        "address_groups: {a: [10.0.0.0/8]}\nservice_groups: {s: [tcp/80]}",
    ],
)
def test_what_stands_for_nothing_is_fine(text: str) -> None:
    assert refused(f"name: lab\n{text}") == []
