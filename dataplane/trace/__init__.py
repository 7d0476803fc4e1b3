"""Why a packet goes where it goes: what OVN decides, what every switch on the way does, and the wires.

walk   follows one packet from a NIC over all hosts and switches; a Story of stages with the verdict first
"""

from dataplane.trace.walk import Stage, Story, walk

__all__ = ["Stage", "Story", "walk"]
