"""Why did performance fall? Start with `attribute`."""
