"""Packets of a lab as they pass, at any of its devices (docs/capture.md).

Catalogue   the points of a lab, and what the words for them mean
Capture     listens at points; frames in the order of time
Recording   a capture into a pcapng file, in the background
"""

from dataplane.capture.observe import Capture, Frame
from dataplane.capture.points import Catalogue, Point
from dataplane.capture.recording import Recording, Writer

__all__ = ["Capture", "Catalogue", "Frame", "Point", "Recording", "Writer"]
