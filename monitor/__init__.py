"""The Driftline service: sources, codec, fold, checkpoint, close, store, HTTP and the command line."""
