"""A worker process, from its fork to its end."""

import atexit
import contextlib
import os
import platform
import random
import signal
import socket
import sys
from typing import Any

from ray import _session
from ray._client import Client
from ray._executor import Executor
from ray._session import Session


def main(mailbox: int, session: int, wid: int, job_info: dict[str, Any], facts: dict[str, Any]) -> int:
    """Run as the worker ``wid``; called by the fork server in the child.

    Args:
        mailbox: descriptor of the receiving end of the mailbox.
        session: descriptor of the session socket.
        wid: worker id.
        job_info: what the driver said of itself; the worker takes over its sys.path and folder.
        facts: reserved for what the daemon wants the worker to know.

    Returns:
        exit code.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _take_over(job_info)
    client = Client(socket.socket(fileno=session), "worker", {"pid": os.getpid(), "python": platform.python_version()})
    executor = Executor(client, mailbox)
    _session.start(Session(client, executor=executor, runtime_env={"env_vars": job_info.get("env_vars") or {}}))
    try:
        return executor.run()
    finally:
        with contextlib.suppress(Exception):
            client.link.flush()
        atexit._run_exitfuncs()


def _take_over(job_info: dict[str, Any]) -> None:
    """Look like the driver's process where that matters to its functions."""
    path = job_info.get("sys_path")
    if path and job_info.get("elsewhere"):  # what its machine and ours have in common, if it lies in the same places
        sys.path += [folder for folder in path if folder not in sys.path]
    elif path:
        sys.path[:] = path
    with contextlib.suppress(OSError):
        os.chdir(job_info.get("cwd") or "/")
    sys.argv = [""]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # All workers are forks of one process: without this they would all draw the same numbers.
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
