"""What of each database is ours to manage, as data; whatever is not named here is never read or written.

A row of ours carries our mark in external_ids, but for the shared rows (Open_vSwitch has one row for all). Of
a mapping only the named keys are ours, as OVN, OVS and people keep keys of their own in there; one that
stands among the columns is ours as a whole. Of a set of references only those to our rows are ours: a port
that somebody else added to our bridge is not.

`watch` names columns that are only looked at, to know how far OVN and OVS are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netctl.model.devices import INTEGRATION_BRIDGE
from netctl.model.state import NAME_KEY, OWNER_KEY, WHY_KEY

MARKS = (OWNER_KEY, WHY_KEY)
NAMED_MARKS = (NAME_KEY, OWNER_KEY, WHY_KEY)
"""The marks of a row whose table has no names of its own."""


@dataclass(frozen=True, slots=True)
class Table:
    """Our part of a table: whole columns, keys of mappings, and columns to look at.

    `key` is the column with a row's name, None for the only row of a table. `adopted` names rows that are
    ours without our mark too; rows where a column of `seen` has that value are looked at, whoever's they are.
    """

    columns: tuple[str, ...] = ()
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    watch: tuple[str, ...] = ()
    key: str | None = "name"
    shared: bool = False
    adopted: tuple[str, ...] = ()
    seen: Mapping[str, str] = field(default_factory=dict)

    @property
    def marked(self) -> bool:
        """Whether its rows carry our mark."""
        return OWNER_KEY in self.keys.get("external_ids", ())

    @property
    def monitored(self) -> tuple[str, ...]:
        """Every column that must be replicated."""
        naming = (self.key,) if self.key else ()
        return tuple(dict.fromkeys((*naming, *self.columns, *self.keys, *self.watch, *self.seen)))


def unnamed(*columns: str, **keys: tuple[str, ...]) -> Table:
    """A table whose rows have no names of their own: external_ids keep them."""
    return Table(columns, {"external_ids": NAMED_MARKS, **keys}, key="external_ids")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of database."""

    schema: str
    tables: Mapping[str, Table]


NORTHBOUND = Kind(
    "OVN_Northbound",
    {
        "Logical_Switch": Table(
            ("dns_records", "load_balancer", "ports"), {"external_ids": MARKS, "other_config": ()}
        ),
        "Logical_Switch_Port": Table(
            (
                "addresses",
                "dhcpv4_options",
                "dhcpv6_options",
                "enabled",
                "parent_name",
                "port_security",
                "tag",
                "tag_request",
                "type",
            ),
            {
                "external_ids": MARKS,
                "options": (
                    "disable_garp_rarp",
                    "nat-addresses",
                    "network_name",
                    "requested-chassis",
                    "router-port",
                ),
            },
            watch=("up",),
        ),
        "Logical_Router": Table(
            ("enabled", "load_balancer", "nat", "policies", "ports", "static_routes"), {"external_ids": MARKS}
        ),
        "Logical_Router_Port": Table(
            ("enabled", "ha_chassis_group", "ipv6_ra_configs", "mac", "networks"),
            {"external_ids": (*MARKS, "bgp-announce", "bgp-peers"), "options": ("gateway_mtu",)},
        ),
        "Port_Group": Table(("acls", "ports"), {"external_ids": MARKS}),
        "ACL": unnamed(
            "action", "direction", "log", "match", "meter", "name", "priority", "severity", "tier"
        ),
        "Address_Set": Table(("addresses",), {"external_ids": MARKS}),
        "Meter": Table(("bands", "fair", "unit"), {"external_ids": MARKS}),
        "Meter_Band": unnamed("action", "burst_size", "rate"),
        "HA_Chassis_Group": Table(("ha_chassis",), {"external_ids": MARKS}),
        "HA_Chassis": unnamed("chassis_name", "priority"),
        "NAT": unnamed(
            "external_ip", "external_mac", "gateway_port", "logical_ip", "logical_port", "match", "type"
        ),
        "Logical_Router_Static_Route": unnamed("ip_prefix", "nexthop", "output_port"),
        "Logical_Router_Policy": unnamed("action", "match", "nexthops", "priority"),
        "Load_Balancer": Table(
            ("health_check", "ip_port_mappings", "protocol", "selection_fields", "vips"),
            {"external_ids": MARKS, "options": ("ct_flush", "reject")},
        ),
        "Load_Balancer_Health_Check": unnamed(
            "vip", options=("failure_count", "interval", "success_count", "timeout")
        ),
        "DHCP_Options": unnamed("cidr", "options"),
        "DNS": unnamed("records", options=("ovn-owned",)),
        "NB_Global": Table(
            keys={"options": ("acl_ct_translation", "bfd-min-rx", "bfd-min-tx", "bfd-mult")},
            watch=("nb_cfg", "sb_cfg", "hv_cfg"),
            key=None,
            shared=True,
        ),
    },
)

SOUTHBOUND = Kind(
    "OVN_Southbound",
    {
        "Chassis": Table(watch=("name", "encaps", "other_config"), key=None),
        "Chassis_Private": Table(watch=("name", "nb_cfg"), key=None),
        "Encap": Table(watch=("ip", "type"), key=None),
        "MAC_Binding": Table(watch=("ip", "logical_port"), key=None),
        "Port_Binding": Table(watch=("logical_port", "chassis", "type", "up"), key=None),
    },
)

_INTEGRATION = (INTEGRATION_BRIDGE,)
# ovn-controller makes the integration bridge anew, without our mark, as soon as somebody deletes it.

OPEN_VSWITCH = Kind(
    "Open_vSwitch",
    {
        "Open_vSwitch": Table(
            ("bridges",),
            {
                "external_ids": (
                    "hostname",
                    "ovn-bridge",
                    "ovn-bridge-datapath-type",
                    "ovn-bridge-mappings",
                    "ovn-cms-options",
                    "ovn-encap-ip",
                    "ovn-encap-type",
                    "ovn-monitor-all",
                    "ovn-openflow-probe-interval",
                    "ovn-remote",
                    "ovn-remote-probe-interval",
                    "system-id",
                ),
                "other_config": ("vlan-limit",),
            },
            watch=("cur_cfg", "next_cfg"),
            key=None,
            shared=True,
        ),
        "Bridge": Table(
            ("datapath_type", "fail_mode", "mirrors", "ports", "rstp_enable"),
            {"external_ids": MARKS, "other_config": ("disable-in-band", "hwaddr")},
            adopted=_INTEGRATION,
        ),
        "Port": Table(
            ("bond_mode", "interfaces", "lacp", "qos", "tag", "trunks", "vlan_mode"),
            {
                "external_ids": MARKS,
                "other_config": ("lacp-fallback-ab", "lacp-system-id", "lacp-time", "rstp-port-admin-edge"),
            },
            adopted=_INTEGRATION,
        ),
        "Mirror": Table(("output_port", "select_dst_port", "select_src_port"), {"external_ids": MARKS}),
        "QoS": unnamed("type"),
        "Interface": Table(
            ("mtu_request", "type"),
            {
                "external_ids": (*MARKS, "attached-mac", "iface-id", "iface-status", "vm-id"),
                "options": ("dst_port", "key", "peer", "remote_ip"),
                "other_config": ("lacp-aggregation-key", "lacp-port-id"),
            },
            watch=("bfd", "bfd_status", "error", "ofport"),
            adopted=_INTEGRATION,
            seen={"type": "geneve"},
        ),
    },
)
