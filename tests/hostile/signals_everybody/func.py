"""What kill(-1) reaches is its own."""

import os
import signal
import time


def main(world):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        os.kill(-1, signal.SIGTERM)
        os.kill(-1, signal.SIGKILL)
    except OSError:
        pass
    time.sleep(0.5)
    return []
