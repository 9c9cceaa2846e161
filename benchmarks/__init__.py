"""Benchmarks: medians and ratios of one run, so that they can be read on any machine. `python -m benchmarks [--json] [--quick]`."""
