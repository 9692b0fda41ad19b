"""The name under which existing scripts import :mod:`toto_patcher.runtime.compile_config`; nothing else is here."""

from toto_patcher.runtime.compile_config import PRESETS, Applied, apply

__all__ = ["PRESETS", "Applied", "apply"]
