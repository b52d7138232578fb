"""Reads from any network: taps, batch norm statistics, the form of its answers."""
