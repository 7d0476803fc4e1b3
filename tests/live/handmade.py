"""A lab made by hand of namespaces, veth pairs and Linux bridges, for tests of the checks themselves.

    web1  web2  web3        app1  app2      db1
      |     |     |           |     |        |
      +-- web ----+           +-app-+       db
          (no router)             +- router -+

Everything but the VMs is in the namespace LAB.sw. A VM's link can be led through a `Wire`: a thread that
passes frames on, or does with them what a broken network would.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
import select
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dataplane import netns
from netctl import intent as intents
from netctl.model import Intent

INTENT = """
name: {name}
hosts: {{hv1: {{}}}}
vpcs: {{shop: {{}}}}
subnets:
  web: {{type: vlan, vlan: 10, cidr: 10.10.0.0/24}}
  app: {{type: overlay, vpc: shop, cidr: 192.168.1.0/24, mtu: 1500}}
  db: {{type: overlay, vpc: shop, cidr: 192.168.2.0/24, mtu: 1500}}
vms:
  web1: {{host: hv1, nics: [{{subnet: web}}]}}
  web2: {{host: hv1, nics: [{{subnet: web}}]}}
  web3: {{host: hv1, nics: [{{subnet: web}}]}}
  app1: {{host: hv1, nics: [{{subnet: app}}]}}
  app2: {{host: hv1, nics: [{{subnet: app}}]}}
  db1: {{host: hv1, nics: [{{subnet: db}}]}}
"""

TRUNK = """
name: {name}
hosts: {{hv1: {{}}}}
subnets:
  vlan10: {{type: vlan, vlan: 10, cidr: 10.10.0.0/24}}
  vlan20: {{type: vlan, vlan: 20, cidr: 10.20.0.0/24}}
  vlan40: {{type: vlan, vlan: 40, cidr: 10.40.0.0/24}}
vms:
  router: {{host: hv1, nics: [{{subnet: vlan10, mode: trunk, trunked: [10, 20]}}]}}
  v10: {{host: hv1, nics: [{{subnet: vlan10}}]}}
  v20: {{host: hv1, nics: [{{subnet: vlan20}}]}}
  v21: {{host: hv1, nics: [{{subnet: vlan20}}]}}
  v40: {{host: hv1, nics: [{{subnet: vlan40}}]}}
"""

Forward = Callable[[str, bool, bytes], Sequence[tuple[str, bool, bytes]]]
"""A frame at the link of a VM, and whether it goes to the VM: to what it becomes, each the same way."""


def straight(vm: str, inbound: bool, frame: bytes) -> Sequence[tuple[str, bool, bytes]]:
    return [(vm, inbound, frame)]


class Wire:
    """The links of some VMs, in a thread."""

    def __init__(self, lab: str, vms: Sequence[str]) -> None:
        self.forward: Forward = straight
        self._ends: dict[int, tuple[str, bool, socket.socket]] = {}
        self._by: dict[tuple[str, bool], socket.socket] = {}
        self._epoll = select.epoll()
        self._stop_out, self._stop_in = os.pipe()
        self._epoll.register(self._stop_out, select.EPOLLIN)
        for vm in vms:
            for device, toward_vm in ((f"{vm}-v", True), (f"{vm}-w", False)):
                end = netns.inside(f"{lab}.sw", lambda device=device: _packet_socket(device))  # type: ignore[misc]
                self._by[vm, toward_vm] = end
                self._ends[end.fileno()] = (vm, not toward_vm, end)
                self._epoll.register(end.fileno(), select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="wire")
        self._thread.start()

    def put(self, vm: str, inbound: bool, frame: bytes) -> None:
        """Send a frame to a VM, or from it to the network."""
        self._by[vm, inbound].send(frame)

    def close(self) -> None:
        os.write(self._stop_in, b"x")
        self._thread.join()
        for end in self._by.values():
            end.close()
        self._epoll.close()
        os.close(self._stop_in)
        os.close(self._stop_out)

    def _run(self) -> None:
        while True:
            for number, _ in self._epoll.poll():
                if number == self._stop_out:
                    return
                vm, inbound, end = self._ends[number]
                with contextlib.suppress(BlockingIOError):
                    frame, ancillary, _, address = end.recvmsg(65536, socket.CMSG_SPACE(20))
                    if address[2] == socket.PACKET_OUTGOING:
                        continue
                    for _, _, data in ancillary:  # the kernel has taken the tag out of the frame
                        status, _, _, _, _, tag, _ = struct.unpack("=IIIHHHH", data[:20])
                        if status & 0x10:
                            frame = frame[:12] + b"\x81\x00" + tag.to_bytes(2) + frame[12:]
                    for each in self.forward(vm, inbound, frame):
                        self.put(*each)


def _packet_socket(device: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.setblocking(False)
    made.setsockopt(263, 8, 1)  # PACKET_AUXDATA
    made.bind((device, 3))
    return made


class VlanSwitch:
    """A learning switch, as a `Forward`: every VM of `TRUNK` on a wire, none of its bridges used.

    `members` maps a VM to its untagged VLAN and its tagged ones; tests break things by changing it.
    """

    def __init__(self) -> None:
        self.members: dict[str, tuple[int, frozenset[int]]] = {
            "router": (10, frozenset({20})),
            "v10": (10, frozenset()),
            "v20": (20, frozenset()),
            "v21": (20, frozenset()),
            "v40": (40, frozenset()),
        }
        self._learnt: dict[tuple[int, bytes], str] = {}

    def __call__(self, vm: str, inbound: bool, frame: bytes) -> Sequence[tuple[str, bool, bytes]]:
        if inbound:
            return []
        untagged, tagged = self.members[vm]
        if frame[12:14] == b"\x81\x00":
            vlan, frame = int.from_bytes(frame[14:16]) & 0xFFF, frame[:12] + frame[16:]
            if vlan not in tagged:
                return []
        else:
            vlan = untagged
        self._learnt[vlan, frame[6:12]] = vm
        known = self._learnt.get((vlan, frame[:6]))
        out: list[tuple[str, bool, bytes]] = []
        for other, (native, others) in self.members.items():
            if other == vm or (known and other != known):
                continue
            if native == vlan:
                out.append((other, True, frame))
            elif vlan in others:
                out.append((other, True, frame[:12] + b"\x81\x00" + vlan.to_bytes(2) + frame[12:]))
        return out


class Handmade:
    """The lab, and its intent with whatever checks a test wants."""

    def __init__(self, wired: Sequence[str] = (), text: str = INTENT) -> None:
        self.name = f"c{secrets.token_hex(4)}"
        self.wired, self.text = wired, text
        self.base = self.intent()

    def intent(self, *checks: str) -> Intent:
        lines = "".join(f"  - {{{check}}}\n" for check in checks)
        text = self.text.format(name=self.name) + (f"checks:\n{lines}" if lines else "")
        return intents.loads(text, supported_only=False)

    def make(self) -> None:
        sw = f"{self.name}.sw"
        ip("netns", "add", sw)
        lines = ["link set lo up"]
        for subnet in self.base.file.subnets:
            lines.append(f"link add {subnet} type bridge forward_delay 0")
            lines.append(f"link set {subnet} up")
        for subnet, gateway in {(port.subnet, port.gateway) for port in self.base.ports if port.gateway}:
            lines.append(f"addr add {gateway}/24 dev {subnet}")
        batch(sw, lines)
        self.inside("sw", lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
        for port in self.base.ports:
            vm, namespace = port.vm, f"{self.name}.{port.vm}"
            ip("netns", "add", namespace)
            outer = f"{vm}-v" if vm in self.wired else f"{vm}-p"
            lines = [f"link add {outer} type veth peer name eth0 address {port.mac} netns {namespace}"]
            if vm in self.wired:
                lines += [
                    f"link add {vm}-w type veth peer name {vm}-p",
                    f"link set {vm}-w up",
                    f"link set {outer} up",
                ]
            lines += [f"link set {vm}-p master {port.subnet} up"]
            batch(sw, lines)
            lines = ["link set lo up", "link set eth0 up", f"addr add {port.ip}/24 dev eth0"]
            if port.gateway:
                lines.append(f"route add default via {port.gateway}")
            batch(namespace, lines)
            # What leaves over a wire is copied by a program, so its checksums must be right.
            self.inside(vm, lambda: no_checksum_offload("eth0"))

    def inside(self, node: str, function: Callable[[], object]) -> object:
        return netns.inside(f"{self.name}.{node}", function)

    def run(self, node: str, *command: str) -> None:
        subprocess.run(["ip", "netns", "exec", f"{self.name}.{node}", *command], check=True)

    def remove(self) -> None:
        for name in netns.names(f"{self.name}."):
            ip("netns", "delete", name)


@contextlib.contextmanager
def handmade(*wired: str, text: str = INTENT) -> Iterator[tuple[Handmade, Wire]]:
    """The lab while it is needed, with the links of the named VMs on a wire."""
    lab = Handmade(wired, text)
    try:
        lab.make()
        wire = Wire(lab.name, wired)
        try:
            yield lab, wire
        finally:
            wire.close()
    finally:
        lab.remove()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def batch(namespace: str, lines: Sequence[str]) -> None:
    subprocess.run(["ip", "-n", namespace, "-batch", "-"], input="\n".join(lines), text=True, check=True)


def no_checksum_offload(device: str) -> None:
    """ETHTOOL_STXCSUM off (linux/ethtool.h)."""
    value = ctypes.create_string_buffer(struct.pack("II", 0x17, 0))
    request = struct.pack("16sP", device.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, 0x8946, request)  # SIOCETHTOOL
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
