"""Predictions meet their outcomes. Start with `outcomes`, then `rules`."""
