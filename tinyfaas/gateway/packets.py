"""The three MQTT packets that come and go with every invocation, to and from bytes; paho sees to all others.

Pure functions. paho makes an object of each, keeps it, and takes it apart again: most of the time of an invocation.
"""

from __future__ import annotations

from tinyfaas.loops import PROPERTY
from tinyfaas.model import Publication

PUBLISH, PUBACK = 0x30, 0x40
_LARGEST = 268_435_455
_JSON = b"\x03\x00\x10application/json"  # the property Content Type
_CORRELATION, _USER = b"\x09", b"\x26"


def publish(publication: Publication, mid: int, properties: bytes) -> bytes:
    """A PUBLISH of QoS 0 or 1; `properties` with their length before them, empty for MQTT 3.1.1.

    Raises `ValueError` for more than a packet can hold.
    """
    name, payload, qos = publication.topic.encode("utf-8"), publication.payload, publication.qos
    identifier = mid.to_bytes(2, "big") if qos else b""
    length = 2 + len(name) + len(identifier) + len(properties) + len(payload)
    if length > _LARGEST or len(name) > 65_535:
        raise ValueError(f"a packet of {length} bytes is more than MQTT can carry")
    head = bytes([PUBLISH | qos << 1 | publication.retain]) + length_bytes(length)
    return b"".join((head, _measured(name), identifier, properties, payload))


def again(packet: bytes) -> bytes:
    """A PUBLISH marked as one that may have come before."""
    return bytes([packet[0] | 0x08]) + packet[1:]


def puback(mid: int) -> bytes:
    """A PUBACK that says success."""
    return b"\x40\x02" + mid.to_bytes(2, "big")


def properties(correlation: bytes | None = None, chain: str = "", *, json: bool = True) -> bytes:
    """What a message carries in MQTT 5."""
    found = _JSON if json else b""
    if correlation is not None:
        found += _CORRELATION + _measured(correlation)
    if chain:
        found += _USER + _measured(PROPERTY.encode("ascii")) + _measured(chain.encode("utf-8"))
    return length_bytes(len(found)) + found


def _measured(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def length_bytes(length: int) -> bytes:
    """A length as MQTT writes it: seven bits to a byte, the low ones first."""
    if length < 128:
        return bytes([length])
    digits = bytearray()
    while True:
        length, digit = length >> 7, length & 127
        digits.append(digit | 128 if length else digit)
        if not length:
            return bytes(digits)


def whole(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the body of the packet that begins at `at` begins and ends; None if not all of it is there."""
    length = shift = 0
    for begin in range(at + 1, min(at + 5, len(data))):
        digit = data[begin]
        length |= (digit & 127) << shift
        if digit < 128:
            end = begin + 1 + length
            return (begin + 1, end) if end <= len(data) else None
        shift += 7
    return None
