"""mount, and namespaces in which one would be root."""

import ctypes

CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000
libc = ctypes.CDLL(None, use_errno=True)


def main(world):
    got = []
    if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0:
        got.append("mount")
    if libc.umount2(b"/proc", 2) == 0:
        got.append("umount2")
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0:
        got.append("unshare")
    return got
