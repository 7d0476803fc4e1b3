"""Rules for network functions and service chains."""

from __future__ import annotations

from netctl.intent.findings import Findings
from netctl.model.intent import LabFile


def functions(lab: LabFile, findings: Findings) -> None:
    """A function has what its kind and program need."""
    for name, function in lab.network_functions.items():
        path = ("network_functions", name)
        if function.image is not None and function.kind != "qemu" and findings.sound(*path, "kind"):
            findings.error(
                (*path, "image"),
                f"{name} is a namespace, it boots no image",
                "write kind: qemu as well",
                key=True,
            )
        if function.rules and function.program != "firewall" and findings.sound(*path, "program"):
            findings.error(
                (*path, "rules"),
                f"the program {function.program[:40]} takes no rules",
                "write program: firewall",
                key=True,
            )
        for index, rule in enumerate(function.rules):
            if (rule.deny is None) is (rule.allow is None) and findings.sound(*path, "rules", index):
                findings.error(
                    (*path, "rules", index),
                    "a rule allows or denies, one of them",
                    "write it such as {deny: tcp/23}",
                )
        if isinstance(function.hosts, list):
            if not function.hosts and findings.sound(*path, "hosts"):
                findings.error(
                    (*path, "hosts"), f"{name} runs on no host", "name some, or write hosts: all", key=True
                )
            for index, host in enumerate(function.hosts):
                if host in function.hosts[:index]:
                    findings.error((*path, "hosts", index), f"{host} is there twice", "write each host once")
        if not function.program.strip():
            findings.error((*path, "program"), "there is no program", "write one, such as bridge", key=True)


def chains(lab: LabFile, findings: Findings) -> None:
    """A packet passes a function once."""
    for name, chain in lab.service_chains.items():
        for index, function in enumerate(chain.functions):
            if function in chain.functions[:index]:
                findings.error(
                    ("service_chains", name, "functions", index),
                    f"{function} is in the chain {name} twice",
                    "write each function once; a second instance is a function of another name",
                )


RULES = (functions, chains)
