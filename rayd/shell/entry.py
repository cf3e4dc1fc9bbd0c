"""What ``rayd.shell.launch`` starts: ``python -P <this file> <session folder>``; the argument is there for people who
read ``ps``.

A script and not ``python -m``, which would import runpy first (3 ms of every start); five lines, because a script is
compiled anew each time. ``-P`` keeps the working folder off the path, so that no file of a user's program can stand
in for a module of the daemon.
"""

import os
import sys

if __name__ == "__main__":
    # The parent found the package here; its own sys.path may have known more than an interpreter that starts afresh.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from rayd.shell.main import main

    sys.exit(main())
