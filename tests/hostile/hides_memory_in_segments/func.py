"""A shared memory segment (System V) lasts while nobody is attached to it, and longer than who made it."""

import ctypes

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p


def main(world):
    got = []
    for _ in range(16):
        segment = libc.shmget(0, 16 << 20, 0o1600)
        if segment < 0:
            continue
        at = libc.shmat(segment, None, 0)
        ctypes.memset(at, 1, 16 << 20)
        libc.shmdt(ctypes.c_void_p(at))
        got.append(segment)
    return got
