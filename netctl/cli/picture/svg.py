"""The SVG: networks on top, hosts with their VMs and bridges in the middle, the fabric at the bottom.

    +--------------------------- networks: VPCs, VLANs, chains, policies ---------------------------+
    +------ hv1 ------+   +------ hv2 ------+   bare machines stand among the hosts
    |  web1    app1   |   |  web2    db1    |
    |  brAtlas  br0 ..|   |                 |
    +--eth0----eth1---+   +-----------------+
    --------o------------------o------------    one rail for each switch that hosts are cabled to
    ----------------o----------------o------
         [ tor1 ]=======[ tor2 ]

A network has one colour everywhere. Many hosts or many VMs are drawn smaller (host.Compact), in rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from netctl.cli.picture import fabric, hosts, legend
from netctl.cli.picture.shapes import Sheet, subnet_colours

if TYPE_CHECKING:
    from netctl.model import Intent

MARGIN = 28.0
GAP = 24.0
NARROWEST = 720.0
WIDEST_ROW = 1560.0


def svg(intent: Intent) -> str:
    """The picture of a lab."""
    colours = subnet_colours(intent)
    blocks = hosts.blocks(intent, colours)
    rows = _rows(blocks)
    row_width = max((_width(row) for row in rows), default=0.0)
    trunks = fabric.trunk_room(intent) if len(rows) > 1 else 0.0
    width = max(NARROWEST, row_width + trunks, fabric.width(intent))
    sheet = Sheet()
    y = _title(sheet, intent, width)
    y = legend.draw(sheet, intent, colours, MARGIN, y, width)
    wiring = fabric.Wiring(intent, MARGIN + trunks, MARGIN + width)
    for row in rows:
        x = MARGIN + trunks + (width - trunks - _width(row)) / 2
        height = max(block.height for block in row)
        for block in row:
            nics = block.draw(sheet, x, y + height - block.height)
            wiring.add(nics)
            x += block.width + GAP
        y = wiring.end_row(y + height)
    y = wiring.draw(sheet, y, MARGIN, width)
    return sheet.svg(width + 2 * MARGIN, y + MARGIN, f"{intent.name}: {intent.file.title or 'a lab'}")


def _title(sheet: Sheet, intent: Intent, width: float) -> float:
    sheet.text(MARGIN, MARGIN + 16, intent.file.title or intent.name, "bold", 19)
    parts = (
        (len(intent.hosts), "host"),
        (len(intent.file.vms), "VM"),
        (len(intent.file.vpcs), "VPC"),
        (len(intent.file.subnets), "subnet"),
        (len(intent.file.policies), "policy"),
    )
    counts = [f"{n} {what}" if n == 1 else f"{n} {_plural(what)}" for n, what in parts if n]
    sheet.text(MARGIN + width, MARGIN + 16, " · ".join(counts), "dim", 12, "end")
    if intent.file.title:
        sheet.text(MARGIN, MARGIN + 36, intent.name, "dim mono", 12)
        return MARGIN + 54
    return MARGIN + 34


def _plural(what: str) -> str:
    return what[:-1] + "ies" if what.endswith("cy") else what + "s"


def _width(row: Sequence[hosts.Block]) -> float:
    return sum(block.width for block in row) + GAP * (len(row) - 1)


def _rows(blocks: Sequence[hosts.Block]) -> list[list[hosts.Block]]:
    """Blocks in as few rows as the width allows, the rows about equally long."""
    total = _width(blocks) if blocks else 0.0
    count = max(1, -(-int(total) // int(WIDEST_ROW)))
    rows: list[list[hosts.Block]] = []
    per_row = -(-len(blocks) // count) if blocks else 1
    for start in range(0, len(blocks), per_row):
        rows.append(list(blocks[start : start + per_row]))
    return rows
