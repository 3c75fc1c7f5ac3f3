"""MQTT 3.1.1 as bytes: the few packets that a load needs. A client library would be slower than what it measures."""

from __future__ import annotations

PUBLISH = 0x30
QOS_1 = 0x02
ANY_QOS = 0x06
DISCONNECT = b"\xe0\x00"
ACKNOWLEDGEMENT = b"\x40\x02"  # and the two bytes of the packet id


def connect(client_id: str) -> bytes:
    """A clean session without keep-alive: a load is never silent for long, and short."""
    return _packet(0x10, _text("MQTT") + b"\x04\x02\x00\x00" + _text(client_id))


def subscribe(topic: str, qos: int) -> bytes:
    """To one topic, with packet id 1."""
    return _packet(0x82, b"\x00\x01" + _text(topic) + bytes([qos]))


def publish_head(topic: str, qos: int, payload_bytes: int) -> bytes:
    """What stands before packet id (for QoS 1) and payload; the same for all messages of one length."""
    remaining = 2 + len(topic.encode()) + (2 if qos else 0) + payload_bytes
    return bytes([PUBLISH | (QOS_1 if qos else 0)]) + _length(remaining) + _text(topic)


def frame(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """Where the body of the packet at a place begins and ends, or None while it is not all there."""
    length, shift, end = 0, 0, len(data)
    for body in range(at + 1, min(at + 5, end)):
        length |= (data[body] & 0x7F) << shift
        if data[body] < 0x80:
            return (body + 1, body + 1 + length) if body + 1 + length <= end else None
        shift += 7
    return None


def _packet(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + _length(len(body)) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def _length(number: int) -> bytes:
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | 0x80 if number else low)
        if not number:
            return bytes(out)
