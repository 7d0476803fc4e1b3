"""The networks as panels: VPCs with their subnets and ways out, VLANs, chains and policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netctl.cli.picture.shapes import NEUTRAL, Sheet, text_width, vpc_colours

if TYPE_CHECKING:
    from netctl.model import Intent
    from netctl.model.subnet import Subnet
    from netctl.model.vpc import Vpc

GAP = 12.0
PAD = 12.0
CHIP_HEIGHT = 38.0
LINE = 16.0
CHIPS_A_ROW = 4
MOST_LINES = 6


@dataclass(frozen=True)
class Chip:
    """A subnet: two lines of text on its colour."""

    title: str
    detail: str
    colour: str

    @property
    def width(self) -> float:
        """Pixels that it takes."""
        return max(text_width(self.title, 12, bold=True), text_width(self.detail, 10.5, mono=True)) + 26


@dataclass(frozen=True)
class Panel:
    """A titled group of chips, with lines of text under them."""

    title: str
    colour: str
    chips: Sequence[Chip] = ()
    lines: Sequence[str] = ()

    def chip_rows(self, room: float) -> list[list[Chip]]:
        """Chips row by row."""
        rows: list[list[Chip]] = [[]]
        used = 0.0
        for chip in self.chips:
            if rows[-1] and (len(rows[-1]) == CHIPS_A_ROW or used + chip.width > room - 2 * PAD):
                rows.append([])
                used = 0.0
            rows[-1].append(chip)
            used += chip.width + 8
        return rows if self.chips else []

    def size(self, room: float) -> tuple[float, float]:
        """Width and height."""
        rows = self.chip_rows(room)
        widths = [sum(chip.width for chip in row) + 8 * (len(row) - 1) for row in rows]
        widths += [text_width(line, 11) for line in self.lines]
        widths.append(text_width(self.title, 12, bold=True))
        height = 28 + len(rows) * (CHIP_HEIGHT + 8) + LINE * len(self.lines) + (4 if self.lines else 0)
        return max(widths) + 2 * PAD, height + 4

    def draw(self, sheet: Sheet, x: float, y: float, width: float, height: float, room: float) -> None:
        """The panel, stretched to the height of its row."""
        sheet.rect(x, y, width, height, colour=self.colour, radius=10, opacity=0.05)
        sheet.text(x + PAD, y + 20, self.title, "bold", 12)
        top = y + 30
        for row in self.chip_rows(room):
            left = x + PAD
            for chip in row:
                sheet.rect(left, top, chip.width, CHIP_HEIGHT, colour=chip.colour, radius=5)
                sheet.rect(left, top, 4, CHIP_HEIGHT, colour=chip.colour, radius=2, opacity=1)
                sheet.text(left + 13, top + 16, chip.title, "bold", 12)
                sheet.text(left + 13, top + 30, chip.detail, "mono", 10.5)
                left += chip.width + 8
            top += CHIP_HEIGHT + 8
        for line in self.lines:
            sheet.text(x + PAD, top + 11, line, "dim", 11)
            top += LINE


def draw(sheet: Sheet, intent: Intent, colours: Mapping[str, str], x: float, y: float, width: float) -> float:
    """All panels, in rows as wide as the picture; returns where the next part starts."""
    panels = _panels(intent, colours)
    row: list[tuple[Panel, float, float]] = []
    used = 0.0

    def flush() -> float:
        height = max(high for _, _, high in row)
        left = x
        spare = (width - used + GAP) / len(row)
        # Fill the row, but leave a lone small panel small.
        grow = spare if spare < 160 else 0.0
        for panel, wide, _ in row:
            panel.draw(sheet, left, y, wide + grow, height, width)
            left += wide + grow + GAP
        return y + height + GAP

    for panel in panels:
        wide, high = panel.size(width)
        wide = min(wide, width)
        if row and used + wide > width:
            y = flush()
            row, used = [], 0.0
        row.append((panel, wide, high))
        used += wide + GAP
    if row:
        y = flush()
    return y + 10


def _panels(intent: Intent, colours: Mapping[str, str]) -> list[Panel]:
    file = intent.file
    panels = []
    vpcs = vpc_colours(intent, dict(colours))
    for name, vpc in sorted(file.vpcs.items()):
        chips = [
            Chip(subnet, _detail(facts), colours[subnet])
            for subnet, facts in sorted(file.subnets.items())
            if facts.vpc == name
        ]
        kind = "transit VPC" if vpc.type == "transit" else "VPC"
        panels.append(Panel(f"{kind} {name}", vpcs[name], chips, _cut(_vpc_lines(vpc))))
    for kind, title in (
        ("vlan", "VLAN subnets"),
        ("vlan-basic", "VLAN basic subnets"),
        ("external", "External subnets"),
    ):
        of_kind = sorted(
            (facts.vlan or 0, subnet, facts) for subnet, facts in file.subnets.items() if facts.type == kind
        )
        if of_kind:
            chips = [Chip(subnet, _detail(facts), colours[subnet]) for _, subnet, facts in of_kind]
            panels.append(Panel(title, NEUTRAL, chips))
    orphans = [
        Chip(subnet, _detail(facts), colours[subnet])
        for subnet, facts in sorted(file.subnets.items())
        if facts.type == "overlay" and facts.vpc not in file.vpcs
    ]
    if orphans:
        panels.append(Panel("Overlay subnets", NEUTRAL, orphans))
    chains = [
        f"{name}: {' → '.join(chain.functions)}  (fail {chain.on_failure})"
        for name, chain in sorted(file.service_chains.items())
    ]
    policies = [
        f"{name}: {policy.type}" + ("" if policy.mode == "enforce" else f", {policy.mode}")
        for name, policy in sorted(file.policies.items())
    ]
    if chains and policies and len(chains) + len(policies) <= MOST_LINES:
        lines = [f"policy {line}" for line in policies] + [f"chain {line}" for line in chains]
        panels.append(Panel("Policies and chains", NEUTRAL, lines=lines))
    else:
        if policies:
            panels.append(Panel("Security policies", NEUTRAL, lines=_cut(policies)))
        if chains:
            panels.append(Panel("Service chains", NEUTRAL, lines=_cut(chains)))
    return panels


def _detail(subnet: Subnet) -> str:
    parts = []
    if subnet.type != "overlay" and subnet.vlan is not None:
        parts.append(f"VLAN {subnet.vlan}")
    if subnet.virtual_switch not in (None, "vs0"):
        parts.append(str(subnet.virtual_switch))
    if subnet.cidr is not None:
        parts.append(str(subnet.cidr))
    if subnet.answers_dhcp:
        parts.append("DHCP")
    return " ".join(parts) or "unmanaged"


def _vpc_lines(vpc: Vpc) -> list[str]:
    lines = []
    for way in vpc.external:
        kind = "NAT" if way.nat else "no NAT"
        gateways = f", gateway {', '.join(way.gateway_hosts)}" if way.gateway_hosts else ""
        lines.append(f"↗ {way.subnet}: {kind}{gateways}")
    lines += [f"floating IP {address} → {target}" for address, target in sorted(vpc.floating_ips.items())]
    for name, balancer in sorted(vpc.load_balancers.items()):
        lines.append(f"load balancer {name}: {balancer.vip}:{balancer.port} → {', '.join(balancer.backends)}")
    lines += [f"routable {prefix}" for prefix in vpc.routable]
    if vpc.routing_policies:
        count = len(vpc.routing_policies)
        lines.append(f"{count} routing polic{'y' if count == 1 else 'ies'}")
    lines += [f"attached to {name}" for name in vpc.attach]
    return lines


def _cut(lines: Sequence[str]) -> list[str]:
    if len(lines) <= MOST_LINES:
        return list(lines)
    return [*lines[: MOST_LINES - 1], f"and {len(lines) - MOST_LINES + 1} more in the file"]
