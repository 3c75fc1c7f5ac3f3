"""Frames between the server and a worker: a header, then a body. Shared by both sides; stdlib only.

A header is the body's length, the kind of frame, and the number of the call it belongs to. The number lets the
server notice an answer that a function forged for a later call.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct("!IBI")

CALL = 1  # server → worker: the body is the request's payload, as it came
RESULT = 2  # worker → server: the body is the result as JSON
ERROR = 3  # worker → server: the body is an object with code, error, error_type?, traceback?
READY = 4  # worker → server: func.py is loaded and `main` is callable
FAILED = 5  # worker → server: it is not; the body is an object with error and detail

START = 6  # server → worker: the first frame; the body is an object that says what to be

# A call with bytes in it begins with a 0, which no JSON does, and the length of its JSON; the bytes of its events stand
# behind that, and in each event's place their number.
BYTES_BEHIND = struct.Struct("!BI")

LARGEST_ERROR_BYTES = 65_536


def frame(kind: int, number: int, body: bytes) -> bytes:
    """One frame, ready to be sent."""
    return HEADER.pack(len(body), kind, number) + body
