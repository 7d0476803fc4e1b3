"""Security policies: what compiling many costs, how many flows a rule is, what br.microseg costs a packet.

    python -m bench.policies      prints JSON: CPU seconds to compile 1,000 policies over 10,000 NICs

The throughput is of one TCP stream across two hosts in a VLAN basic subnet, established and allowed by one
rule among others, against the same lab with no more than that rule.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import intents, machine
from bench.figures import Figure, Result, Sample, ratio
from netctl.errors import ChangeError

NICS, POLICIES, RULES = 10_000, 1_000, 10
SECONDS_LIMIT = 3.0
FLAT = 0.9
"""How much of the throughput with one rule there must be with many."""

LONGER = 4
"""How many times as long as other streams: the first second after 10,000 rules came belongs to them."""

MANY = (100, 10_000)
LAB, PORT, ADDRESS = "bench-policies", 5001, "10.20.0.12"
SOUTHBOUND = "unix:/run/sb.sock"


def measure(runs: int, seconds: float, progress: Callable[[str], None]) -> Result:
    """Measure all three."""
    found = []
    for number in range(1, runs + 1):
        progress(f"policies: compile, run {number} of {runs}")
        found.append(json.loads(machine.run([sys.executable, "-m", "bench.policies"])))
    what = f"compile {POLICIES:,} policies x {RULES} rules over {NICS:,} NICs"
    figures = [Figure(what, Sample([run["compile"] for run in found]), "CPU s", SECONDS_LIMIT)]
    for peers, services in ((10, 10), (100, 20)):
        ours, naive = flows_of_a_rule(peers, services), peers * services
        figures.append(
            Figure(
                f"flows of a rule with {peers} peers and {services} services",
                Sample([ours / naive]),
                "x",
                (peers + services + 2) / naive,
                ours=Sample([ours]),
                reference=Sample([naive]),
                measured_in="flows",
            )
        )
    figures += _throughput(runs, seconds, progress)
    return Result("Security policies", "the naive product of flows; one rule", figures)


def many() -> intents.Document:
    """10,000 VMs in apps of ten; each app has a policy that names its neighbours' as peers."""
    data = intents.large(NICS)
    for number, vm in enumerate(data["vms"].values()):
        vm["categories"] = {"App": f"a{number // 10 % POLICIES}", "Env": ("prod", "dev")[number % 2]}

    def rule(policy: int, other: int) -> dict[str, Any]:
        return {"App": f"a{(policy + other + 1) % POLICIES}"}

    data["policies"] = {
        f"p{policy}": {
            "type": "application",
            "secured": {"App": f"a{policy}"},
            "inbound": [
                {"from": rule(policy, other), "services": [f"tcp/{8000 + other}"]}
                for other in range(RULES // 2)
            ],
            "outbound": [
                {"to": rule(policy, other), "services": [f"tcp/{8000 + other}"]}
                for other in range(RULES // 2)
            ],
        }
        for policy in range(POLICIES)
    }
    return data


def once() -> dict[str, float]:
    """CPU seconds of one compile."""
    from netctl import intent as loading
    from netctl.compile import compile_intent

    intent = loading.loads(intents.text(many()), "policies.yaml")
    began = time.process_time()
    state = compile_intent(intent, southbound=SOUTHBOUND)
    compiled = time.process_time()
    assert any(table == "ACL" for table, _ in state.northbound)
    return {"compile": compiled - began}


def flows_of_a_rule(peers: int, services: int) -> int:
    """How many flows of br.microseg one rule is, for one NIC."""
    from netctl import intent as loading
    from netctl.compile import compile_intent

    def flows(rules: list[dict[str, Any]]) -> int:
        data = pair(rules)
        data["address_groups"] = {"peers": [f"10.{number}.0.0/16" for number in range(peers)]}
        intent = loading.loads(intents.text(data), "rule.yaml")
        return len(compile_intent(intent, southbound=SOUTHBOUND).flows["hv2"])

    listed = [f"tcp/{2 * number + 1}" for number in range(services)]
    return flows([{"from": "peers", "services": listed}]) - flows([])


def pair(rules: list[dict[str, Any]]) -> intents.Document:
    """Two VMs on two hosts in a VLAN basic subnet; the receiver has these rules, all in one policy."""
    return {
        "name": LAB,
        "hosts": {"hv1": {}, "hv2": {}},
        "subnets": {"old": {"type": "vlan-basic", "vlan": 20, "cidr": "10.20.0.0/24"}},
        "vms": {
            "a": {"host": "hv1", "nics": [{"subnet": "old", "ip": "10.20.0.11"}]},
            "b": {
                "host": "hv2",
                "categories": {"Tier": "app"},
                "nics": [{"subnet": "old", "ip": ADDRESS}],
            },
        },
        "policies": {"app": {"type": "application", "secured": {"Tier": "app"}, "inbound": rules}},
    }


def _throughput(runs: int, seconds: float, progress: Callable[[str], None]) -> list[Figure]:
    allowed = {"from": "10.20.0.0/24", "services": [f"tcp/{PORT}"]}
    found: dict[int, list[float]] = {1: [], **{count: [] for count in MANY}}
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "policies.yaml"
        try:
            for number in range(1, runs + 1):
                for count, streams in found.items():
                    progress(f"policies: {count} rules, run {number} of {runs}")
                    others = [
                        {
                            "from": f"10.{100 + index // 256}.{index % 256}.0/24",
                            "services": [f"tcp/{index + 1}"],
                        }
                        for index in range(count - 1)
                    ]
                    file.write_text(intents.text(pair([*others, allowed])))
                    machine.run([machine.NETCTL, "apply", str(file)])
                    streams.append(_stream(LONGER * seconds))
        finally:
            machine.run([machine.NETCTL, "down", LAB])
    one = Sample(found[1])
    return [
        Figure(
            f"TCP through br.microseg with {count:,} rules",
            ratio(Sample(found[count]), one),
            "x",
            FLAT,
            at_least=True,
            ours=Sample(found[count]),
            reference=one,
            measured_in="Mbit/s",
        )
        for count in MANY
    ]


def _stream(seconds: float) -> float:
    """Mbit/s of one TCP stream."""
    script = str(machine.HERE / "stream.py")
    inside = ("ip", "netns", "exec")
    receiver = subprocess.Popen(
        [*inside, f"{LAB}.b", sys.executable, script, "receive", str(PORT)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert receiver.stdout is not None
        if receiver.stdout.readline().strip() != "listening":
            raise ChangeError(f"the receiver in {LAB}.b does not start")
        said = machine.run(
            [*inside, f"{LAB}.a", sys.executable, script, "send", ADDRESS, str(PORT), str(seconds)]
        )
        receiver.wait(timeout=machine.LIMIT)
    finally:
        receiver.kill()
        receiver.communicate()
    sent = json.loads(said)
    return float(sent["bytes"]) * 8 / float(sent["seconds"]) / 1e6


if __name__ == "__main__":
    print(json.dumps(once()))
