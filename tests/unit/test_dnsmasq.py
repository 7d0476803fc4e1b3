"""DHCP servers of VLAN basic subnets: which there are, and what they are told; no server runs here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dataplane import dnsmasq
from dataplane.faults import afflicted, concerned
from dataplane.inventory import inventory
from netctl.errors import InputError
from netctl.intent import loads
from netctl.model import addressing
from netctl.model.fault import Fault

LAB = """
name: lab
hosts: {hv1: {}, hv2: {}}
virtual_switches: {vs0: {uplinks: [eth0]}, vs1: {uplinks: [eth1]}}
subnets:
  full: {type: vlan-basic, vlan: 20, cidr: 10.20.0.0/24, gateway: 10.20.0.1, dns: [10.20.0.1, 10.0.0.1],
         domain: full.example, mtu: 1400, lease_time: 600}
  bare: {type: vlan-basic, vlan: 20, virtual_switch: vs1, cidr: 10.20.0.0/24,
         domain: no.dns, gateway: 10.20.0.254}
  own: {type: vlan-basic, vlan: 22, cidr: 10.22.0.0/24, dhcp: false}
  raw: {type: vlan-basic, vlan: 23}
  empty: {type: vlan-basic, vlan: 24, cidr: 10.24.0.0/24}
  lan: {type: vlan, vlan: 25, cidr: 10.25.0.0/24, dhcp: true}
vms:
  a: {host: hv1, nics: [{subnet: full, mac: "50:6b:8d:00:00:01", ip: dhcp}, {subnet: own},
                        {subnet: raw, ip: dhcp}]}
  b: {host: hv1, nics: [{subnet: full, mac: "50:6b:8d:00:00:02", ip: 10.20.0.9, link: down}, {subnet: lan}]}
  c: {host: hv2, nics: [{subnet: bare, mac: "50:6b:8d:00:00:03"}]}
"""

HEAD = """port=0
no-hosts
no-resolv
no-ping
user=root
group=root
interface={device}
bind-interfaces
# {address}
dhcp-range=10.20.0.0,static,255.255.255.0,{lease}
dhcp-authoritative
dhcp-ignore=tag:!known
dhcp-ignore-clid
dhcp-leasefile=/l
log-facility=/g
"""


def test_each_managed_subnet_has_a_server_where_its_nics_are() -> None:
    nodes = inventory(loads(LAB)).nodes
    assert {name: list(node.servers) for name, node in nodes.items() if node.servers} == {
        "hv1.cvm": ["full"],
        "hv2.cvm": ["bare"],
    }
    ends = {(each.node, each.device.name, each.vni, each.udp_port) for each in inventory(loads(LAB)).tunnels}
    assert ends == {
        ("hv1.cvm", "dhcp0.20", 20, 4789),
        ("hv1.cvm", "arp0.20", 20, 4799),
        ("hv1.cvm", "arp0.22", 22, 4799),
        ("hv1.cvm", "arp0.23", 23, 4799),
        ("hv2.cvm", "dhcp1.20", 20, 4809),
        ("hv2.cvm", "arp1.20", 20, 4819),
    }
    assert nodes["a"].leases["eth2"].address is None, "who answers there is not the lab's"
    assert nodes["a"].free == {"eth2"}


def test_a_server_is_told_what_the_subnet_says() -> None:
    nodes = inventory(loads(LAB)).nodes

    def told(node: str, subnet: str) -> str:
        return dnsmasq.configuration(nodes[node].servers[subnet], Path("/l"), Path("/g"))

    assert told("hv1.cvm", "full") == (
        HEAD.format(device="dhcp0.20", address="10.20.0.254/24", lease=600)
        + "dhcp-option-force=3,10.20.0.1\n"
        + "dhcp-option-force=6,10.20.0.1,10.0.0.1\n"
        + "dhcp-option-force=15,full.example\n"
        + "dhcp-option-force=26,1400\n"
        + "dhcp-host=50:6b:8d:00:00:01,10.20.0.2\n"
        + "dhcp-host=50:6b:8d:00:00:02,10.20.0.9\n"
    )
    assert told("hv2.cvm", "bare") == (
        HEAD.format(device="dhcp1.20", address="10.20.0.253/24", lease=86400)
        + "dhcp-option=6\n"
        + "dhcp-option-force=3,10.20.0.254\n"
        + "dhcp-option-force=15,no.dns\n"
        + "dhcp-option-force=26,1500\n"
        + "dhcp-host=50:6b:8d:00:00:03,10.20.0.2\n"
    ), "beside the gateway, and OVN answers no names here"


def test_a_fault_ends_all_servers_of_a_host() -> None:
    intent = loads(LAB)
    for text in ("daemon hv1 dnsmasq", "host hv1"):
        fault = Fault.parse(text)
        nodes = afflicted(inventory(intent), intent, [fault]).nodes
        assert nodes["hv1.cvm"].stopped == {"dnsmasq-full"}
        assert not nodes["hv2.cvm"].stopped
        assert "hv1.cvm" in concerned(intent, [fault])
    assert (
        not afflicted(inventory(intent), intent, [Fault.parse("daemon hv1 ovs-vswitchd")])
        .nodes["hv1.cvm"]
        .stopped
    )


def test_what_does_not_run_is_missing(tmp_path: Path) -> None:
    node = inventory(loads(LAB)).nodes["hv1.cvm"]
    assert dnsmasq.missing("lab", node, [], ["dhcp0.20"]) == ["full"]
    assert dnsmasq.missing("lab", replace(node, stopped=frozenset({"dnsmasq-full"})), [], ["dhcp0.20"]) == []


def test_ports_of_many_virtual_switches_differ() -> None:
    switches = ", ".join(f"vs{number}: {{uplinks: []}}" for number in range(1, 100))
    lab = loads(f"name: l\nhosts: {{hv1: {{}}}}\nvirtual_switches: {{{switches}}}")
    bridges = lab.hosts["hv1"].bridges
    ports = [addressing.udp_port(bridge, purpose) for bridge in bridges for purpose in addressing.PURPOSES]
    assert len(set(ports)) == 200 and max(ports) < 65536 and 6081 not in ports
    names = [addressing.tunnel_end(bridges[-1], purpose, 4094) for purpose in addressing.PURPOSES]
    assert max(map(len, names)) <= 15


def test_short_leases_are_warned_of() -> None:
    short = LAB.replace("lease_time: 600", "lease_time: 60")
    (warning,) = loads(short).warnings
    assert "leases of full will last 120 s" in warning.message
    assert not loads(LAB.replace("lease_time: 600", "lease_time: 120")).warnings


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{subnet: own}", "{subnet: own, ip: dhcp}", "nobody answers DHCP in own"),
        ("{subnet: own}", "{subnet: full, ip: 10.20.0.254}", "is the DHCP server of full already"),
        ("mtu: 1400", "pool: [10.20.0.9]", "the pool of full is exhausted: addresses needed 1, free 0"),
    ],
)
def test_bad_input(old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        loads(LAB.replace(old, new))
