"""Fast decoding for Toto 1.0: the context is read once, samples share it, and every step has the same shape."""

from .decoding import Decoding

__all__ = ["Decoding"]
