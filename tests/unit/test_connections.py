"""Connections as ovs-vswitchd tells them, and as it is told to forget them."""

from __future__ import annotations

from dataplane.connections import parse

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
