"""Connections as ovs-vswitchd tells them, and as it is told to forget them."""

from __future__ import annotations

import pytest

from dataplane.connections import parse
from netctl.cli.connections import rightly_translated
from netctl.intent import loads

DUMP = """\
icmp,orig=(src=10.10.0.3,dst=10.10.0.2,id=62233,type=8,code=0),reply=(src=10.10.0.2,dst=10.10.0.3,id=62233,type=0,code=0),zone=3
udp,orig=(src=10.10.0.3,dst=10.10.0.2,sport=56545,dport=53),reply=(src=10.10.0.2,dst=10.10.0.3,sport=53,dport=56545),zone=3,mark=2
tcp,orig=(src=10.10.0.3,dst=10.10.0.2,sport=39613,dport=53),reply=(src=10.10.0.2,dst=10.10.0.3,sport=53,dport=39613),zone=7,protoinfo=(state=TIME_WAIT)
udp,orig=(src=10.20.0.3,dst=10.20.0.2,sport=1,dport=2),reply=(src=10.20.0.2,dst=10.20.0.3,sport=2,dport=1),zone=60003
icmpv6,orig=(src=fe80::1,dst=fe80::2,id=1,type=128,code=0),reply=(src=fe80::2,dst=fe80::1,id=1,type=129,code=0),zone=3
"""


def test_connections_of_ports_are_found_with_what_tells_them_apart() -> None:
    found = parse(DUMP, {3: "app/0", 7: "web/0"})
    assert [(one.port, one.protocol, one.number) for one in found] == [
        ("app/0", "icmp", 8),
        ("app/0", "udp", 53),
        ("web/0", "tcp", 53),
        ("app/0", "icmp6", 128),
    ]
    assert found[3].tuple_ == (
        "ct_ipv6_src=fe80::1,ct_ipv6_dst=fe80::2,ct_nw_proto=58,icmp_id=1,icmp_type=128,icmp_code=0"
    )
    assert found[0].tuple_ == (
        "ct_nw_src=10.10.0.3,ct_nw_dst=10.10.0.2,ct_nw_proto=1,icmp_id=62233,icmp_type=8,icmp_code=0"
    )
    assert found[1].tuple_ == (
        "ct_nw_src=10.10.0.3,ct_nw_dst=10.10.0.2,ct_nw_proto=17,ct_tp_src=56545,ct_tp_dst=53"
    )


LAB = """
name: lab
hosts: {hv1: {}}
subnets:
  out: {type: external, vlan: 30, cidr: 203.0.113.0/24, gateway: 203.0.113.1}
  out2: {type: external, vlan: 31, cidr: 198.51.100.0/24, gateway: 198.51.100.1}
  web: {type: overlay, vpc: red, cidr: 192.168.1.0/24}
vpcs:
  red:
    external: [{subnet: out, router_ip: 203.0.113.50}, {subnet: out2, router_ip: 198.51.100.50}]
    floating_ips: {203.0.113.60: web1}
    load_balancers: {front: {vip: 203.0.113.70, port: 80, backends: [web1:80]}}
vms:
  web1: {host: hv1, nics: [{subnet: web, ip: 192.168.1.11}]}
  web2: {host: hv1, nics: [{subnet: web, ip: 192.168.1.12}]}
"""


@pytest.mark.parametrize(
    ("source", "target", "seen_source", "seen_target", "right"),
    [
        ("192.168.1.11", "8.8.8.8", "203.0.113.60", "8.8.8.8", True),
        ("192.168.1.11", "8.8.8.8", "203.0.113.50", "8.8.8.8", False),  # before it had its floating IP
        ("192.168.1.11", "8.8.8.8", "198.51.100.50", "8.8.8.8", True),  # it has none over the other way
        ("192.168.1.12", "8.8.8.8", "203.0.113.50", "8.8.8.8", True),
        ("192.168.1.12", "8.8.8.8", "203.0.113.60", "8.8.8.8", False),  # it was its floating IP
        ("192.168.1.12", "8.8.8.8", "203.0.113.51", "8.8.8.8", False),  # the VPC's SNAT address was another
        ("8.8.8.8", "203.0.113.60", "8.8.8.8", "192.168.1.11", True),
        ("8.8.8.8", "203.0.113.60", "8.8.8.8", "192.168.1.12", False),
        ("8.8.8.8", "203.0.113.61", "8.8.8.8", "192.168.1.12", False),  # no floating IP any more
        ("8.8.8.8", "203.0.113.70", "8.8.8.8", "192.168.1.11", True),  # a load balancer: OVN's own to end
        ("192.168.1.11", "192.168.1.12", "192.168.1.11", "192.168.1.12", True),
    ],
)
def test_translations_are_right_as_long_as_the_addresses_are_theirs(
    source: str, target: str, seen_source: str, seen_target: str, right: bool
) -> None:
    dump = (
        f"udp,orig=(src={source},dst={target},sport=1,dport=2),"
        f"reply=(src={seen_target},dst={seen_source},sport=2,dport=1),zone=4"
    )
    [one] = parse(dump, {4: "red_snat"})
    assert rightly_translated(loads(LAB), "red", one) is right
