"""Has the data moved? Tests on the counts of a window against those of its reference."""
