"""Record bytes become columns. Start with `codec`."""
