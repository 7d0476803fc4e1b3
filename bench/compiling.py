"""Compiling large intents: 10,000 NICs in 200 subnets and 20 VPCs, and twice as many of everything.

    python -m bench.compiling NICS      prints JSON: CPU seconds to load and to compile, in its own process

CPU seconds, not wall: this is one thread that waits for nothing, and so other programs do not count.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from bench import intents, machine
from bench.figures import Figure, Result, Sample, ratio

NICS = 10_000
SECONDS_LIMIT = 2.0
GROWTH_LIMIT = 2.2


def measure(runs: int, progress: Callable[[str], None]) -> Result:
    """Measure; both sizes in turn."""
    times: dict[int, list[dict[str, float]]] = {NICS: [], 2 * NICS: []}
    for number in range(1, runs + 1):
        for nics, found in times.items():
            progress(f"compile: {nics} NICs, run {number} of {runs}")
            found.append(json.loads(machine.run([sys.executable, "-m", "bench.compiling", str(nics)])))
    small, large = times.values()
    figures = []
    for name, what, limit in (
        ("compile", "compile", SECONDS_LIMIT),
        ("load", "read and check the YAML", None),
    ):
        once = Sample([run[name] for run in small])
        twice = Sample([run[name] for run in large])
        figures.append(Figure(f"{what}, {NICS:,} NICs", once, "CPU s", limit))
        figures.append(
            Figure(
                f"{what}, {2 * NICS:,} NICs",
                ratio(twice, once),
                "x",
                GROWTH_LIMIT if limit else None,
                ours=twice,
                reference=once,
                measured_in="CPU s",
            )
        )
    return Result("Compile", "half of the NICs", figures)


def once(nics: int) -> dict[str, float]:
    """CPU seconds of one load and one compile."""
    from netctl import intent as loading
    from netctl.compile import compile_intent

    text = intents.text(intents.large(nics))
    began = time.process_time()
    intent = loading.loads(text, "large.yaml")
    loaded = time.process_time()
    state = compile_intent(intent, southbound="unix:/run/sb.sock")
    compiled = time.process_time()
    assert len(intent.ports) == nics and state.northbound
    return {"load": loaded - began, "compile": compiled - loaded}


if __name__ == "__main__":
    print(json.dumps(once(int(sys.argv[1]))))
