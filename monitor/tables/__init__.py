"""Tables as references and as sources. Start with `load`."""
