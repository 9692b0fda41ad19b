"""The name that existing scripts import: ``from toto_warmup_helper import standard_warmup``."""

from toto_patcher.runtime.warmup import quick_warmup, standard_warmup, thorough_warmup, verify_warmup_effectiveness

__all__ = ["quick_warmup", "standard_warmup", "thorough_warmup", "verify_warmup_effectiveness"]
