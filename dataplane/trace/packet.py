"""The packet that is traced, as the flow that ofproto/trace takes (ovs-fields(7))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Protocol = Literal["icmp", "icmp6", "tcp", "udp", "arp"]

BROADCAST = "ff:ff:ff:ff:ff:ff"
SOURCE_PORT = 40000
"""The source port of a traced tcp or udp packet; the way may depend on it where a bond hashes."""


@dataclass(frozen=True, slots=True)
class Packet:
    """Its headers; `vlans` are the tags, outermost first."""

    src: str
    dst: str
    nw_src: str
    nw_dst: str
    protocol: Protocol = "icmp"
    port: int = 0
    source_port: int = SOURCE_PORT
    ttl: int = 64
    vlans: tuple[int, ...] = ()

    @property
    def six(self) -> bool:
        """Whether it is IPv6's."""
        return ":" in self.nw_src

    def flow(self) -> str:
        """As a flow, less `in_port`."""
        fields = []
        if self.vlans:
            fields.append(f"dl_vlan={self.vlans[0]}")
        fields += [f"dl_src={self.src}", f"dl_dst={self.dst}"]
        if self.protocol == "arp":
            fields += ["arp", f"arp_sha={self.src}", "arp_op=1"]
            fields += [f"arp_spa={self.nw_src}", f"arp_tpa={self.nw_dst}"]
            return ",".join(fields)
        if self.six:
            fields += ["icmp6" if self.protocol == "icmp6" else f"{self.protocol}6"]
            fields += [f"ipv6_src={self.nw_src}", f"ipv6_dst={self.nw_dst}", f"nw_ttl={self.ttl}"]
        else:
            fields += [self.protocol, f"nw_src={self.nw_src}", f"nw_dst={self.nw_dst}", f"nw_ttl={self.ttl}"]
        if self.protocol in ("icmp", "icmp6"):
            fields += ["icmpv6_type=128,icmpv6_code=0" if self.six else "icmp_type=8,icmp_code=0"]
        else:
            fields += [f"{self.protocol}_src={self.source_port}", f"{self.protocol}_dst={self.port}"]
        return ",".join(fields)

    def expression(self, port: str) -> str:
        """As ovn-trace(8) takes it, sent by a logical port."""
        words = [f'inport == "{port}"', f"eth.src == {self.src}", f"eth.dst == {self.dst}"]
        if self.protocol == "arp":
            words += ["arp.op == 1", f"arp.sha == {self.src}", f"arp.spa == {self.nw_src}"]
            words.append(f"arp.tpa == {self.nw_dst}")
            return " && ".join(words)
        ip = "ip6" if self.six else "ip4"
        words += [f"{ip}.src == {self.nw_src}", f"{ip}.dst == {self.nw_dst}", f"ip.ttl == {self.ttl}"]
        if self.protocol in ("icmp", "icmp6"):
            words.append("icmp6.type == 128" if self.six else "icmp4.type == 8")
        else:
            words += [f"{self.protocol}.src == {self.source_port}", f"{self.protocol}.dst == {self.port}"]
        return " && ".join(words)
