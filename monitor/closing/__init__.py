"""Panes become windows, verdicts and alert transitions. Start with `closer`."""
