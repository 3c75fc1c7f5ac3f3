"""Processes that fork and end, again and again: by the time one is to be killed, it is another."""

import os


def main(world):
    for _ in range(3):
        if os.fork() == 0:
            os.closerange(0, 256)
            while True:
                os.setsid()
                if os.fork():
                    os._exit(0)
    return []
