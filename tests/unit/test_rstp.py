"""Reading `rstp/show`."""

from __future__ import annotations

from dataplane.rstp import settled

SHOWN = """\
---- br ----
Root ID:
  stp-priority    32768
  This bridge is the root

  Interface  Role       State      Cost     Pri.Nbr
  ---------- ---------- ---------- -------- -------
  hv3.eth0   Designated Forwarding 2000     128.4
  printer.et Designated Discarding 2000     128.5
  tor2.0     Alternate  Discarding 2000     128.2
  tor1.0     Root       Forwarding 2000     128.3
"""


def test_a_designated_port_that_discards_is_on_its_way() -> None:
    assert not settled(SHOWN)
    assert not settled(SHOWN.replace("Designated Discarding", "Root       Learning  "))


def test_an_alternate_port_that_discards_is_where_it_belongs() -> None:
    assert settled(SHOWN.replace("Designated Discarding", "Designated Forwarding"))


def test_without_rstp_there_is_nothing_to_wait_for() -> None:
    assert settled("")
