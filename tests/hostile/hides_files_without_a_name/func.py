"""Files that are open and deleted take room that no folder shows."""

import os
import time


def main(world):
    held = []
    for _ in range(200):
        held.append(open("nameless", "wb"))
        os.unlink("nameless")
        held[-1].write(bytes(1 << 20))
        held[-1].flush()
        time.sleep(0.01)
    time.sleep(60)
