"""Trains the small model that travels with the package, on series made here, and judges it on real ones."""
