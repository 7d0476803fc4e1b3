"""What goes out again: the dump, the JSON schema, the reference."""

import re
from pathlib import Path

import pytest
import yaml

from netctl.errors import InputError
from netctl.intent import dump, load, loads, schema
from netctl.intent.reference import reference
from netctl.intent.source import compose
from netctl.model.base import attributes
from netctl.model.intent import LabFile

ROOT = Path(__file__).parents[3]
LABS = sorted((ROOT / "tests/unit/contract").glob("*.yaml"))


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.stem)
def test_dump_of_an_intent_pins_everything(lab: Path) -> None:
    intent = load(lab, supported_only=False)
    again = loads(dump(intent), supported_only=False)
    assert again.ports == intent.ports
    assert again.hosts == intent.hosts
    assert again.placement == intent.placement
    assert {name: it.mac for name, it in again.machines.items()} == {
        n: it.mac for n, it in intent.machines.items()
    }
    assert dump(again) == dump(intent)
    assert not again.assignments.placement
    assert all(mac == "" for _, mac, _ in again.assignments.nics.values())


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.stem)
def test_dump_of_a_file_is_the_file(lab: Path) -> None:
    file = load(lab, supported_only=False).file
    assert loads(dump(file), supported_only=False).file == file
    data = compose(lab.read_text(), "f").data
    for step in [step for check in data["checks"] for step in check.get("steps", [])]:
        for key in ("within", "max_outage"):
            if key in step:  # 500ms is written 0.5s
                step[key] = f"{float(step[key][:-2]) / 1000:g}s" if step[key].endswith("ms") else step[key]
    assert yaml.safe_load(dump(file)) == data
    assert compose(dump(file), "f").data == data


def test_dump_is_what_a_person_would_write() -> None:
    assert dump(load(ROOT / "topologies/first-lab.yaml").file).splitlines()[:8] == [
        "name: first-lab",
        "title: Two hypervisors, a VLAN and a VPC",
        "hosts:",
        "  hv1: {}",
        "  hv2: {}",
        "subnets:",
        "  web: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}",
        "  app: {type: overlay, vpc: shop, cidr: 192.168.1.0/24}",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "on",
        "1e3",
        "010",
        "0o7",
        "12:30",
        "2024-01-01",
        "~",
        "",
        " a",
        "a: b",
        "#",
        "é\u2028x",
        "'",
        '"',
        "y\nz",
        "=",
        "<<",
    ],
)
def test_dump_quotes_what_needs_it(text: str) -> None:
    lab = LabFile(name="lab", title=text)
    assert loads(dump(lab)).file.title == text
    assert yaml.safe_load(dump(lab))["title"] == text, "other readers, of YAML 1.1, see the same"


def test_schema() -> None:
    made = schema()
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert list(made["properties"]) == list(attributes(LabFile))
    assert made["required"] == ["name"]
    assert made["additionalProperties"] is False
    assert made["$defs"]["Subnet"]["required"] == ["type"]
    assert made["$defs"]["Nic"]["anyOf"] == [{"required": ["subnet"]}, {"required": ["mirror"]}]
    assert made["$defs"]["Nic"]["type"] == "object"
    assert made["$defs"]["Subnet"]["properties"]["vlan"]["maximum"] == 4094
    assert made["$defs"]["Host"]["type"] == ["object", "null"]
    assert made["properties"]["vms"]["additionalProperties"] is False, "a name that is none"
    text = str(made)
    for reference_ in re.findall(r"#/\$defs/(\w+)", text):
        assert reference_ in made["$defs"]


def test_schema_accepts_the_acceptance_labs() -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator(schema())
    for lab in LABS:
        validator.validate(compose(lab.read_text(), "f").data)


def test_reference_is_up_to_date() -> None:
    written = (ROOT / "docs/reference.md").read_text()
    assert written == reference(), "run: python -m netctl.intent.reference > docs/reference.md"


def test_every_key_is_described() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", reference(), re.MULTILINE)
    assert len(rows) > 100
    assert all(about.strip() for _, about in rows)


def test_yaml_in_the_reference_loads() -> None:
    for block in re.findall(r"```yaml\n(.*?)```", reference(), re.DOTALL):
        loads(block)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("2s", 2), ("500ms", 0.5), ("1.5s", 1.5), ("1m", 60), ("1.001s", 1.001), ("24h", 86400)],
)
def test_durations(written: str, seconds: float) -> None:
    text = (
        f"name: lab\nchecks: [{{steps: [{{check: {{from: a, to: b, protocol: arp}}, within: {written}}}]}}]\n"
    )
    text += "hosts: {hv1: {}}\nsubnets: {n: {type: vlan, vlan: 1}}\n"
    text += "vms: {a: {nics: [{subnet: n}]}, b: {nics: [{subnet: n}]}}"
    file = loads(text, supported_only=False).file
    (step,) = file.checks[0].steps or ()
    assert step.within == pytest.approx(seconds)
    again = loads(dump(file), supported_only=False).file
    assert again == file
    for wrong in ("0s", "1.5", "25h", "0.1ms", "-1s", "2 seconds", "true"):
        with pytest.raises(InputError, match="is not a duration"):
            loads(text.replace(f"within: {written}", f"within: {wrong}"))
