"""Intent to desired rows and flows: the OVN northbound database, and Open_vSwitch of every host and switch.

Pure: the same intent gives the same rows and flows, whatever the order of the file. A feature is a file here,
whose function adds its rows to `Rows` and its flows to `FlowSet`; `compile_intent` calls them in turn.
"""

from __future__ import annotations

from netctl.compile import fabric, hosts, mlag, policies, subnets, vpcs
from netctl.compile.chains import Chaining
from netctl.compile.flows import FlowSet
from netctl.compile.names import Names
from netctl.compile.policies_rules import Policing
from netctl.compile.rows import Rows
from netctl.model.collector import paused
from netctl.model.intent import Intent
from netctl.model.state import State

__all__ = ["Names", "compile_intent"]


@paused()
def compile_intent(
    intent: Intent, southbound: str, *, datapath: str = hosts.DATAPATH, prefix: str = ""
) -> State:
    """The rows and flows that an intent needs.

    Args:
        intent: what is wanted.
        southbound: the OVSDB remote at which hosts reach the southbound database.
        datapath: the datapath type of every bridge, `netdev` (userspace) or `system` (the kernel module).
        prefix: what to put in front of all names in OVN, to keep labs apart that share one OVN.
    """
    names = Names(prefix)
    northbound = Rows(intent.name)
    policing = Policing.of(intent)
    chaining = Chaining.of(intent, policing)
    subnets.compile_subnets(intent, names, northbound)
    vpcs.compile_vpcs(intent, names, northbound)
    policies.compile_policies(intent, policing, names, northbound)
    nodes = {}
    programs = {}
    for host in intent.hosts.values():
        rows, flows = Rows(intent.name), FlowSet(intent.name)
        hosts.compile_host(intent, host, policing, chaining, names, southbound, datapath, rows, flows)
        nodes[host.name] = rows.database()
        programs[host.name] = flows.flows()
    for switch in intent.switches:
        rows, flows = Rows(intent.name), FlowSet(intent.name)
        fabric.compile_switch(intent, switch, datapath, rows)
        mlag.compile_flows(intent, switch, flows)
        nodes[switch] = rows.database()
        programs[switch] = flows.flows()
    programs = {node: found for node, found in sorted(programs.items()) if found}
    return State(intent.name, northbound.database(), dict(sorted(nodes.items())), flows=programs)
