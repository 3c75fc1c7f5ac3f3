"""The functions that are measured, as code."""

from __future__ import annotations

ECHO = """\
def main(value=None):
    return value
"""

SLEEP = """\
import time


def main(seconds):
    time.sleep(seconds)
"""

COUNT = """\
def main(steps):
    x = 0
    for i in range(steps):
        x += i * i
    return x % 1000
"""

BURN = """\
import time


def main(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
"""

# Each call keeps every core busy by itself, whatever number of calls the server lets run at once.
BURN_ALL_CORES = """\
import os
import time


def main(seconds):
    end = time.monotonic() + seconds
    children = []
    for _ in range(os.cpu_count() - 1):
        child = os.fork()
        if child == 0:
            while time.monotonic() < end:
                pass
            os._exit(0)
        children.append(child)
    while time.monotonic() < end:
        pass
    for child in children:
        os.waitpid(child, 0)
"""
