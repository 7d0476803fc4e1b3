"""10,000 NICs load in three seconds, and twice as many in little more than twice the time."""

import time

from netctl.intent import loads


def lab(nics: int) -> str:
    hosts = [f"hv{number}" for number in range(64)]
    lines = [
        "name: big",
        f"clusters: {{a: {{hosts: [{', '.join(hosts[:32])}]}}, b: {{hosts: [{', '.join(hosts[32:])}]}}}}",
    ]
    lines += ["hosts:", *(f"  {host}: {{}}" for host in hosts)]
    lines += ["vpcs:", *(f"  vpc{number}: {{}}" for number in range(20))]
    lines += ["subnets:"]
    lines += [f"  s{n}: {{type: overlay, vpc: vpc{n % 20}, cidr: 10.{n}.0.0/20}}" for n in range(200)]
    lines += ["vms:", *(f"  vm{number}: {{nics: [{{subnet: s{number % 200}}}]}}" for number in range(nics))]
    return "\n".join(lines)


def seconds(text: str) -> float:
    best = 1e9
    for _ in range(2):
        begin = time.process_time()
        loads(text)
        best = min(best, time.process_time() - begin)
    return best


def test_ten_thousand_nics() -> None:
    small, large = seconds(lab(5_000)), seconds(lab(10_000))
    assert large < 3
    assert large < 3 * small


def test_ten_thousand_mistakes() -> None:
    text = lab(5_000).replace("subnet: s", "subnet: z") + "\nchecks:\n"
    text += "".join(f"  - {{from: wm{number}, to: vm{number}/5}}\n" for number in range(5_000))
    begin = time.process_time()
    try:
        loads(text)
    except Exception as error:
        assert len(error.problems) >= 15_000  # type: ignore[attr-defined]
    assert time.process_time() - begin < 15
