"""Forks twice, in sessions of their own, with signals ignored; dies, and would live on."""

import os
import signal
import time


def main(world):
    for _ in range(4):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.setsid()
                for number in range(1, 32):
                    if number not in (signal.SIGKILL, signal.SIGSTOP):
                        signal.signal(number, signal.SIG_IGN)
                os.closerange(0, 256)
                time.sleep(600)
            os._exit(0)
    time.sleep(0.2)
    os.abort()
