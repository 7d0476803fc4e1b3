"""The commands; the only place that knows both the controller and the rack."""
