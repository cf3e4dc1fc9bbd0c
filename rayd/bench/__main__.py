"""``python -m rayd.bench`` is ``rayd microbenchmark``."""

from __future__ import annotations

import sys

from rayd.bench import main

if __name__ == "__main__":
    sys.exit(main())
