import os
import signal


def main(world):
    got = []
    for number in (0, signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(world["server"], number)
            got.append(number)
        except OSError:
            pass
    return got
