"""Random VPCs: a small model of who reaches whom, and as which address, against what OVN makes of the rows.

The model knows nothing of OVN: it is a graph (networkx) of VMs, routers and networks outside, and a few lines
on routes, policies and NAT. OVN's side is ovn-northd on databases of its own, asked by ovn-trace; and then a
real lab, in which every VM sends real packets to everybody, and sockets in all namespaces see what comes.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import networkx as nx
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from dataplane import netns
from netctl.compile import compile_intent
from netctl.intent import loads
from netctl.model import Intent
from netctl.model.state import State
from netctl.reconcile import write
from tests.live.conftest import Lab, private_lab
from tests.live.private import Private

OUTSIDE = ("8.8.8.8", "172.16.9.9", "10.200.0.1")
"""Addresses that nobody in a lab has."""

PACKETS = (("tcp", 80), ("tcp", 25), ("udp", 53), ("icmp", 0))


@dataclass(frozen=True)
class Fate:
    """What becomes of a packet: where it comes out, and from whom it seems to be there. Nowhere: None."""

    place: str | None = None
    source: str = ""


# --- random intents ------------------------------------------------------------------------------


@st.composite
def intents(draw: st.DrawFn) -> dict[str, Any]:
    """Two VPCs with the same addresses, ways out with NAT and without, routes, policies, floating IPs."""
    subnets: dict[str, Any] = {
        "inet": {"type": "external", "vlan": 30, "cidr": "203.0.113.0/24", "gateway": "203.0.113.1"},
        "lan": {"type": "external", "vlan": 31, "cidr": "172.20.0.0/24", "gateway": "172.20.0.1"},
    }
    vpcs: dict[str, Any] = {}
    vms: dict[str, Any] = {}
    for number, vpc in enumerate(("red", "blue")):
        own = {f"{vpc}{index}": f"192.168.{index}.0/24" for index in range(draw(st.integers(1, 3)))}
        for name, cidr in own.items():
            subnets[name] = {"type": "overlay", "vpc": vpc, "cidr": cidr}
            for host in draw(st.sampled_from([["hv1"], ["hv2"], ["hv1", "hv2"], ["hv3"]])):
                last = 10 + int(host[2])
                vms[f"{name}-{host}"] = {
                    "host": host,
                    "nics": [{"subnet": name, "ip": cidr.replace(".0/24", f".{last}")}],
                }
        vpcs[vpc] = draw(_vpc(vpc, number, own, [vm for vm in vms if vm.startswith(vpc)]))
    return {
        "name": "model",
        "hosts": {"hv1": {}, "hv2": {}, "hv3": {"nics": {}}},
        "subnets": subnets,
        "vpcs": vpcs,
        "vms": vms,
    }


def _vpc(vpc: str, number: int, own: dict[str, str], vms: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    ends = [*own, "external", "any", "192.168.1.0/24", "192.168.0.11", "8.0.0.0/8"]
    policy = st.fixed_dictionaries(
        {
            "priority": st.integers(1, 1000),
            "from": st.sampled_from(ends),
            "to": st.sampled_from(ends),
            "action": st.sampled_from(["permit", "deny", {"reroute": "192.168.0.11"}]),
        },
        optional={"protocol": st.sampled_from(["tcp", "udp", "icmp"])},
    )

    @st.composite
    def made(draw: st.DrawFn) -> dict[str, Any]:
        ways = draw(st.sampled_from([[], ["inet"], ["lan"], ["inet", "lan"]]))
        result: dict[str, Any] = {"external": [], "routes": []}
        if "inet" in ways:
            result["external"].append({"subnet": "inet", "router_ip": f"203.0.113.{50 + number}"})
            if draw(st.booleans()):
                result["external"][0]["snat_ip"] = f"203.0.113.{60 + number}"
            chosen = draw(st.lists(st.sampled_from(vms), max_size=2, unique=True))
            result["floating_ips"] = {
                f"203.0.113.{100 + 10 * number + index}": vm for index, vm in enumerate(chosen)
            }
        if "lan" in ways:
            lan = {"subnet": "lan", "nat": False, "router_ip": f"172.20.0.{50 + number}"}
            result["external"].append(lan)
            if number == 0:
                result["routable"] = draw(
                    st.sampled_from([[], ["192.168.0.0/24"], ["192.168.0.0/23"], ["192.168.2.0/24"]])
                )
        for way in ways:
            prefixes = st.sampled_from(
                ["0.0.0.0/0", "8.0.0.0/8", "8.8.8.8/32", "172.16.0.0/12", "10.0.0.0/8"]
            )
            for prefix in draw(st.lists(prefixes, max_size=3, unique=True)):
                if prefix not in [route["to"] for route in result["routes"]]:
                    result["routes"].append({"to": prefix, "via": way})
        seen: set[int] = set()
        result["routing_policies"] = []
        for one in draw(st.lists(policy, max_size=4)):
            if one["priority"] not in seen:  # of two with the same, which one wins is open
                seen.add(one["priority"])
                if one.get("protocol") in ("tcp", "udp") and draw(st.booleans()):
                    one = {**one, "ports": draw(st.sampled_from([[25], [53, 80]]))}
                result["routing_policies"].append(one)
        return result

    return made()


# --- the model -----------------------------------------------------------------------------------


class Model:
    """Who reaches whom. A graph: VM - network - router - network; networks outside have no VMs."""

    def __init__(self, data: dict[str, Any], intent: Intent) -> None:
        self.data, self.intent = data, intent
        self.graph = nx.Graph()
        for name, subnet in data["subnets"].items():
            if subnet["type"] == "overlay":
                self.graph.add_edge(subnet["vpc"], name, cidr=IPv4Network(subnet["cidr"]), outside=False)
        for vpc, definition in data["vpcs"].items():
            for way in definition["external"]:
                cidr = IPv4Network(data["subnets"][way["subnet"]]["cidr"])
                self.graph.add_edge(vpc, way["subnet"], cidr=cidr, outside=True, way=way)
        for vm, definition in data["vms"].items():
            nic = definition["nics"][0]
            self.graph.add_edge(nic["subnet"], vm, ip=IPv4Address(nic["ip"]))

    def fate(self, vm: str, target: str, protocol: str, port: int) -> Fate:
        """What becomes of a packet that a VM sends."""
        nic = self.data["vms"][vm]["nics"][0]
        vpc = self.data["subnets"][nic["subnet"]]["vpc"]
        source, address = IPv4Address(nic["ip"]), IPv4Address(target)
        if address in self.graph.edges[vpc, nic["subnet"]]["cidr"]:
            return self._in(nic["subnet"], address, source)
        out = self._route(vpc, address)
        if out is not None and self._guarded(vpc, out, source):
            return Fate()
        for policy in sorted(self.data["vpcs"][vpc]["routing_policies"], key=lambda p: -p["priority"]):
            if self._matches(vpc, policy, source, address, protocol, port):
                if policy["action"] == "deny":
                    return Fate()
                if policy["action"] != "permit":
                    return self._in(f"{vpc}0", IPv4Address(policy["action"]["reroute"]), source)
                break
        if out is None:
            return Fate()
        edge = self.graph.edges[vpc, out]
        if not edge["outside"]:
            return self._in(out, address, source)
        return Fate(out, str(self._seen_as(vpc, vm, edge["way"], source)))

    def seen(self, vm: str, target: str, protocol: str, port: int) -> set[Fate]:
        """Where a real packet is seen, and from whom: also beyond a VM that it was rerouted to.

        That VM forwards: to its neighbour, or back to the router, which reroutes it again until it expires.
        """
        first = self.fate(vm, target, protocol, port)
        if first.place is None:
            return set()
        address = IPv4Address(target)
        owner = self._floating(address)
        if first.place == "inet" and owner is not None:
            first = self._inwards(owner, IPv4Address(first.source), protocol, port)
            address = self._address(owner)
        if first.place not in self.data["vms"]:
            return {first} - {Fate()}
        subnet = self.data["vms"][first.place]["nics"][0]["subnet"]
        beyond = Fate()
        if self._address(first.place) != address and address in IPv4Network(
            self.data["subnets"][subnet]["cidr"]
        ):
            beyond = self._in(subnet, address, IPv4Address(first.source))
        return {first, beyond} - {Fate()}

    def _address(self, vm: str) -> IPv4Address:
        return IPv4Address(self.data["vms"][vm]["nics"][0]["ip"])

    def _floating(self, address: IPv4Address) -> str | None:
        for vpc in self.data["vpcs"].values():
            if str(address) in vpc.get("floating_ips", {}):
                return str(vpc["floating_ips"][str(address)])
        return None

    def _inwards(self, vm: str, source: IPv4Address, protocol: str, port: int) -> Fate:
        """What comes from outside for a VM's floating IP: policies hold for it too."""
        vpc = self.data["subnets"][self.data["vms"][vm]["nics"][0]["subnet"]]["vpc"]
        for policy in sorted(self.data["vpcs"][vpc]["routing_policies"], key=lambda p: -p["priority"]):
            if self._matches(vpc, policy, source, self._address(vm), protocol, port):
                if policy["action"] == "deny":
                    return Fate()
                if policy["action"] != "permit":
                    return self._in(f"{vpc}0", IPv4Address(policy["action"]["reroute"]), source)
                break
        return Fate(vm, str(source))

    def _in(self, subnet: str, address: IPv4Address, source: IPv4Address) -> Fate:
        owners = [vm for vm in self.graph[subnet] if self.graph.edges[subnet, vm].get("ip") == address]
        return Fate(owners[0], str(source)) if owners else Fate()

    def _route(self, vpc: str, address: IPv4Address) -> str | None:
        """The network to go to: the longest prefix among those at the router and its routes."""
        table = [(edge["cidr"], network) for _, network, edge in self.graph.edges(vpc, data=True)]
        table += [(IPv4Network(route["to"]), route["via"]) for route in self.data["vpcs"][vpc]["routes"]]
        fitting = [(cidr.prefixlen, network) for cidr, network in table if address in cidr]
        return max(fitting)[1] if fitting else None

    def _guarded(self, vpc: str, out: str, source: IPv4Address) -> bool:
        prefixes = [IPv4Network(prefix) for prefix in self.data["vpcs"][vpc].get("routable", ())]
        way = self.graph.edges[vpc, out].get("way", {"nat": True})
        return not way.get("nat", True) and bool(prefixes) and not any(source in p for p in prefixes)

    def _matches(
        self,
        vpc: str,
        policy: dict[str, Any],
        source: IPv4Address,
        address: IPv4Address,
        proto: str,
        port: int,
    ) -> bool:
        if policy.get("protocol", proto) != proto or (policy.get("ports") and port not in policy["ports"]):
            return False
        return self._is(vpc, policy["from"], source) and self._is(vpc, policy["to"], address)

    def _is(self, vpc: str, end: str, address: IPv4Address) -> bool:
        own = [e["cidr"] for _, _, e in self.graph.edges(vpc, data=True) if not e["outside"]]
        if end == "any":
            return True
        if end == "external":
            return not any(address in cidr for cidr in own)
        cidr = self.graph.edges[vpc, end]["cidr"] if self.graph.has_edge(vpc, end) else IPv4Network(end)
        return address in cidr

    def _seen_as(self, vpc: str, vm: str, way: dict[str, Any], source: IPv4Address) -> IPv4Address:
        if not way.get("nat", True):
            return source
        for address, target in self.data["vpcs"][vpc].get("floating_ips", {}).items():
            if target == vm:
                return IPv4Address(address)
        return IPv4Address(way.get("snat_ip", way["router_ip"]))


# --- OVN -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ovn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Private]:
    """OVN's databases and northd, for all examples."""
    private = Private(tmp_path_factory.mktemp("model"))
    private.central()
    yield private
    private.close()


def program(ovn: Private, desired: State, intent: Intent) -> None:
    """Make the northbound database what the intent compiles to, with neighbours outside known."""
    from netctl.drivers import Databases

    with Databases(ovn.endpoints(), desired.owner) as databases:
        write(State(desired.owner, desired.northbound), databases)
    ovn.nbctl("--wait=sb", "sync")
    ovn.sbctl("--all", "destroy", "MAC_Binding")
    for way in intent.gateways:
        router = ovn.sbctl(
            "--bare", "--columns=_uuid", "find", "Datapath_Binding", f"external_ids:name={way.vpc}"
        )
        for hop in (str(intent.file.subnets[way.subnet].gateway), *OUTSIDE):
            binding = [f"logical_port={way.vpc}/{way.subnet}", f"ip={hop}", 'mac="06:00:00:00:00:01"']
            ovn.sbctl("create", "MAC_Binding", f"datapath={router.strip()}", *binding)


def trace(ovn: Private, intent: Intent, vm: str, target: str, protocol: str, port: int) -> Fate:
    """What OVN says becomes of the packet."""
    nic = intent.port(vm)
    inside = nic.network is not None and IPv4Address(target) in nic.network
    owner = next((p for p in intent.ports if p.subnet == nic.subnet and str(p.ip) == target), None)
    if inside and owner is None:
        return Fate()  # nobody answers ARP for it
    mac = owner.mac if inside and owner else "0a:58:" + IPv4Address(str(nic.gateway)).packed.hex(":")
    ports = f"{protocol}.src == 40000 && {protocol}.dst == {port}" if port else "icmp4.type == 8"
    flow = (
        f'inport == "{nic.name}" && eth.src == {nic.mac} && eth.dst == {mac} && ip4.src == {nic.ip} && '
        f"ip4.dst == {target} && ip.ttl == 64 && {protocol if port else 'icmp4'} && {ports}"
    )
    text = ovn.tool("ovn-trace", f"--db={ovn.remote('sb')}", "--minimal", "--ct=new", nic.subnet, flow)
    place = re.search(r'output\("([^"]+)"\)', text)
    source = re.findall(r"ct_snat\(ip4\.src=([0-9.]+)\)", text)
    if place is None or re.search(r"\barp \{", text):
        return Fate()  # dropped, or what comes out is the router's question for somebody who is not there
    return Fate(re.split("[/@]", place[1])[0], source[-1] if source else str(nic.ip))


@settings(
    max_examples=10,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # an example takes seconds: no time to shrink
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=intents())
def test_model_and_ovn_agree_on_every_pair(ovn: Private, data: dict[str, Any]) -> None:
    note(yaml.safe_dump(data["vpcs"], default_flow_style=None))
    intent = loads(yaml.safe_dump(data))
    program(ovn, compile_intent(intent, "unix:/nowhere"), intent)
    model = Model(data, intent)
    targets = sorted({str(port.ip) for port in intent.ports} | set(OUTSIDE))
    for vm in data["vms"]:
        for target in targets:
            if target == data["vms"][vm]["nics"][0]["ip"]:
                continue
            for protocol, port in PACKETS:
                expected = model.fate(vm, target, protocol, port)
                seen = trace(ovn, intent, vm, target, protocol, port)
                assert seen == expected, f"{vm} -> {target} {protocol}/{port}"


# --- packets -------------------------------------------------------------------------------------

EXAMPLES = int(os.environ.get("NETCTL_VPC_EXAMPLES", "2"))
"""Random VPCs that packets are sent in."""

PATIENCE = 1.5
"""Seconds without any packet until nothing more is expected."""

MACHINES = {"inet": "203.0.113.1", "lan": "172.20.0.1"}
"""Who stands for everybody in a network outside: its gateway."""


@dataclass(frozen=True)
class Sent:
    """A packet of a VM; its source port tells it from all others."""

    vm: str
    target: str
    protocol: str
    port: int


class Observers:
    """A packet socket in the namespace of every VM and machine."""

    def __init__(self, lab: str, nodes: Mapping[str, str]) -> None:
        self._sockets = {
            netns.inside(
                f"{lab}.{node}", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0x0800)
            ): name
            for node, name in nodes.items()
        }
        for each in self._sockets:
            each.bind(("eth0", 0x0800))

    def close(self) -> None:
        for each in self._sockets:
            each.close()

    def watch(self, acts: Iterator[None]) -> dict[int, set[Fate]]:
        """Act step by step, and tell what came in, by source port."""
        found: dict[int, set[Fate]] = {}
        going = True
        while True:
            if going and next(acts, self) is self:
                going = False
            ready, _, _ = select.select(list(self._sockets), [], [], 0.002 if going else PATIENCE)
            if not ready and not going:
                return found
            for each in ready:
                packet, origin = each.recvfrom(2048)
                header = (packet[0] & 15) * 4
                if origin[2] != socket.PACKET_HOST or packet[9] not in (6, 17):
                    continue
                if packet[9] == 6 and packet[header + 13] != 0x02:
                    continue  # an answer to a SYN
                number = int.from_bytes(packet[header : header + 2])
                fate = Fate(self._sockets[each], str(IPv4Address(packet[12:16])))
                found.setdefault(number, set()).add(fate)


def send(lab: str, packet: Sent, number: int) -> None:
    """Send it from the VM's own stack."""

    def act() -> None:
        kind = socket.SOCK_STREAM if packet.protocol == "tcp" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, kind) as sender:
            sender.setblocking(False)
            sender.bind(("", number))
            with contextlib.suppress(OSError):
                sender.connect((packet.target, packet.port))
                if packet.protocol == "udp":
                    sender.send(b"x")
            if packet.protocol == "tcp":
                time.sleep(0.001)

    netns.inside(f"{lab}.{packet.vm}", act)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with private_lab("model-", tmp_path_factory.mktemp("packets")) as made:
        yield made


@pytest.mark.timeout(120 + 60 * EXAMPLES)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=intents())
def test_model_and_packets_agree_on_every_pair(lab: Lab, data: dict[str, Any]) -> None:
    note(yaml.safe_dump(data["vpcs"], default_flow_style=None))
    data = {**data, "hosts": {"hv1": {}, "hv2": {}, "hv3": {}}, "physical": {}}
    for name, address in MACHINES.items():
        vlan = data["subnets"][name]["vlan"]
        data["physical"][f"{name}-gw"] = {"switch": "tor1", "vlan": vlan, "ip": f"{address}/24"}
    lab.apply(data)
    intent = loads(yaml.safe_dump(data))
    model = Model(data, intent)
    addresses = {str(port.ip) for port in intent.ports} | set(OUTSIDE) | set(MACHINES.values())
    packets = [
        Sent(vm, target, protocol, port)
        for vm in data["vms"]
        for target in sorted(addresses | _floating_ips_of_others(data, vm))
        if target != data["vms"][vm]["nics"][0]["ip"]
        for protocol, port in PACKETS
        if protocol != "icmp"
    ]
    nodes = {vm: vm for vm in data["vms"]} | {f"{name}-gw": name for name in MACHINES}
    observers = Observers(lab.name, nodes)
    try:
        acts = (send(lab.name, packet, 20000 + number) for number, packet in enumerate(packets))
        seen = observers.watch(acts)
    finally:
        observers.close()
    wrong = [
        f"{packet}: expected {expected}, seen {seen.get(20000 + number, set())}"
        for number, packet in enumerate(packets)
        if (expected := model.seen(packet.vm, packet.target, packet.protocol, packet.port))
        != seen.get(20000 + number, set())
    ]
    assert not wrong, "\n".join(wrong[:10])
    assert len(packets) > 20


def _floating_ips_of_others(data: dict[str, Any], vm: str) -> set[str]:
    own = data["subnets"][data["vms"][vm]["nics"][0]["subnet"]]["vpc"]
    return {ip for name, vpc in data["vpcs"].items() if name != own for ip in vpc.get("floating_ips", {})}
