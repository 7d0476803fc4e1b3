"""What netctl decides: unit cases; tests/property/test_assignments.py has the properties."""

from ipaddress import IPv4Address

import pytest

from netctl.compile.routers import ROUTER_PREFIX
from netctl.errors import InputError
from netctl.intent import assign, loads
from netctl.intent.assignment import RESERVED_MACS, host_address, host_mac
from netctl.model import Assignments, Intent

HEAD = "name: lab\nhosts: {hv1: {}, hv2: {}, hv3: {}}\nvpcs: {shop: {}}\n"


def lab(text: str, given: Assignments | None = None) -> Intent:
    return loads(HEAD + text, assignments=given, supported_only=False)


def addresses(intent: Intent) -> dict[str, str]:
    return {port.name: str(port.ip) for port in intent.ports}


def test_the_default_pool_leaves_out_the_first_address_and_the_gateway() -> None:
    subnet = "{type: vlan, vlan: 1, cidr: 10.0.0.0/29, gateway: 10.0.0.3}"
    found = lab(
        f"subnets: {{a: {subnet}}}\nvms: {{x: {{nics: [{{subnet: a}}, {{subnet: a}}, {{subnet: a}}]}}}}"
    )
    assert list(addresses(found).values()) == ["10.0.0.2", "10.0.0.4", "10.0.0.5"]


@pytest.mark.parametrize("kind", ["type: vlan-basic", "type: vlan, dhcp: true"])
def test_the_last_address_is_the_dhcp_servers(kind: str) -> None:
    nics = ", ".join(["{subnet: a}"] * 5)
    with pytest.raises(InputError, match="addresses needed 5, free 4"):
        lab(f"subnets: {{a: {{{kind}, vlan: 1, cidr: 10.0.0.0/29}}}}\nvms: {{x: {{nics: [{nics}]}}}}")


def test_addresses_that_somebody_has_are_not_given() -> None:
    found = lab(
        """
subnets:
  a: {type: vlan, vlan: 1, cidr: 10.0.0.0/24, pool: [10.0.0.10-10.0.0.12, 10.0.0.2-10.0.0.3]}
vms:
  x: {nics: [{subnet: a, ip: 10.0.0.3}, {subnet: a}, {subnet: a}]}
physical: {p: {switch: tor1, vlan: 1, ip: 10.0.0.2/24}, q: {switch: tor1, vlan: 2, ip: 10.0.0.11/24}}
"""
    )
    assert list(addresses(found).values()) == ["10.0.0.3", "10.0.0.10", "10.0.0.11"], "q is on another VLAN"


def test_virtual_addresses_are_not_given() -> None:
    subnet = "subnets: {a: {type: overlay, vpc: shop, cidr: 10.0.0.0/24}}\nvms: {x: {nics: [{subnet: a}]}}"
    assert addresses(lab(subnet)) == {"x/0": "10.0.0.2"}
    balancer = "{shop: {load_balancers: {l: {vip: 10.0.0.2, port: 80, backends: [x:80]}}}}"
    text = HEAD.replace("{shop: {}}", balancer) + subnet
    assert addresses(loads(text, supported_only=False)) == {"x/0": "10.0.0.3"}


SUBNET = "subnets: {a: {type: vlan, vlan: 1, cidr: 10.0.0.0/24}}\n"


def test_what_is_there_stays_when_something_comes_before_it() -> None:
    one = lab(SUBNET + "vms: {m: {nics: [{subnet: a}]}}")
    two = lab(SUBNET + "vms: {m: {nics: [{subnet: a}]}, b: {nics: [{subnet: a}]}}", one.assignments)
    assert two.port("m") == one.port("m")
    assert addresses(two) == {"b/0": "10.0.0.3", "m/0": "10.0.0.2"}
    assert two.placement["m"] == one.placement["m"]


def test_an_address_that_another_claims_is_given_up() -> None:
    one = lab(SUBNET + "vms: {m: {nics: [{subnet: a}]}}")
    two = lab(
        SUBNET + "vms: {m: {nics: [{subnet: a}]}, b: {nics: [{subnet: a, ip: 10.0.0.2}]}}", one.assignments
    )
    assert addresses(two) == {"b/0": "10.0.0.2", "m/0": "10.0.0.3"}
    assert two.port("m").mac == one.port("m").mac


def test_an_address_follows_to_no_other_subnet() -> None:
    one = lab(SUBNET + "vms: {m: {nics: [{subnet: a}]}}")
    two = lab(SUBNET.replace("10.0.0", "10.9.9") + "vms: {m: {nics: [{subnet: a}]}}", one.assignments)
    assert addresses(two) == {"m/0": "10.9.9.2"}
    assert two.port("m").number == one.port("m").number


def test_macs_are_apart_and_claims_are_respected() -> None:
    one = lab(SUBNET + "vms: {m: {nics: [{subnet: a}]}}")
    mac = one.port("m").mac
    two = lab(SUBNET + f"vms: {{m: {{nics: [{{subnet: a}}]}}, b: {{nics: [{{subnet: a, mac: '{mac}'}}]}}}}")
    assert two.port("b").mac == mac
    assert two.port("m").mac != mac


def test_nonsense_from_before_is_not_kept() -> None:
    given = Assignments(
        hosts={"hv1": -3, "hv2": 7, "hv3": 7, "gone": 1},
        placement={"x": "gone", "y": "hv2", "gone": "hv1"},
        nics={
            "x/0": (0, "ff:ff", "10.0.0.999"),
            "y/0": (5, "50:6b:8d:00:00:01", ""),
            "gone/0": (1, "", "10.0.0.2"),
        },
        machines={"p": "50:6b:8d:00:00:01"},
        slots={"x": -1, "y": 3, "gone": 0},
    )
    text = (
        SUBNET
        + "vms: {x: {nics: [{subnet: a}]}, y: {nics: [{subnet: a}]}}\nphysical: {p: {switch: tor1, vlan: 1}}"
    )
    found = lab(text, given)
    assert {name: host.number for name, host in found.hosts.items()} == {"hv1": 1, "hv2": 7, "hv3": 2}
    assert found.placement == {"x": "hv1", "y": "hv2"}
    assert addresses(found) == {"x/0": "10.0.0.2", "y/0": "10.0.0.3"}
    assert found.port("y").mac == "50:6b:8d:00:00:01"
    assert found.machines["p"].mac.startswith("06:61:68:")


def test_placement_spreads_vms() -> None:
    found = lab("vms: {a: {}, b: {}, c: {}, d: {host: hv1}, e: {affinity: [hv3]}, f: {affinity: [hv3]}}")
    assert found.placement == {"a": "hv2", "b": "hv3", "c": "hv1", "d": "hv1", "e": "hv3", "f": "hv3"}


def test_placement_keeps_and_fills_up() -> None:
    one = lab("vms: {a: {}, b: {}, c: {}}")
    two = lab("vms: {c: {}}", one.assignments)
    assert two.placement == {"c": "hv3"}
    again = lab("vms: {a: {}, b: {}, c: {}}", two.assignments)
    assert again == one


def test_a_vm_that_is_moved_stays_where_it_is() -> None:
    from dataclasses import replace

    one = lab("vms: {a: {}, b: {}, c: {}}")
    moved = replace(one.assignments, placement={**one.assignments.placement, "a": "hv2"})
    two = lab("vms: {a: {}, b: {}, c: {}}", moved)
    assert two.placement == {"a": "hv2", "b": "hv2", "c": "hv3"}


def test_clusters_of_a_subnet_bound_the_placement() -> None:
    found = loads(
        """
name: lab
hosts: {hv1: {}, hv2: {}, hv3: {}}
clusters: {pe1: {hosts: [hv1, hv2]}, pe2: {hosts: [hv3]}}
subnets: {a: {type: vlan, vlan: 1, clusters: [pe2]}}
vms: {x: {nics: [{subnet: a}]}, y: {nics: [{subnet: a}]}, z: {}}
"""
    )
    assert found.placement == {"x": "hv3", "y": "hv3", "z": "hv1"}
    assert found.hosts["hv3"].cluster == "pe2"


def test_host_numbers_avoid_bare_machines_beside_the_hosts() -> None:
    found = lab("physical: {p: {switch: tor1, ip: 100.64.0.2/16}}")
    assert [str(host.address.ip) for host in found.hosts.values()] == [
        "100.64.0.1",
        "100.64.0.3",
        "100.64.0.4",
    ]


def test_host_macs() -> None:
    assert host_mac(300) == "0a:61:68:76:01:2c"
    assert host_address(300) == IPv4Address("100.64.1.44")
    assert any(host_mac(1).startswith(prefix) for prefix in RESERVED_MACS)


def test_routers_macs_are_reserved() -> None:
    assert ROUTER_PREFIX in RESERVED_MACS


def test_assign_alone_refuses_an_exhausted_pool() -> None:
    found = lab(SUBNET + "vms: {x: {nics: [{subnet: a}]}}").file
    small = found.model_copy(update={"subnets": {"a": found.subnets["a"].model_copy(update={"pool": []})}})
    with pytest.raises(InputError, match="exhausted"):
        assign(small)


OUT = """
subnets:
  out: {type: external, vlan: 3, cidr: 203.0.113.0/24, pool: [203.0.113.50-203.0.113.60]}
"""


def test_vpcs_get_an_address_in_their_external_subnets_and_keep_it() -> None:
    vpcs = "vpcs: {m: {external: [{subnet: out}]}, shop: {external: [{subnet: out, snat_ip: 203.0.113.50}]}}"
    one = loads(HEAD.partition("vpcs")[0] + OUT + vpcs)
    assert [(way.vpc, str(way.router_ip), str(way.snat_ip)) for way in one.gateways] == [
        ("m", "203.0.113.51", "203.0.113.51"),
        ("shop", "203.0.113.52", "203.0.113.50"),
    ]
    more = vpcs.replace("{m:", "{a: {external: [{subnet: out, nat: false}]}, m:")
    two = loads(HEAD.partition("vpcs")[0] + OUT + more, assignments=one.assignments)
    assert two.gateways[1:] == one.gateways
    assert (str(two.gateways[0].router_ip), two.gateways[0].snat_ip) == ("203.0.113.53", None)


def test_gateway_hosts_are_all_that_reach_the_vlan() -> None:
    text = HEAD.replace("hv2: {}", "hv2: {nics: {}}").partition("vpcs")[0] + OUT
    found = loads(text + "vpcs: {m: {external: [{subnet: out}]}}")
    assert found.gateways[0].hosts == ("hv1", "hv3")
    found = loads(text + "vpcs: {m: {external: [{subnet: out, gateway_hosts: [hv3, hv1]}]}}")
    assert found.gateways[0].hosts == ("hv3", "hv1")
