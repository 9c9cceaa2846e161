"""Has the relation between data and outcome changed? One file a detector. Start with `registry`."""
