"""How good is a model before any label is known? Start with `estimate`."""
