"""netctl: a virtual-network controller that turns an intent into OVN and Open vSwitch configuration."""

__version__ = "0.1.0"
