"""``python -m rayd`` is the command ``rayd``."""

from rayd.cli import main

if __name__ == "__main__":
    main()
