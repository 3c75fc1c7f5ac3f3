"""What memfd_create makes is memory that no process maps and no folder shows."""

import os
import time


def main(world):
    for _ in range(32):
        file = os.memfd_create("full")
        for _ in range(32):
            os.write(file, bytes(1 << 20))
    time.sleep(60)
