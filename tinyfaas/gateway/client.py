"""A paho client made from settings: credentials, TLS, a session that lasts, and no Nagle."""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import dataclass
from typing import Any, cast

from paho.mqtt.client import Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tinyfaas.config import Mqtt
from tinyfaas.errors import ConfigError
from tinyfaas.gateway.stream import Stream


@dataclass(frozen=True, slots=True)
class Session:
    """Who connects, for what, and what the broker says in its name when it is gone without a word.

    `lasting` keeps the session over reconnects; `receive_maximum` bounds what the broker sends unacknowledged.
    """

    client_id: str
    topics: tuple[str, ...] = ()
    will: tuple[str, bytes] | None = None
    lasting: bool = True
    receive_maximum: int = 65_535


class _Client(Client):
    """Reads one packet at a time, as far as it is asked to, and reads and writes by way of a `Stream`.

    paho's own way is to read as many at once as it has answers unconfirmed. Those grow while a full server does not
    read, so that each time it took more, and the bounds of what is held meant nothing.
    """

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
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
        code = super().loop_write()
        if isinstance(self._sock, Stream):
            try:
                self._sock.flush()
            except OSError:
                return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        return code

    def want_write(self) -> bool:
        return super().want_write() or (isinstance(self._sock, Stream) and self._sock.unsent)

    def _create_socket(self) -> Any:
        return Stream(cast("socket.socket", super()._create_socket()))  # there are no websockets here


def make_client(settings: Mqtt, session: Session) -> Client:
    """A client that is ready for `reconnect()`; raises `ConfigError` for TLS files that can't be used."""
    v5 = settings.protocol == "5"
    client = _Client(
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
