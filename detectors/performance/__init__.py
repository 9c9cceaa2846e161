"""What outcomes tell of a model: exact mergeable counts, and whether it is worse than in its reference. Start with `layout`, then `judge`."""
