"""Ways to carry a message out, one file each."""
