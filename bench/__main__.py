"""Run the benchmarks, all or those that are named: `python -m bench [NAME]...`, as root."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable

from rich.console import Console

from bench import compiling, lifecycle, machine, memory, policies, reaching, starting, throughput, vpcs
from bench.figures import Result, show
from netctl.errors import NetctlError

RESULTS = machine.HERE / "results.json"
PIPE_WIDTH = 160
BENCHMARKS = ("up-down", "memory", "compile", "throughput", "pairs", "starting", "policies", "vpcs")


def main() -> int:
    """Measure, print, write the results; returns the exit code."""
    options = _options()
    if os.geteuid() != 0:
        print(
            "bench: the benchmarks make network namespaces: run them as root (make bench does)",
            file=sys.stderr,
        )
        return 3
    benchmarks: dict[str, Callable[[], Result]] = {
        "up-down": lambda: lifecycle.measure(options.hosts, options.runs, _progress),
        "memory": lambda: memory.measure(options.idle_hosts, _progress),
        "compile": lambda: compiling.measure(max(options.runs, 3), _progress),
        "throughput": lambda: throughput.measure(options.streams, options.seconds, _progress),
        "pairs": lambda: reaching.measure(options.runs, _progress),
        "starting": lambda: starting.measure(options.runs, _progress),
        "vpcs": lambda: vpcs.measure(options.runs, _progress),
        "policies": lambda: policies.measure(options.runs, options.seconds, _progress),
    }
    results: dict[str, Result] = {}
    console = Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)
    try:
        description = machine.description()
        if not options.json:
            console.print(", ".join(f"{name} {value}" for name, value in description.items()), soft_wrap=True)
        for name in options.benchmark or benchmarks:
            results[name] = benchmarks[name]()
            if not options.json:
                show(console, results[name])
    except NetctlError as error:
        print(f"bench: {error.message}\n  {error.next_step}", file=sys.stderr)
        return error.exit_code
    found = {name: {"machine": description, **result.to_json()} for name, result in results.items()}
    earlier = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(machine.dump(earlier | found) + "\n")
    if options.json:
        print(machine.dump(found))
    missed = [figure.what for result in results.values() for figure in result.figures if figure.met is False]
    return 1 if options.check and missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure netctl against plain tools, each a ratio taken in one run.",
    )
    parser.add_argument("benchmark", nargs="*", help=f"{', '.join(BENCHMARKS)}; all of them when left out")
    parser.add_argument("--hosts", type=_numbers, default=[2, 8, 32], help="sizes of up-down (2,8,32)")
    parser.add_argument("--idle-hosts", type=_numbers, default=[8, 32], help="sizes of memory (8,32)")
    parser.add_argument("--runs", type=int, default=3, help="runs of all but memory and throughput (3)")
    parser.add_argument("--streams", type=int, default=8, help="TCP streams per rack and network (8)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a TCP stream (2)")
    parser.add_argument("--json", action="store_true", help=f"print JSON only; {RESULTS} gets it anyway")
    parser.add_argument("--check", action="store_true", help="exit code 1 when a target is missed")
    options = parser.parse_args()
    for name in options.benchmark:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name}: {', '.join(BENCHMARKS)}")
    return options


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _progress(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
