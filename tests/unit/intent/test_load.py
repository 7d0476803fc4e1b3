"""A file becomes an intent with everything decided."""

import subprocess
import sys
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from netctl.errors import InputError
from netctl.intent import load, loads

ROOT = Path(__file__).parents[3]
LABS = sorted((ROOT / "tests/unit/contract").glob("*.yaml"))


def test_the_first_lab() -> None:
    intent = load(ROOT / "topologies/first-lab.yaml")
    assert intent.name == "first-lab"
    assert intent.switches == ("tor1", "tor2")
    assert intent.links == (("tor1", "tor2"),)
    assert not intent.rstp
    assert list(intent.hosts) == ["hv1", "hv2"]
    hv1 = intent.hosts["hv1"]
    assert (hv1.number, hv1.cluster, hv1.address) == (1, "default", IPv4Interface("100.64.0.1/16"))
    assert {name: nic.switch for name, nic in hv1.nics.items()} == {"eth0": "tor1", "eth1": "tor2"}
    (bridge,) = hv1.bridges
    assert (bridge.bridge, bridge.bond, bridge.uplinks) == ("br0", "br0-up", ("eth0", "eth1"))
    assert (bridge.mode, bridge.lacp, bridge.mtu) == ("active-backup", "off", 9000)
    web1, web2, app1 = intent.port("web1"), intent.port("web2/0"), intent.port("app1")
    assert (web1.ip, web1.gateway, web1.host, web1.mtu) == (IPv4Address("10.10.0.11"), None, "hv1", 1500)
    assert web2.ip == IPv4Address("10.10.0.2")
    assert (app1.ip, app1.gateway) == (IPv4Address("192.168.1.2"), IPv4Address("192.168.1.1"))
    assert web1.mac.startswith("50:6b:8d:")
    assert [port.name for port in intent.ports] == ["app1/0", "db1/0", "web1/0", "web2/0"]
    assert sorted(port.number for port in intent.ports) == [1, 2, 3, 4]
    assert not intent.warnings


def test_the_copy_of_the_first_lab_is_the_contracts() -> None:
    contract = (ROOT / "tests/unit/contract/first-lab.yaml").read_text()
    assert (ROOT / "topologies/first-lab.yaml").read_text() == contract


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.stem)
def test_acceptance_labs_are_right(lab: Path) -> None:
    load(lab, supported_only=False)
    try:
        load(lab)
    except InputError as error:
        assert all("not supported yet" in problem.message for problem in error.problems)


def test_the_smallest_lab() -> None:
    intent = loads("name: lab")
    assert (intent.hosts, intent.ports, intent.switches) == ({}, (), ("tor1", "tor2"))


def test_empty_sections_and_entries_are_as_if_left_out() -> None:
    intent = loads(
        "name: lab\nhosts:\n  hv1:\n  hv2:\nvms:\nsubnets:\nchecks:\nvpcs:\n  shop:\nfabric:\n  mtu:\n"
    )
    assert list(intent.hosts) == ["hv1", "hv2"]
    assert intent.file.fabric.mtu == 9000
    assert list(intent.file.vpcs) == ["shop"]


def test_one_switch_gives_one_nic() -> None:
    intent = loads("name: lab\nfabric: {switches: {leaf: {}}}\nhosts: {hv1: {}}")
    assert list(intent.hosts["hv1"].nics) == ["eth0"]
    assert intent.links == ()


def test_switches_keep_the_files_order_and_make_a_line() -> None:
    intent = loads("name: lab\nfabric: {switches: {c: {}, a: {}, b: {}}}\nhosts: {hv1: {}}")
    assert intent.switches == ("c", "a", "b")
    assert intent.links == (("c", "a"), ("a", "b"))
    assert [nic.switch for nic in intent.hosts["hv1"].nics.values()] == ["c", "a"]


@pytest.mark.parametrize(
    ("links", "loop"),
    [
        ("[[a, b], [b, c]]", False),
        ("[[a, b], [b, c], [c, a]]", True),
        ("[[a, b], [b, a], [b, c]]", True),
        ("[]", False),
    ],
)
def test_loops_need_rstp(links: str, loop: bool) -> None:
    intent = loads(f"name: lab\nfabric: {{switches: {{a: {{}}, b: {{}}, c: {{}}}}, links: {links}}}")
    assert intent.rstp is loop


def test_virtual_switches() -> None:
    intent = loads(
        """
name: lab
hosts:
  hv1: {nics: {eth10: {switch: tor1}, eth2: {switch: tor1}, eth0: {switch: tor1}, eth1: {switch: tor2}}}
  hv2: {}
virtual_switches:
  vs10: {uplinks: [], mtu: 1500}
  vs2: {uplinks: [eth2], bond: none, per_host: {hv2: {uplinks: []}}}
"""
    )
    hv1, hv2 = intent.hosts.values()
    assert list(hv1.nics) == ["eth0", "eth1", "eth2", "eth10"]
    assert [bridge.bridge for bridge in hv1.bridges] == ["br0", "br2", "br10"]
    assert [bridge.uplinks for bridge in hv1.bridges] == [("eth0", "eth1", "eth10"), ("eth2",), ()]
    assert [bridge.uplinks for bridge in hv2.bridges] == [("eth0", "eth1"), (), ()]
    assert [bridge.mtu for bridge in hv1.bridges] == [9000, 9000, 1500]


def test_per_host_bonds() -> None:
    bonds = load(ROOT / "tests/unit/contract/bonds.yaml", supported_only=False)
    assert [(host.bridges[0].mode, host.bridges[0].lacp) for host in bonds.hosts.values()] == [
        ("active-backup", "off"),
        ("balance-slb", "off"),
        ("balance-tcp", "active"),
    ]


def test_another_bond_mode_of_a_host_takes_no_lacp_along() -> None:
    intent = loads(
        """
name: lab
fabric: {mlag: [[tor1, tor2]]}
hosts: {hv1: {}, hv2: {}}
virtual_switches:
  vs0: {bond: balance-tcp, lacp: passive, lacp_fallback: yes, per_host: {hv2: {bond: balance-slb}}}
""",
        supported_only=False,
    )
    hv1, hv2 = (host.bridges[0] for host in intent.hosts.values())
    assert (hv1.lacp, hv1.lacp_fallback) == ("passive", True)
    assert (hv2.lacp, hv2.lacp_fallback) == ("off", False)


def test_mtu_of_an_overlay_leaves_room_for_geneve() -> None:
    text = """
name: lab
fabric: {mtu: 1500}
hosts: {hv1: {}}
vpcs: {shop: {}}
subnets: {a: {type: overlay, vpc: shop, cidr: 10.0.0.0/24}, b: {type: vlan, vlan: 1}}
vms: {x: {nics: [{subnet: a}, {subnet: b}]}}
"""
    assert [port.mtu for port in loads(text).ports] == [1442, 1500]
    narrow = text.replace("1500}", "9000}\nvirtual_switches: {vs0: {mtu: 1400}}")
    assert [port.mtu for port in loads(narrow).ports] == [1342, 1400]


def test_subnets_of_each_kind_of_addressing() -> None:
    intent = loads(
        """
name: lab
hosts: {hv1: {}}
subnets:
  raw: {type: vlan, vlan: 1}
  leased: {type: vlan, vlan: 2, cidr: 10.2.0.0/24, dhcp: true, gateway: 10.2.0.1}
vms: {x: {nics: [{subnet: raw}, {subnet: leased, ip: dhcp}, {subnet: leased, link: down, port_security: no}]}}
""",
        supported_only=False,
    )
    raw, leased, fixed = intent.ports
    assert (raw.ip, raw.network, raw.gateway) == (None, None, None)
    assert (leased.dhcp, str(leased.ip)) == (True, "10.2.0.2")
    assert intent.assignments.nics["x/1"][2] == "10.2.0.2", "reserved for the lease"
    assert fixed.ip == IPv4Address("10.2.0.3")
    assert (fixed.enabled, fixed.port_security) == (False, False)


def test_places_can_be_asked_later() -> None:
    intent = loads("name: lab\nhosts:\n  hv1: {}\n  hv2: {}\n")
    assert intent.locate is not None
    assert intent.locate("hosts", "hv2") == (4, 3)


def test_warnings() -> None:
    intent = loads(
        """
name: lab
fabric: {switches: {a: {}, b: {}}, links: []}
hosts: {hv1: {}}
vpcs:
  shop:
    external: [{subnet: out}]
    routable: [10.9.0.0/16]
    routing_policies: [{priority: 5}, {priority: 5}]
subnets:
  lan: {type: vlan, vlan: 10}
  out: {type: external, vlan: 11, cidr: 203.0.113.0/24}
vms: {x: {categories: {Tier: web}, nics: [{subnet: lan, mode: trunk, trunked: [10, 20]}]}}
policies:
  none: {type: application, secured: {Tier: app}, inbound: [{from: {Teir: web}}]}
  idle: {type: application, secured: {Tier: web}}
""",
        "lab.yaml",
        supported_only=False,
    )
    assert [str(warning) for warning in intent.warnings] == [
        "lab.yaml:3:36: no link leads from a to b: the fabric is in parts\n    write fabric.links: [[a, b]]",
        "lab.yaml:6:3: shop has no routes: it reaches the external subnets themselves and nothing beyond\n"
        "    write vpcs.shop.routes: [{to: 0.0.0.0/0, via: out}]",
        "lab.yaml:8:16: no subnet of shop is in 10.9.0.0/16\n"
        "    write a network that the VPC has, or leave it out",
        "lab.yaml:8:16: shop leaves with NAT only: nobody outside will see 10.9.0.0/16\n"
        "    write nat: false for an external subnet that should route it",
        "lab.yaml:9:50: shop has two routing policies of priority 5: which one wins is open\n"
        "    give each its own priority; the highest is first",
        "lab.yaml:13:84: no subnet is on VLAN 20\n    this trunk will carry it; is 20 what you mean?",
        "lab.yaml:15:29: the policy none secures nothing\n"
        "    look for a misspelt value, or add VMs with these categories",
        "lab.yaml:15:62: no VM has these categories\n    no VM has a category `Teir`; there are Tier",
        "lab.yaml:16:3: the policy idle restricts no direction, "
        "only traffic between the VMs that it secures\n"
        "    write inbound: [...] or outbound: [...]; an empty list allows nothing",
    ]


def test_what_is_allowed_though_it_looks_like_a_mistake() -> None:
    """Overlaps between VPCs, one VLAN on two virtual switches, a bare machine as the gateway, and so on."""
    intent = loads(
        """
name: lab
hosts: {hv1: {nics: {eth0: {switch: tor1}, eth1: {switch: tor2}}}}
virtual_switches: {vs0: {uplinks: [eth0]}, vs1: {uplinks: [eth1]}}
vpcs: {red: {}, blue: {}}
subnets:
  a: {type: overlay, vpc: red, cidr: 10.0.0.0/24}
  b: {type: overlay, vpc: blue, cidr: 10.0.0.0/24}
  c: {type: vlan, vlan: 10, cidr: 10.0.0.0/24, gateway: 10.0.0.1}
  d: {type: vlan, vlan: 10, cidr: 10.0.0.0/24, virtual_switch: vs1}
vms:
  x: {nics: [{subnet: a, ip: 10.0.0.5, mac: 50:6b:8d:00:00:01}]}
  y: {nics: [{subnet: b, ip: 10.0.0.5, mac: 50:6b:8d:00:00:01}]}
  a: {nics: [{subnet: c, ip: 10.0.0.5}]}
physical:
  router: {switch: tor1, vlan: 10, ip: 10.0.0.1/24}
service_groups: {web: [tcp/80]}
address_groups: {office: [10.0.0.0/8, 10.0.0.1, "fd00::/64"]}
policies:
  p: {type: application, mode: save, secured: {Tier: web}, inbound: [{from: office, services: [web]}]}
checks: [{from: a, to: router, count: 5, size: 0}]
"""
    )
    assert len(intent.ports) == 3


def test_importing_costs_nothing() -> None:
    program = "import netctl.intent, sys; print({'pydantic', 'yaml', 'netctl.model'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
