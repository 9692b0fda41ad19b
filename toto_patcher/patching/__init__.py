"""Reads, plans and writes a checkout: knows libcst and files, knows nothing of torch."""
