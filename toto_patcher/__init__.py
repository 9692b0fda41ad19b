"""toto-patch: patch, prove and revert a vendored checkout of Datadog's Toto 1.0."""

__version__ = "0.1.0"
