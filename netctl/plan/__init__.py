"""Desired against observed state: which rows to create, update and delete, and for what. Pure."""

from netctl.plan.difference import apply, plan

__all__ = ["apply", "plan"]
