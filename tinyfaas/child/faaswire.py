"""Frames between the server and a worker: a header, then a body. Shared by both sides; stdlib only.

A header is the body's length, the kind of frame, and the number of the call it belongs to. The number lets the
server notice an answer that a function forged for a later call.

A function that asks for `context` has its calls in a frame of another kind, and may say more than one frame in a call:
log records, which nobody answers, and publications, each of which the server answers before the next.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct("!IBI")

CALL = 1  # server → worker: the body is the request's payload, as it came
RESULT = 2  # worker → server: the body is the result as JSON
ERROR = 3  # worker → server: the body is an object with code, error, error_type?, traceback?
READY = 4  # worker → server: func.py is loaded and `main` is callable; the body is an object, `context` if it asks
FAILED = 5  # worker → server: it is not; the body is an object with error and detail

START = 6  # server → worker: the first frame; the body is an object that says what to be

CALL_IN_CONTEXT = 7  # server → worker: as CALL; before the payload an object with id, request_id, deadline
PUBLISH = 8  # worker → server: the body is flags, the topic's length, the topic, the payload
PUBLISHED = 9  # server → worker: it is done if the body is empty; else an object with code and error
LOG = 10  # worker → server: the body is an array: level, message, and an object of fields

CONTEXT_LENGTH = struct.Struct("!H")
PUBLICATION = struct.Struct("!BH")
QOS, RETAIN, JSON = 1, 2, 4  # flags of a publication: at QoS 1, retained, its payload is JSON

# A call with bytes in it begins with a 0, which no JSON does, and the length of its JSON; the bytes of its events stand
# behind that, and in each event's place their number.
BYTES_BEHIND = struct.Struct("!BI")

LARGEST_ERROR_BYTES = 65_536
LARGEST_LOG_BYTES = 16_384
LONGEST_LOG_TEXT = 4_096  # characters
LONGEST_TOPIC_BYTES = 1_024
LARGEST_PUBLICATION_BYTES = 268_435_455  # what MQTT can hold; the server allows less
MOST_LOGS = 1_000  # of one call; what comes after is printed
MOST_PUBLICATIONS = 1_000  # of one call


def frame(kind: int, number: int, body: bytes) -> bytes:
    """One frame, ready to be sent."""
    return HEADER.pack(len(body), kind, number) + body
