import os
import time


def main(world):
    for _ in range(8):
        if os.fork() == 0:
            held = bytearray(os.urandom(1 << 20)) * 32
            time.sleep(60)
            print(len(held))
    time.sleep(60)
