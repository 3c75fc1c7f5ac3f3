"""A paho client made from settings: credentials, TLS, a session that lasts, and no Nagle."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from paho.mqtt.client import Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tinyfaas.config import Mqtt
from tinyfaas.errors import ConfigError
from tinyfaas.gateway import packets
from tinyfaas.gateway.stream import Stream
from tinyfaas.model import Publication


@dataclass(frozen=True, slots=True)
class Session:
    """Who connects, for what, and what the broker says in its name when it is gone without a word.

    `lasting` keeps the session over reconnects; `receive_maximum` bounds what the broker sends unacknowledged.
    """

    client_id: str
    will: tuple[str, bytes] | None = None
    lasting: bool = True
    receive_maximum: int = 65_535


@dataclass(slots=True)
class Received:
    """A message as it came. `properties` are paho's, or None where the message has none."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    dup: bool
    retain: bool
    properties: Properties | None


class ServerClient(Client):
    """paho's client, on a diet: it is what most of the time of an invocation was spent in.

    It reads one packet at a time, as far as it is asked to. paho's own way is to read as many at once as it has answers
    unconfirmed; those grow while a full server does not read, so that each time it took more, and the bounds of what is
    held meant nothing. It reads and writes by way of a `Stream`. And the three kinds of packet that come and go with
    each invocation take a short way, where `on_received` and `on_confirmed` are set; paho sees to all others.
    """

    on_received: Callable[[Received], None] | None = None
    on_confirmed: Callable[[], None] | None = None

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._unconfirmed: dict[int, bytes] = {}
        self._counting = threading.Lock()
        self.unconfirmed_bytes = 0  # of what `publish_packed` has published

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read so many packets, if there are."""
        for _ in range(max_packets):
            if self._sock is None:
                return MQTTErrorCode.MQTT_ERR_NO_CONN
            code = self._packet_read()
            if code > 0:
                return self._loop_rc_handle(code)
            if code == MQTTErrorCode.MQTT_ERR_AGAIN:
                break
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def loop_write(self) -> MQTTErrorCode:
        """Write what is queued, as far as the socket takes it."""
        code = super().loop_write() if self._out_packet else MQTTErrorCode.MQTT_ERR_SUCCESS
        if isinstance(self._sock, Stream):
            try:
                self._sock.flush()
            except OSError:
                return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        return code

    def want_write(self) -> bool:
        """Whether something waits to be written."""
        return super().want_write() or (isinstance(self._sock, Stream) and self._sock.unsent)

    def publish_packed(self, publication: Publication, properties: bytes) -> None:
        """As `publish`, on the short way. What the broker has not confirmed is published again by `publish_again`.

        `properties` as they go into a packet; empty for MQTT 3.1.1. Written by the next `loop_write`, behind what was
        queued before. Raises `ValueError` for more than a packet can hold.
        """
        mid = self._mid_generate() if publication.qos else 0
        packet = packets.publish(publication, mid, properties)
        if mid:
            self._count(len(packet))
            self._unconfirmed[mid] = packet
        self._write_behind(packet)

    def publish_again(self, *, session_present: bool) -> int:
        """On a new connection, publish what was not confirmed on the last; returns how much that was.

        A broker that was killed may know of an acknowledgement and not of the answer before it.
        """
        for packet in self._unconfirmed.values():
            self._write_behind(packets.again(packet) if session_present else packet)
        return len(self._unconfirmed)

    def acknowledge(self, mid: int) -> None:
        """Acknowledge a message of QoS 1."""
        self._write_behind(packets.puback(mid))

    def _count(self, unconfirmed_bytes: int) -> None:
        with self._counting:
            self.unconfirmed_bytes += unconfirmed_bytes

    def _write_behind(self, packet: bytes) -> None:
        if self._out_packet:
            super().loop_write()
        if isinstance(self._sock, Stream):  # else the connection is gone, and its end is told elsewhere
            self._sock.send(packet)

    def _packet_read(self) -> MQTTErrorCode:
        if self.on_received is None or self._in_packet["command"] or not isinstance(self._sock, Stream):
            return super()._packet_read()
        try:
            found = self._sock.packet()
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except OSError:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        if found is None:
            return super()._packet_read()
        first, body = found
        self._last_bytes_received = time.monotonic()
        if self._took_publish(first, body) or self._took_puback(first, body):
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        self._sock.put_back()
        return super()._packet_read()

    def _handle_publish(self) -> MQTTErrorCode:
        """A large one comes in several pieces, which paho puts together."""
        if self._took_publish(self._in_packet["command"], bytes(self._in_packet["packet"])):
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        return super()._handle_publish()

    def _handle_pubackcomp(self, cmd: Any) -> MQTTErrorCode:
        if self._took_puback(self._in_packet["command"], bytes(self._in_packet["packet"])):
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        return super()._handle_pubackcomp(cmd)

    def _took_publish(self, first: int, body: bytes) -> bool:
        qos, v5 = first >> 1 & 3, self._protocol == MQTTv5
        end = 2 + int.from_bytes(body[:2], "big")
        begin = end + (2 if qos else 0)  # of the properties
        if first & 0xF0 != packets.PUBLISH or self.on_received is None or qos > 1 or begin + v5 > len(body):
            return False
        properties = None
        if v5 and body[begin]:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            begin += properties.unpack(body[begin:])[1]  # type: ignore[no-untyped-call]
        elif v5:
            begin += 1
        topic = body[2:end].decode("utf-8")
        mid = int.from_bytes(body[end : end + 2], "big") if qos else 0
        self.on_received(Received(topic, body[begin:], qos, mid, bool(first & 8), bool(first & 1), properties))
        return True

    def _took_puback(self, first: int, body: bytes) -> bool:
        if first & 0xF0 != packets.PUBACK or self.on_confirmed is None:
            return False
        mid = int.from_bytes(body[:2], "big")
        if (packet := self._unconfirmed.pop(mid, None)) is not None:
            self._count(-len(packet))
        else:
            with self._out_message_mutex:
                if self._out_messages.pop(mid, None) is not None:
                    self._inflight_messages -= 1
        self.on_confirmed()
        return True

    def _create_socket(self) -> Any:
        return Stream(cast("socket.socket", super()._create_socket()))  # there are no websockets here


def make_client(settings: Mqtt, session: Session) -> ServerClient:
    """A client that is ready for `reconnect()`; raises `ConfigError` for TLS files that can't be used."""
    v5 = settings.protocol == "5"
    client = ServerClient(
        CallbackAPIVersion.VERSION2,
        client_id=session.client_id,
        clean_session=None if v5 else not session.lasting,
        protocol=MQTTv5 if v5 else MQTTv311,
        manual_ack=session.lasting,
    )
    client.connect_timeout = settings.connect_timeout_s
    client.max_inflight_messages = 0  # no bound of paho's: what is in flight is bounded by whoever publishes
    client.on_socket_open = _without_delay
    if settings.username:
        client.username_pw_set(settings.username, settings.password or None)
    if settings.tls:
        client.tls_set_context(_tls(settings))
    if session.will is not None:
        topic, payload = session.will
        client.will_set(topic, payload, qos=1, retain=True)
    if v5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = settings.session_expiry_s if session.lasting else 0
        properties.ReceiveMaximum = session.receive_maximum
        # paho's default would ask for a clean start at every connect
        client.connect_async(
            settings.host, settings.port, settings.keepalive_s, clean_start=not session.lasting, properties=properties
        )
    else:
        client.connect_async(settings.host, settings.port, settings.keepalive_s)
    return client


def _without_delay(_client: Client, _data: Any, sock: Any) -> None:
    """Nagle's algorithm and delayed acknowledgements together cost 40 ms for each answer at QoS 1."""
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _tls(settings: Mqtt) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca_file or None)
        if settings.tls_cert_file:
            context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"mqtt.tls_ca_file, tls_cert_file, tls_key_file: can't be used: {error}") from None
    return context
