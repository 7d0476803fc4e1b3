"""Several clusters of hosts under one controller: subnets in some of them, VMs in any, a gateway in each."""

from __future__ import annotations

from tests.live.conftest import Lab, netctl

INTENT = """
clusters: {pe1: {hosts: [hv1, hv2]}, pe2: {hosts: [hv3, hv4]}}
hosts: {hv1: {}, hv2: {}, hv3: {}, hv4: {}}
subnets:
  wan: {type: external, vlan: 30, cidr: 203.0.113.0/24, gateway: 203.0.113.1}
  lan: {type: vlan, vlan: 10, cidr: 10.10.0.0/24, clusters: [pe1, pe2]}
  east: {type: vlan, vlan: 11, cidr: 10.11.0.0/24, clusters: [pe2]}
  app: {type: overlay, vpc: shop, cidr: 192.168.1.0/24}
  db: {type: overlay, vpc: shop, cidr: 192.168.2.0/24, clusters: [pe2]}
vpcs:
  shop:
    external: [{subnet: wan, gateway_hosts: [hv2, hv4]}]
    routes: [{to: 0.0.0.0/0, via: wan}]
    floating_ips: {203.0.113.60: db1}
vms:
  web1: {host: hv1, nics: [{subnet: lan}]}
  web2: {host: hv4, nics: [{subnet: lan}]}
  e1: {nics: [{subnet: east}]}
  app1: {host: hv1, nics: [{subnet: app}]}
  app2: {host: hv3, nics: [{subnet: app}]}
  db1: {nics: [{subnet: db}]}
physical: {isp: {switch: tor1, vlan: 30, ip: 203.0.113.1/24}}
checks:
  - {from: web1, to: web2}
  - {from: app1, to: app2, size: 1400}
  - {from: app1, to: db1, protocol: tcp, port: 5432}
  - {from: isp, to: 203.0.113.60, protocol: tcp, port: 22}
  - {from: app1, to: isp}
  - {from: web1, to: e1, expect: dropped}
  - name: the gateway moves to the other cluster
    steps:
      - {fail: host hv2}
      - {check: {from: app1, to: isp}, within: 10s}
      - {heal: all}
      - {check: {from: app1, to: isp}}
"""


def test_vms_of_all_clusters_reach_each_other(lab: Lab) -> None:
    lab.up(INTENT)
    told = netctl("status", lab.name, "--json").json()
    assert {host["name"]: host["cluster"] for host in told["hosts"]} == {
        "hv1": "pe1",
        "hv2": "pe1",
        "hv3": "pe2",
        "hv4": "pe2",
    }
    assert {nic["host"] for nic in told["nics"] if nic["vm"] in ("e1", "db1")} <= {"hv3", "hv4"}
    netctl("test", lab.file, "--lab", lab.name)
