"""Telling: transitions that the closers wrote become messages in the outbox, by the rules of `alerts.pipeline`."""
