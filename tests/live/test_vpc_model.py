"""Random VPCs: a small model of who reaches whom, and as which address, against what OVN makes of the rows.

The model knows nothing of OVN: it is a graph (networkx) of VMs, routers and networks outside, and a few lines
on routes, policies and NAT. OVN's side is ovn-northd on databases of its own, asked by ovn-trace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import networkx as nx
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from netctl.compile import compile_intent
from netctl.intent import loads
from netctl.model import Intent
from netctl.model.state import State
from netctl.reconcile import write
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
