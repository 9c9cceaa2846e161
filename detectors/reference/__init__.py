"""References: what windows are compared with. Start with `build`."""
