"""``python -m toto_patcher`` is the same command as ``toto-patch``."""

from toto_patcher.cli import main

if __name__ == "__main__":
    main()
