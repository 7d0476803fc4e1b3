"""Datapath actions as ofproto/trace prints them."""

from __future__ import annotations

from dataplane.trace.actions import apply, split
from dataplane.trace.packet import Packet
from dataplane.trace.switch import read, read_ports

PACKET = Packet("50:6b:8d:00:00:01", "50:6b:8d:00:00:02", "10.0.0.1", "10.0.0.2")
GENEVE = (
    "set(eth(src=0a:58:c0:a8:02:01,dst=50:6b:8d:c7:7f:60)),set(ipv4(ttl=63)),tnl_push(tnl_port(7),header("
    "size=58,type=5,eth(dst=0a:61:68:76:00:02,src=0a:61:68:76:00:01,dl_type=0x0800),ipv4(src=100.64.0.1,"
    "dst=100.64.0.2,proto=17,tos=0,ttl=64,frag=0x4000),udp(src=0,dst=6081,csum=0xffff),geneve(crit,vni=0x3,"
    "options({class=0x102,type=0x80,len=4,0x10002}))),out_port(1)),2"
)


def test_parts_between_commas_outside_of_parentheses() -> None:
    assert list(split("push_vlan(vid=10,pcp=0),1,set(eth(src=a,dst=b)),2")) == [
        "push_vlan(vid=10,pcp=0)",
        "1",
        "set(eth(src=a,dst=b))",
        "2",
    ]


def test_a_tag_is_on_what_leaves_behind_it() -> None:
    result = apply(["3,push_vlan(vid=10,pcp=0),1,pop_vlan,4"], PACKET)
    assert [(output.port, output.packet.vlans) for output in result.outputs] == [(3, ()), (1, (10,)), (4, ())]


def test_a_tunnel_has_its_outer_headers_and_the_packet_as_it_was_routed() -> None:
    [output] = apply([GENEVE], PACKET).outputs
    assert output.port == 2 and output.tunnel is not None
    assert (output.packet.src, output.packet.dst, output.packet.ttl) == (
        "0a:58:c0:a8:02:01",
        "50:6b:8d:c7:7f:60",
        63,
    )
    assert (output.tunnel.vni, output.tunnel.option, output.tunnel.outer.nw_dst) == (
        3,
        "0x10002",
        "100.64.0.2",
    )


def test_addresses_are_translated_by_conntrack() -> None:
    result = apply(["ct(commit,zone=5,nat(src=203.0.113.60)),recirc(0x1)", "2"], PACKET)
    assert result.outputs[0].packet.nw_src == "203.0.113.60"
    assert result.notes == ("source NAT: 10.0.0.1 becomes 203.0.113.60",)


def test_dropped() -> None:
    assert apply(["drop"], PACKET).outputs == ()


def test_rules_and_ports_are_read() -> None:
    traced = read(
        'bridge("br0")\n-------------\n 0. in_port=1, priority 100, cookie 0xc4090251\n    drop\n'
        'bridge("br1")\n-------------\n 0. priority 0\n    NORMAL\n     -> no learned MAC, flooding\n'
        "\nFinal flow: unchanged\nDatapath actions: 1,2\n"
    )
    first, second = traced.rules
    assert (first.bridge, first.match, first.priority, first.cookie) == ("br0", "in_port=1", 100, 0xC4090251)
    assert second.notes == ["no learned MAC, flooding"] and traced.actions == ("1,2",)
    ports = read_ports("netdev@x: hit:0\n  br0:\n    br0 65534/1: (tap)\n    p 3/none: (patch: peer=q)\n")
    assert [(port.name, port.datapath, port.options) for port in ports] == [
        ("br0", 1, ""),
        ("p", None, "peer=q"),
    ]


CONNTRACK = """\
bridge("br0")
-------------
 0. priority 0
    NORMAL
     >> forwarding to learned port

bridge("brAtlas")
-----------------
 0. in_port=1, priority 100, cookie 0x1
    resubmit(,13)
13. ip, priority 100, cookie 0x2
    ct(table=14,zone=NXM_NX_REG12[0..15],nat)
    nat
     -> A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table 14.
     -> Sets the packet to an untracked state, and clears all the conntrack fields.

Datapath actions: ct(zone=5,nat),recirc(0x8)

===============================================================================
recirc(0x8) - resume conntrack with default ct_state=trk|new (use --ct-next to customize)
    Initial flow: nw_dst=203.0.113.60
===============================================================================

bridge("br0")
-------------
    thaw
        Resuming from table 14
14. priority 0, cookie 0x3
    drop

Datapath actions: drop
"""


def test_what_comes_back_from_conntrack_is_where_it_was() -> None:
    traced = read(CONNTRACK)
    assert [(rule.bridge, rule.table) for rule in traced.rules] == [
        ("br0", 0),
        ("brAtlas", 0),
        ("brAtlas", 13),
        ("brAtlas", 14),
    ]
    assert traced.bridges == ["br0", "brAtlas"]
    assert "Initial flow: nw_dst=203.0.113.60" not in traced.rules[2].actions
