"""A VM cannot get round its policies, whatever frames it makes: on every kind of network, both ways."""

from __future__ import annotations

import secrets
import selectors
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
import yaml

from dataplane.checks import packets
from tests.live.conftest import Lab, netctl, private_lab
from tests.live.frames import BROADCAST, LIMIT, _frames, _open, arp, ethernet, mac, marker

pytestmark = pytest.mark.live

INTENT: dict[str, Any] = yaml.safe_load("""
hosts: {hv1: {}, hv2: {}}
vpcs: {shop: {}}
subnets:
  lan: {type: vlan, vlan: 10, cidr: 10.10.0.0/24, cidr6: "2001:db8:10::/64", dhcp: true}
  old: {type: vlan-basic, vlan: 20, cidr: 10.20.0.0/24, cidr6: "2001:db8:20::/64"}
  app: {type: overlay, vpc: shop, cidr: 192.168.1.0/24, cidr6: "2001:db8:1::/64", dhcp: true}
  other: {type: vlan, vlan: 30, cidr: 10.30.0.0/24}
  older: {type: vlan-basic, vlan: 40, cidr: 10.40.0.0/24}
physical:
  lan-bare: {switch: tor2, vlan: 10, ip: 10.10.0.250/24}
  old-bare: {switch: tor2, vlan: 20, ip: 10.20.0.250/24}
policies:
  sick: {type: quarantine, secured: {Quarantine: strict}}
  friends: {type: application, secured: {Tier: guarded}, inbound: [{from: {Tier: friend}}], outbound: []}
  four: {type: application, secured: {Tier: four}, inbound: [{from: 0.0.0.0/0}], outbound: [{to: 0.0.0.0/0}]}
""")
NETWORKS = ("lan", "old", "app")
SERVERS = {"lan": "10.10.0.254", "app": "192.168.1.254"}
"""Where OVN answers DHCP, and by which address."""

PEOPLE = {
    "evil": ("hv1", {"Quarantine": "strict"}),
    "friend": ("hv1", {"Tier": "friend"}),
    "near": ("hv1", {}),
    "far": ("hv2", {}),
    "guarded": ("hv1", {"Tier": "guarded"}),
    "four": ("hv1", {"Tier": "four"}),
}
INTENT["vms"] = {
    f"{net}-{name}": {"host": host, "categories": categories, "nics": [{"subnet": net}]}
    for net in NETWORKS
    for name, (host, categories) in PEOPLE.items()
}
INTENT["vms"] |= {
    f"{net}-trunk": {"host": "hv1", "nics": [{"subnet": subnet, "mode": "trunk", "trunked": [vlan]}]}
    for net, subnet, vlan in (("lan", "other", 10), ("old", "older", 20))
}
for net in SERVERS:  # their leases must come through the policies
    for name in ("guarded", "evil"):
        INTENT["vms"][f"{net}-{name}"]["nics"][0]["ip"] = "dhcp"


class Scene:
    """The NICs of one network: a socket at each, and who has which address."""

    def __init__(
        self,
        net: str,
        sockets: dict[str, socket.socket],
        macs: dict[str, str],
        addresses: dict[str, str],
        addresses6: dict[str, str],
    ) -> None:
        self.net, self.sockets, self.macs, self.addresses = net, sockets, macs, addresses
        self.addresses6 = addresses6

    def mac(self, name: str) -> str:
        return self.macs[f"{self.net}-{name}"]

    def ip(self, name: str) -> str:
        return self.addresses[f"{self.net}-{name}"]

    def ip6(self, name: str) -> IPv6Address:
        return IPv6Address(self.addresses6[f"{self.net}-{name}"])

    def link_local(self, name: str) -> IPv6Address:
        return IPv6Address(0xFE80 << 112 | int(self.ip6(name)) & (2**64 - 1))

    def got(self, sender: str, frame: bytes | tuple[bytes, ...], mark: bytes) -> set[str]:
        """Who else gets a frame, once a fence behind it has been everywhere: ARP, which no policy blocks.

        Before the fence goes a DHCP request where OVN answers: what ovn-controller hands back to the switch
        comes later than what does not go there, and in order.
        """
        me = f"{self.net}-{sender}"
        for one in frame if isinstance(frame, tuple) else (frame,):
            self.sockets[me].send(one)
        found: set[str] = set()
        if self.net in SERVERS:
            asked = secrets.token_bytes(4)
            self.sockets[me].send(self.discover(sender, asked))
            found |= self._until({me}, asked, mark)
        fence = secrets.token_bytes(12)
        own = (self.macs[me], self.macs[me], self.addresses[me], self.addresses[me])
        self.sockets[me].send(arp(*own, fence))
        found |= self._until(self.sockets.keys() - {me}, fence, mark)
        return {name.removeprefix(f"{self.net}-") for name in found} - {sender}

    def discover(self, sender: str, number: bytes) -> bytes:
        """A DHCPDISCOVER."""
        body = dhcp(1, self.mac(sender), b"", number)
        body = ip("0.0.0.0", "255.255.255.255", 17, udp("0.0.0.0", "255.255.255.255", body, 68, 67))
        return ethernet(BROADCAST, self.mac(sender), body, kind=0x0800)

    def _until(self, waiting: Collection[str], fence: bytes, mark: bytes) -> set[str]:
        """Who gets a mark until all of them have got the fence."""
        waiting = set(waiting)
        found: set[str] = set()
        deadline = time.monotonic() + LIMIT
        with selectors.DefaultSelector() as selector:
            for name, opened in self.sockets.items():
                selector.register(opened, selectors.EVENT_READ, name)
            while waiting:
                left = deadline - time.monotonic()
                assert left > 0, f"the fence did not reach {sorted(waiting)}"
                for key, _ in selector.select(left):
                    for payload, _vlan in _frames(self.sockets[key.data]):
                        if mark in payload:
                            found.add(key.data)
                        if fence in payload:
                            waiting.discard(key.data)
        return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with private_lab("e", tmp_path_factory.mktemp("evasion")) as made:
        made.up(INTENT)
        yield made


@pytest.fixture(scope="module", params=NETWORKS)
def scene(running: Lab, request: pytest.FixtureRequest) -> Iterator[Scene]:
    status = netctl("status", running.name, "--json").json()
    nics = {nic["vm"]: (running.namespace(nic["vm"]), f"eth{nic['nic']}") for nic in status["nics"]}
    macs = {nic["vm"]: nic["mac"] for nic in status["nics"]}
    addresses = {nic["vm"]: nic["ip"] for nic in status["nics"]}
    addresses6 = {nic["vm"]: nic["ip6"] for nic in status["nics"]}
    for machine in status["machines"]:
        nics[machine["name"]] = running.namespace(machine["name"]), "eth0"
        macs[machine["name"]] = running.run(machine["name"], "cat", "/sys/class/net/eth0/address").strip()
    sockets = {name: _open(*place) for name, place in nics.items() if name.startswith(f"{request.param}-")}
    yield Scene(request.param, sockets, macs, addresses, addresses6)
    for opened in sockets.values():
        opened.close()


# --- frames ------------------------------------------------------------------------------------------------


def ip(
    source: str, target: str, protocol: int, body: bytes, *, fragment: int = 0, options: bytes = b""
) -> bytes:
    header = 20 + len(options)
    parts = (0x40 | header // 4, 0, header + len(body), 7, fragment, 64, protocol, 0)
    head = (
        struct.pack("!BBHHHBBH", *parts) + IPv4Address(source).packed + IPv4Address(target).packed + options
    )
    return head[:10] + struct.pack("!H", packets.checksum(head)) + head[12:] + body


def udp(source: str, target: str, data: bytes, sport: int = 5000, dport: int = 5000) -> bytes:
    return packets.datagram(IPv4Address(source), IPv4Address(target), sport, dport, data)


def tcp(source: str, target: str, flags: int, data: bytes) -> bytes:
    return packets.segment(IPv4Address(source), IPv4Address(target), (5000, 5000), (1, 1), flags, data)


def dhcp(operation: int, mac_: str, data: bytes, number: bytes = b"\0\0\0c") -> bytes:
    """BOOTP's fixed part (RFC 951) and DHCP's cookie (RFC 2131), with a marker as the host's name."""
    head = struct.pack("!BBBB4sHH16x", operation, 1, 6, 0, number, 0, 0x8000) + mac(mac_).ljust(16, b"\0")
    return head + data.ljust(192, b"\0") + b"\x63\x82\x53\x63\x35\x01\x01\xff"


Frame = Callable[[Scene, str, str, bytes], bytes | tuple[bytes, ...]]
"""Of a scene, sender, receiver and marker; a packet in fragments is several."""


def _ip(protocol: int, make: Callable[[str, str, bytes], bytes], **more: Any) -> Frame:
    def frame(scene: Scene, a: str, b: str, mark: bytes) -> bytes:
        source, target = scene.ip(a), scene.ip(b)
        body = ip(source, target, protocol, make(source, target, mark), **more)
        return ethernet(scene.mac(b), scene.mac(a), body, kind=0x0800)

    return frame


def _spoofed(mac_too: bool) -> Frame:
    def frame(scene: Scene, a: str, b: str, mark: bytes) -> bytes:
        body = ip(scene.ip("friend"), scene.ip(b), 17, udp(scene.ip("friend"), scene.ip(b), mark))
        return ethernet(scene.mac(b), scene.mac("friend" if mac_too else a), body, kind=0x0800)

    return frame


def _kind(kind: int, head: bytes = b"", tags: tuple[int, ...] = ()) -> Frame:
    def frame(scene: Scene, a: str, b: str, mark: bytes) -> bytes:
        return ethernet(scene.mac(b), scene.mac(a), head + mark, kind=kind, tags=tags)

    return frame


def _tagged(*tags: int) -> Frame:
    def frame(scene: Scene, a: str, b: str, mark: bytes) -> bytes:
        body = ip(scene.ip(a), scene.ip(b), 17, udp(scene.ip(a), scene.ip(b), mark))
        return ethernet(scene.mac(b), scene.mac(a), body, kind=0x0800, tags=tags)

    return frame


def _snap(scene: Scene, a: str, b: str, mark: bytes) -> bytes:
    """IP in IEEE 802.3 with LLC and SNAP (RFC 1042)."""
    body = ip(scene.ip(a), scene.ip(b), 17, udp(scene.ip(a), scene.ip(b), mark))
    body = b"\xaa\xaa\x03\0\0\0\x08\0" + body
    return ethernet(scene.mac(b), scene.mac(a), body, kind=len(body))


def _to_all(mac_: str, address: str, sport: int = 5000, dport: int = 5000) -> Frame:
    def frame(scene: Scene, a: str, b: str, mark: bytes) -> bytes:
        body = ip(scene.ip(a), address, 17, udp(scene.ip(a), address, mark, sport, dport))
        return ethernet(mac_, scene.mac(a), body, kind=0x0800)

    return frame


def _unicast_to_all(scene: Scene, a: str, b: str, mark: bytes) -> bytes:
    """To one by its MAC address, to all by IP."""
    body = ip(scene.ip(a), "255.255.255.255", 17, udp(scene.ip(a), "255.255.255.255", mark))
    return ethernet(scene.mac(b), scene.mac(a), body, kind=0x0800)


def _dhcp(operation: int, sport: int, dport: int, *, all_: bool, nobody: bool) -> Frame:
    def frame(scene: Scene, a: str, b: str, mark: bytes) -> bytes:
        source = "0.0.0.0" if nobody else scene.ip(a)
        target = "255.255.255.255" if all_ else scene.ip(b)
        body = ip(source, target, 17, udp(source, target, dhcp(operation, scene.mac(a), mark), sport, dport))
        return ethernet(BROADCAST if all_ else scene.mac(b), scene.mac(a), body, kind=0x0800)

    return frame


def _dhcp_to_server(scene: Scene, a: str, b: str, mark: bytes) -> bytes:
    """To the server by its IP address, to somebody else by the MAC address."""
    server = SERVERS.get(scene.net, scene.ip(b))
    body = udp(scene.ip(a), server, dhcp(2, scene.mac(a), mark), 68, 67)
    return ethernet(scene.mac(b), scene.mac(a), ip(scene.ip(a), server, 17, body), kind=0x0800)


CUT = 1208
"""Octets of a first fragment: OVS takes none for one that is shorter than 1,200."""


def _fragments(make: Callable[[Scene, str, str, bytes], tuple[str, str, str, bytes]]) -> Frame:
    """A datagram in two fragments; `make` says to which MAC address, from and to which address, and what."""

    def frame(scene: Scene, a: str, b: str, mark: bytes) -> tuple[bytes, ...]:
        target_mac, source, target, body = make(scene, a, b, mark)
        parts = (body[:CUT], 0x2000), (body[CUT:], CUT // 8)
        return tuple(
            ethernet(target_mac, scene.mac(a), ip(source, target, 17, part, fragment=fragment), kind=0x0800)
            for part, fragment in parts
        )

    return frame


def _datagram(scene: Scene, a: str, b: str, mark: bytes) -> tuple[str, str, str, bytes]:
    body = udp(scene.ip(a), scene.ip(b), mark + bytes(CUT) + mark)
    return scene.mac(b), scene.ip(a), scene.ip(b), body


def _request(scene: Scene, a: str, b: str, mark: bytes) -> tuple[str, str, str, bytes]:
    body = dhcp(1, scene.mac(a), mark) + bytes(CUT) + mark
    return BROADCAST, "0.0.0.0", "255.255.255.255", udp("0.0.0.0", "255.255.255.255", body, 68, 67)


def _poison(scene: Scene, a: str, b: str, mark: bytes) -> bytes:
    """An ARP answer that says the friend's address is the sender's."""
    body = (
        struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + mac(scene.mac(a)) + IPv4Address(scene.ip("friend")).packed
    )
    body += mac(scene.mac(b)) + IPv4Address(scene.ip(b)).packed
    return ethernet(scene.mac(b), scene.mac(a), body + mark, kind=0x0806)


def _ipv6(protocol: int, body: bytes) -> bytes:
    source, target = b"\xfe\x80" + bytes(13) + b"\x01", b"\xfe\x80" + bytes(13) + b"\x02"
    return struct.pack("!IHBB", 6 << 28, len(body) + 12, protocol, 64) + source + target + body


def _geneve(scene: Scene, a: str, b: str, mark: bytes) -> bytes:
    """A tunnel of the guest's own making, to the host that it is on."""
    inner = ethernet(scene.mac(b), scene.mac(a), mark)
    body = udp(scene.ip(a), scene.ip(b), struct.pack("!BBHI", 0, 0, 0x6558, 1 << 8) + inner, 6081, 6081)
    return ethernet(scene.mac(b), scene.mac(a), ip(scene.ip(a), scene.ip(b), 17, body), kind=0x0800)


Make6 = Callable[[IPv6Address, IPv6Address, bytes], bytes]


def _ip6(
    protocol: int, make: Make6, *, header: bytes = b"", link_local: bool = False, source: str = ""
) -> Frame:
    """An IPv6 packet from an address that its sender has, or says to have; an extension header before it."""

    def frame(scene: Scene, a: str, b: str, mark: bytes) -> bytes:
        own, target = (
            (scene.link_local(a), scene.link_local(b)) if link_local else (scene.ip6(a), scene.ip6(b))
        )
        own = scene.ip6(source) if source else own
        packet = packets.ip(own, target, protocol, header + make(own, target, mark))
        return ethernet(scene.mac(b), scene.mac(a), packet, kind=0x86DD)

    return frame


def _to_all6(scene: Scene, a: str, b: str, mark: bytes) -> bytes:
    own, every = scene.link_local(a), IPv6Address("ff02::1")
    packet = packets.ip(own, every, 17, udp6(own, every, mark))
    return ethernet("33:33:00:00:00:01", scene.mac(a), packet, kind=0x86DD)


def _tunnelled4(scene: Scene, a: str, b: str, mark: bytes) -> bytes:
    """IPv4 in IPv6 (RFC 2473)."""
    inner = ip(scene.ip(a), scene.ip(b), 17, udp(scene.ip(a), scene.ip(b), mark))
    return ethernet(scene.mac(b), scene.mac(a), packets.ip(scene.ip6(a), scene.ip6(b), 4, inner), kind=0x86DD)


def _tunnelled6(scene: Scene, a: str, b: str, mark: bytes) -> bytes:
    """IPv6 in IPv4 (RFC 4213)."""
    inner = packets.ip(scene.ip6(a), scene.ip6(b), 17, udp6(scene.ip6(a), scene.ip6(b), mark))
    return ethernet(scene.mac(b), scene.mac(a), ip(scene.ip(a), scene.ip(b), 41, inner), kind=0x0800)


def udp6(
    source: IPv6Address, target: IPv6Address, data: bytes, sport: int = 5000, dport: int = 5000
) -> bytes:
    return packets.datagram(source, target, sport, dport, data)


def tcp6(source: IPv6Address, target: IPv6Address, flags: int, data: bytes) -> bytes:
    return packets.segment(source, target, (5000, 5000), (1, 1), flags, data)


FRAMES6: dict[str, Frame] = {
    "an IPv6 datagram": _ip6(17, udp6),
    "an IPv6 datagram by link-local addresses": _ip6(17, udp6, link_local=True),
    "an IPv6 SYN": _ip6(6, lambda s, t, mark: tcp6(s, t, packets.SYN, mark)),
    "a stray IPv6 ACK": _ip6(6, lambda s, t, mark: tcp6(s, t, packets.ACK, mark)),
    "an IPv6 ping": _ip6(58, lambda s, t, mark: packets.echo_request6(s, t, 1, 2, mark)),
    "an answer to no IPv6 ping": _ip6(58, lambda s, t, mark: b"\x81\0" + bytes(2) + b"\0\1\0\2" + mark),
    "an ICMPv6 error about nothing": _ip6(
        58, lambda s, t, mark: b"\x01\x04" + bytes(6) + packets.ip(t, s, 17, udp6(t, s, mark))
    ),
    "an ICMPv6 redirect": _ip6(58, lambda s, t, mark: b"\x89\0" + bytes(6) + t.packed + s.packed + mark),
    "an unknown ICMPv6 message": _ip6(58, lambda s, t, mark: b"\xc8\0" + bytes(6) + mark),
    "a node information query": _ip6(58, lambda s, t, mark: b"\x8b\0" + bytes(14) + mark),
    "GRE over IPv6": _ip6(47, lambda s, t, mark: b"\0\0\x08\0" + mark),
    "no next header": _ip6(59, lambda s, t, mark: mark),
    "an IPv6 hop-by-hop header": _ip6(0, udp6, header=b"\x11\0\x01\x04\0\0\0\0"),
    "an IPv6 destination header": _ip6(60, udp6, header=b"\x11\0\x01\x04\0\0\0\0"),
    "an IPv6 routing header": _ip6(43, udp6, header=b"\x11\0\0\0\0\0\0\0"),
    "an IPv6 authentication header": _ip6(51, udp6, header=b"\x11\x04" + bytes(22)),
    "an IPv6 fragment that is all": _ip6(44, udp6, header=b"\x11\0\0\0\0\0\0\x07"),
    "a first IPv6 fragment": _ip6(44, udp6, header=b"\x11\0\0\x01\0\0\0\x08"),
    "a later IPv6 fragment": _ip6(
        44, lambda s, t, mark: mark.ljust(24, b"\0"), header=b"\x11\0\0\x18\0\0\0\x09"
    ),
    "IPv6 DNS's port": _ip6(17, lambda s, t, mark: udp6(s, t, mark, 53, 53)),
    "DHCPv6's ports": _ip6(17, lambda s, t, mark: udp6(s, t, mark, 546, 547)),
    "DHCPv6's ports, back": _ip6(17, lambda s, t, mark: udp6(s, t, mark, 547, 546)),
    "another's IPv6 address": _ip6(17, udp6, source="friend"),
    "an IPv6 datagram to all": _to_all6,
    "IPv4 in IPv6": _tunnelled4,
}
"""IPv6 where only IPv4 was meant, and where nothing was."""

FRAMES: dict[str, Frame] = {
    **FRAMES6,
    "IPv6 in IPv4": _tunnelled6,
    "a datagram": _ip(17, udp),
    "a SYN": _ip(6, lambda s, t, mark: tcp(s, t, packets.SYN, mark)),
    "a stray SYN-ACK": _ip(6, lambda s, t, mark: tcp(s, t, packets.SYN | packets.ACK, mark)),
    "a stray ACK": _ip(6, lambda s, t, mark: tcp(s, t, packets.ACK, mark)),
    "a stray RST": _ip(6, lambda s, t, mark: tcp(s, t, packets.RST, mark)),
    "a FIN out of nowhere": _ip(6, lambda s, t, mark: tcp(s, t, 0x01, mark)),
    "no flags at all": _ip(6, lambda s, t, mark: tcp(s, t, 0, mark)),
    "all flags at once": _ip(6, lambda s, t, mark: tcp(s, t, 0x3F, mark)),
    "half a TCP header": _ip(6, lambda s, t, mark: tcp(s, t, packets.SYN, b"")[:8] + mark),
    "a ping": _ip(1, lambda s, t, mark: packets.echo_request(1, 2, mark)),
    "an answer to no ping": _ip(1, lambda s, t, mark: b"\0\0" + struct.pack("!H", 0) + b"\0\1\0\2" + mark),
    "an ICMP error about nothing": _ip(
        1, lambda s, t, mark: b"\x03\x01" + bytes(6) + ip(t, s, 17, udp(t, s, mark))
    ),
    "an ICMP redirect": _ip(1, lambda s, t, mark: b"\x05\x01" + bytes(6) + ip(t, s, 17, udp(t, s, mark))),
    "GRE": _ip(47, lambda s, t, mark: b"\0\0\x08\0" + mark),
    "IP in IP": _ip(4, lambda s, t, mark: ip(s, t, 17, udp(s, t, mark))),
    "IGMP": _ip(2, lambda s, t, mark: b"\x16\0\0\0" + mark),
    "SCTP": _ip(132, lambda s, t, mark: bytes(12) + mark),
    "protocol 255": _ip(255, lambda s, t, mark: mark),
    "IP options": _ip(17, udp, options=b"\x94\x04\0\0"),
    "a first fragment": _ip(17, udp, fragment=0x2000),
    "a later fragment": _ip(17, lambda s, t, mark: mark.ljust(24, b"\0"), fragment=0x0003),
    "a last fragment over the ports": _ip(17, lambda s, t, mark: mark.ljust(24, b"\0"), fragment=0x0001),
    "a datagram in fragments": _fragments(_datagram),
    "a DHCP request in fragments": _fragments(_request),
    "another's IP address": _spoofed(False),
    "another's MAC and IP address": _spoofed(True),
    "another's address in an ARP answer": _poison,
    "the network's own tag": _tagged(10),
    "another network's tag": _tagged(30),
    "tag 0": _tagged(0),
    "two tags": _tagged(10, 30),
    "an 802.1ad tag": _tagged(0x88A80000 | 10),
    "IPv6": _kind(0x86DD, _ipv6(17, struct.pack("!HHHH", 1, 2, 20, 0))),
    "IPv6 with a hop-by-hop header": _kind(
        0x86DD, _ipv6(0, b"\x11\0\x01\x04\0\0\0\0" + struct.pack("!HHHH", 1, 2, 20, 0))
    ),
    "a router's advertisement": _kind(0x86DD, _ipv6(58, b"\x86\0\0\0" + bytes(12))),
    "SNAP": _snap,
    "an unknown EtherType": _kind(0x88B5),
    "MPLS": _kind(0x8847, b"\0\0\x11\x40" + b"\x45" + bytes(19)),
    "PPPoE": _kind(0x8864, b"\x11\0\0\1\0\x20\0\x21"),
    "a Geneve packet": _geneve,
    "a broadcast datagram": _to_all(BROADCAST, "255.255.255.255"),
    "a multicast datagram": _to_all("01:00:5e:01:02:03", "224.1.2.3"),
    "a datagram to all, by one MAC address": _unicast_to_all,
    "DHCP to one": _dhcp(1, 68, 67, all_=False, nobody=False),
    "a DHCP answer to one": _dhcp(2, 67, 68, all_=False, nobody=False),
    "a DHCP answer to all": _dhcp(2, 67, 68, all_=True, nobody=True),
    "a DHCP request that is an answer": _dhcp(2, 68, 67, all_=True, nobody=True),
    "a DHCP request to all": _dhcp(1, 68, 67, all_=True, nobody=True),
    "a DHCP answer by the client's port": _dhcp(2, 68, 67, all_=True, nobody=False),
    "what is no DHCP, by its ports": _to_all(BROADCAST, "255.255.255.255", 68, 67),
    "DHCP to the server, by another's MAC address": _dhcp_to_server,
    "DNS's port": _ip(17, lambda s, t, mark: udp(s, t, mark, 53, 53)),
}


@pytest.mark.parametrize("what", FRAMES)
def test_nothing_gets_out_of_quarantine(scene: Scene, what: str) -> None:
    for receiver in ("near", "far"):
        mark = marker()
        frame = FRAMES[what](scene, "evil", receiver, mark)
        assert scene.got("evil", frame, mark) == set()


@pytest.mark.parametrize("what", FRAMES)
def test_nothing_gets_into_quarantine(scene: Scene, what: str) -> None:
    for sender in ("near", "far"):
        mark = marker()
        frame = FRAMES[what](scene, sender, "evil", mark)
        assert "evil" not in scene.got(sender, frame, mark)


@pytest.mark.parametrize("what", FRAMES)
def test_nobody_takes_a_friends_place(scene: Scene, what: str) -> None:
    for sender in ("near", "far"):
        mark = marker()
        frame = FRAMES[what](scene, sender, "guarded", mark)
        assert "guarded" not in scene.got(sender, frame, mark)


@pytest.mark.parametrize("what", FRAMES)
def test_a_closed_direction_is_closed_to_everything(scene: Scene, what: str) -> None:
    for receiver in ("near", "far", "friend"):
        mark = marker()
        frame = FRAMES[what](scene, "guarded", receiver, mark)
        assert scene.got("guarded", frame, mark) == set()


@pytest.mark.parametrize("what", FRAMES6)
def test_who_may_talk_by_ipv4_may_not_by_ipv6(scene: Scene, what: str) -> None:
    for sender, receiver in (("near", "four"), ("four", "far"), ("four", "near")):
        mark = marker()
        frame = FRAMES6[what](scene, sender, receiver, mark)
        assert scene.got(sender, frame, mark) & {"four", "far" if sender == "four" else "four"} == set()


def test_the_same_frames_arrive_where_nothing_is_secured(scene: Scene) -> None:
    """So the tests above can fail: these need no more than an open network.

    Where it knows a NIC's IP address, OVN's port security lets through no EtherTypes but IP's and ARP's.
    """
    kinds = [
        "a datagram",
        "a datagram in fragments",
        "a SYN",
        "a ping",
        "GRE",
        "a broadcast datagram",
        "IP in IP",
        "SNAP",
        "an IPv6 datagram",
        "an IPv6 datagram by link-local addresses",
        "an IPv6 SYN",
        "an IPv6 ping",
        "GRE over IPv6",
        "an IPv6 datagram to all",
        "IPv4 in IPv6",
        "IPv6 in IPv4",
    ]
    # Nor does its connection tracking know what IPv6 has between its header and the transport's.
    only_here = ["an unknown EtherType", "MPLS", "an IPv6 destination header", "an IPv6 fragment that is all"]
    for what in [*kinds, *(only_here if scene.net == "old" else [])]:
        mark = marker()
        frame = FRAMES[what](scene, "near", "far", mark)
        assert "far" in scene.got("near", frame, mark), what
    mark = marker()
    assert "guarded" in scene.got("friend", FRAMES["a datagram"](scene, "friend", "guarded", mark), mark)
    for what in ("an IPv6 datagram", "an IPv6 datagram by link-local addresses", "an IPv6 SYN"):
        mark = marker()
        assert "guarded" in scene.got("friend", FRAMES[what](scene, "friend", "guarded", mark), mark), what
    for sender, receiver in (("near", "four"), ("four", "far")):
        mark = marker()
        assert receiver in scene.got(sender, FRAMES["a datagram"](scene, sender, receiver, mark), mark)
