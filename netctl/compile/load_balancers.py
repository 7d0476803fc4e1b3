"""Load balancers of a VPC (ovn-nb(5), Load_Balancer).

On its router for who comes from outside, on its switches for the VPC's own VMs.
"""

from __future__ import annotations

from netctl.compile.names import Names
from netctl.compile.rows import Rows
from netctl.model.intent import Intent
from netctl.model.state import Ref
from netctl.model.vpc import LoadBalancer

HEALTH = {"failure_count": "3", "interval": "2", "success_count": "1", "timeout": "2"}
"""A backend is asked every 2 s, and out after 3 questions without an answer."""


def references(intent: Intent, vpc: str, names: Names) -> tuple[Ref, ...]:
    """The load balancers of a VPC, for its router and its switches."""
    return tuple(
        Ref("Load_Balancer", names.load_balancer(vpc, name))
        for name in sorted(intent.file.vpcs[vpc].load_balancers)
    )


def compile_load_balancers(intent: Intent, vpc: str, names: Names, rows: Rows) -> None:
    """The load balancers of a VPC."""
    for name, balancer in intent.file.vpcs[vpc].load_balancers.items():
        _load_balancer(intent, names.load_balancer(vpc, name), name, balancer, names, rows)


def _load_balancer(
    intent: Intent, row: str, name: str, balancer: LoadBalancer, names: Names, rows: Rows
) -> None:
    why = f"load balancer {name}"
    vip = f"{balancer.vip}:{balancer.port}"
    backends: list[str] = []
    monitored: dict[str, str] = {}
    for backend in balancer.backends:
        owner, _, port = backend.rpartition(":")
        nic = intent.ports_by_name.get(owner if "/" in owner else f"{owner}/0")
        address = owner if nic is None else str(nic.ip)
        backends.append(f"{address}:{port}")
        if nic is not None and nic.gateway is not None:
            monitored[address] = f"{names.nic(nic)}:{nic.gateway}"
    check = balancer.health_check and monitored
    health = (
        rows.add_unnamed("Load_Balancer_Health_Check", row, why, vip=vip, options=HEALTH) if check else None
    )
    rows.add(
        "Load_Balancer",
        row,
        why,
        protocol=balancer.protocol,
        vips={vip: ",".join(sorted(backends))},
        # Without a backend a client is told so at once; connections to one that went end.
        options={"ct_flush": "true", "reject": "true"},
        # By a hash of the client's address. OVN's affinity_timeout would lose each client's first connection:
        # the SYN that makes it learn is dropped, and those after it too, as conntrack has seen it.
        selection_fields=("ip_src",) if balancer.affinity else (),
        ip_port_mappings=monitored if check else {},
        health_check=(health,) if health else (),
    )
