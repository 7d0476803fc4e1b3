"""Desired against observed state: which rows to create, update and delete, and for what. Pure."""

from netctl.plan.difference import apply, plan
from netctl.plan.halfway import halfway
from netctl.plan.withdraw import without

__all__ = ["apply", "halfway", "plan", "without"]
