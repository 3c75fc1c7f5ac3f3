"""A folder without the right to read is written to, and can't be listed."""

import os
import time


def main(world):
    os.mkdir("closed")
    os.chmod("closed", 0o300)
    for number in range(1000):
        with open(f"closed/{number}", "wb") as file:
            file.write(bytes(1 << 20))
        time.sleep(0.01)
