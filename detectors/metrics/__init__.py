"""The metrics with their intervals, from the counts of `detectors.performance.judge`. Start with `registry`."""
