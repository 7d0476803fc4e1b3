"""Port mirrors (ovs-vswitchd.conf.db(5), Mirror): a NIC that gets copies, in the bridge of what it mirrors.

Open vSwitch keeps the port of such a NIC for copies alone: nothing else goes to it, and what it sends is
dropped. So it is no port of OVN's or of our flows'; ovn-controller leaves ports without `iface-id`, and
mirrors that it did not make, as they are.
"""

from __future__ import annotations

from netctl.compile.bridges import add_port
from netctl.compile.rows import Rows
from netctl.compile.subnets import OVN_TYPES
from netctl.model import basic
from netctl.model.devices import INTEGRATION_BRIDGE
from netctl.model.functions import detours
from netctl.model.intent import Hypervisor, Intent
from netctl.model.state import Ref


def compile_mirrors(intent: Intent, host: Hypervisor, rows: Rows) -> None:
    """The mirrors of a host; its bridges are among the rows already."""
    for mirror in intent.mirrors:
        if mirror.host != host.name:
            continue
        why = f"vm {mirror.vm}"
        bridge, source = _mirrored(intent, host, mirror.source)
        tap = add_port(
            rows,
            mirror.tap,
            why,
            external_ids={"attached-mac": mirror.mac, "iface-status": "active", "vm-id": mirror.vm},
            limited=mirror.rate is not None,
        )
        copies = rows.add(
            "Mirror",
            mirror.name,
            why,
            select_src_port=(source,),
            select_dst_port=(source,),
            output_port=(tap,),
        )
        rows.attach(bridge, ports=(tap,), mirrors=(copies,))


def _mirrored(intent: Intent, host: Hypervisor, source: str) -> tuple[Ref, Ref]:
    """The bridge and the port that a NIC or an uplink of this host is: an uplink in a bond is its bond."""
    name, _, device = source.partition("/")
    if name == host.name:
        bridge = next(bridge for bridge in host.bridges if device in bridge.uplinks)
        return Ref("Bridge", bridge.bridge), Ref("Port", bridge.bond if bridge.bonded else device)
    port = intent.ports_by_name[source]
    subnet = intent.file.subnets[port.subnet]
    if subnet.type in OVN_TYPES:
        bridge_name = basic.NETWORK_FUNCTIONS if detours(intent, port) else INTEGRATION_BRIDGE
        return Ref("Bridge", bridge_name), Ref("Port", port.tap)
    bridge = next(bridge for bridge in host.bridges if bridge.switch == subnet.switch)
    return Ref("Bridge", basic.local(bridge)), Ref("Port", port.tap)
