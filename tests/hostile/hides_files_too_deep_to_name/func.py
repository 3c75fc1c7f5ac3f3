"""So many folders in folders that no path is long enough to name the last, and no recursion gets there."""

import os
import time


def main(world):
    for _ in range(1500):
        os.mkdir("deep" * 20)
        os.chdir("deep" * 20)
    for number in range(1000):
        with open(str(number), "wb") as file:
            file.write(bytes(1 << 20))
        time.sleep(0.01)
