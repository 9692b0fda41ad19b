"""Proves that a patched checkout computes what the original computes: knows torch, runs trees in child processes."""
