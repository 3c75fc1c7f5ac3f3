"""ptrace, and the calls that read another's memory."""

import ctypes

ATTACH, SEIZE = 16, 0x4206
libc = ctypes.CDLL(None, use_errno=True)


class Piece(ctypes.Structure):
    _fields_ = (("at", ctypes.c_void_p), ("length", ctypes.c_size_t))


def main(world):
    got = []
    for pid in (world["server"], 1):
        for how in (ATTACH, SEIZE):
            if libc.ptrace(how, pid, None, None) == 0:
                got.append(f"ptrace {pid}")
        room = ctypes.create_string_buffer(8)
        here, there = Piece(ctypes.addressof(room), 8), Piece(id(got), 8)
        if libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) >= 0:
            got.append(f"process_vm_readv {pid}")
    return got
