"""Become a program that dies with its parent: `python broker_child.py PARENT_PID PROGRAM ARGUMENT...`

The kernel sends SIGTERM when the thread that started this process ends, however it ends; kill -9 included. It is done
here, between fork and exec, in a process of its own, because Python code run in a forked copy of a threaded process
can deadlock. Imports nothing but the standard library's smallest.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for the signal, make sure that the parent is still there to send it, and exec."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(program, sys.argv[2:])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
