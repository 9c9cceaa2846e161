"""Retraining in the service: what its gates look at, how a request travels, and what becomes of it."""
