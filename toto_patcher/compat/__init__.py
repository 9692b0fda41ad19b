"""Modules under the names that existing scripts import; each only passes on what lives in ``toto_patcher.runtime``."""
