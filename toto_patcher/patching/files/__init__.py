"""How bytes get into a checkout: checks, lock, journal, moves and recovery. The door is ``patching/transaction.py``."""
