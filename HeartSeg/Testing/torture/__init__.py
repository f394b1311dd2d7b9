"""Robustness campaign: fuzzed files, the table of bad inputs, injected faults (``make torture``)."""
