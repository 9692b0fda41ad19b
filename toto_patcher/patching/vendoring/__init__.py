"""Where a Toto comes from and how it is laid down. The door is ``patching/vendor.py``."""
