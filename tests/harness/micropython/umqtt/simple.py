"""A stand-in for MicroPython's umqtt.simple: its calls, its packets, on CPython's sockets.

MicroPython can't be had from Debian 12. What is asked here is whether a client that knows 3.1.1, clean sessions,
packet ids from 1, and one outstanding QoS 1 publication at a time gets along with the server.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable


class MQTTClient:
    """Connects without keep-alive and with a clean session, as umqtt.simple does."""

    def __init__(self, client_id: str, server: str, port: int = 1883) -> None:
        self._client_id = client_id.encode()
        self._address = (server, port)
        self._pid = 0
        self._callback: Callable[[bytes, bytes], None] | None = None

    def set_callback(self, callback: Callable[[bytes, bytes], None]) -> None:
        """Who gets messages."""
        self._callback = callback

    def connect(self) -> bool:
        """Connect; returns whether the broker knew the session."""
        self._socket = socket.create_connection(self._address, 30)
        self._send(b"\x10", b"\x00\x04MQTT\x04\x02\x00\x00" + _text(self._client_id))
        kind, body = self._packet()
        assert (kind, body[1]) == (0x20, 0)
        return bool(body[0] & 1)

    def disconnect(self) -> None:
        """Leave in order."""
        self._socket.sendall(b"\xe0\x00")
        self._socket.close()

    def publish(self, topic: bytes, payload: bytes, retain: bool = False, qos: int = 0) -> None:
        """Publish; at QoS 1 wait for the receipt, and hand on what comes before it."""
        body = _text(topic)
        if qos:
            self._pid += 1
            body += struct.pack("!H", self._pid)
        self._send(bytes([0x30 | qos << 1 | retain]), body + payload)
        while qos and self.wait_msg() != (0x40, struct.pack("!H", self._pid)):
            pass

    def subscribe(self, topic: bytes, qos: int = 0) -> None:
        """Subscribe, and wait until the broker has said so."""
        self._pid += 1
        self._send(b"\x82", struct.pack("!H", self._pid) + _text(topic) + bytes([qos]))
        while self.wait_msg() != (0x90, struct.pack("!HB", self._pid, qos)):
            pass

    def wait_msg(self) -> tuple[int, bytes]:
        """Wait for one packet; a message is handed on, and acknowledged after that."""
        kind, body = self._packet()
        if kind & 0xF0 == 0x30:
            end = 2 + int.from_bytes(body[:2], "big")
            qos = kind >> 1 & 3
            pid, start = body[end : end + 2], end + 2 * bool(qos)
            assert self._callback is not None
            self._callback(body[2:end], body[start:])
            if qos:
                self._send(b"\x40", pid)
        return kind, body

    def _send(self, kind: bytes, body: bytes) -> None:
        length, left = b"", len(body)
        while left > 127:
            length += bytes([left & 127 | 128])
            left >>= 7
        self._socket.sendall(kind + length + bytes([left]) + body)

    def _packet(self) -> tuple[int, bytes]:
        kind, length, shift = self._exactly(1)[0], 0, 0
        while True:
            byte = self._exactly(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            assert more, "the broker closed the connection"
            data += more
        return data


def _text(text: bytes) -> bytes:
    return struct.pack("!H", len(text)) + text
