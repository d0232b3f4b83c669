"""Espial: what email and engagement platforms report, as one trustworthy stream of events."""
