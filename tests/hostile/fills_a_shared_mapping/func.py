import mmap
import time


def main(world):
    room = mmap.mmap(-1, 1 << 30)
    for at in range(0, 1 << 30, 4096):
        room[at] = 1
    time.sleep(60)
