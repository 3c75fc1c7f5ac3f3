"""A connection to the broker, used by one thread: say something, and read on until something is there or time is up."""

from __future__ import annotations

import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tinyfaas.cli.failures import NoBroker, Refused, Unreachable, Unusable
from tinyfaas.config import Mqtt
from tinyfaas.gateway.client import Session, make_client

_TICK_S = 1.0
_WHO = (134, 135)  # bad user name or password; not authorized
_UNTOLD = "Unspecified error"  # what paho says where a broker gave no reason


class Message(NamedTuple):
    """Something that was published: `body` is its payload where that is a JSON object, else empty."""

    topic: str
    body: dict[str, Any]


class Line:
    """What paho calls back is noted; whoever waits reads on until it is there.

    `wanted` says by its bare payload whether a message is worth parsing; what comes then stands in `heard`.
    """

    def __init__(self, settings: Mqtt, wanted: Callable[[bytes], bool] = lambda _: True) -> None:
        self.where = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.where += f":{settings.port}"
        self.told: dict[str, Any] = {}
        self.heard: deque[Message] = deque()
        self._wanted = wanted
        self._v5 = settings.protocol == "5"
        self._connack: ReasonCode | None = None
        self._subacks: dict[int, ReasonCode] = {}
        self._pubacks: dict[int, ReasonCode] = {}
        self._reason = ""
        # 23 characters are what every broker must accept.
        session = Session(f"tinyfaas-cli-{secrets.token_hex(5)}", lasting=False)
        self._client = make_client(settings, session)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message

    def connect(self, until_s: float) -> None:
        """Connect and be accepted before the monotonic `until_s`; raises `Unreachable`."""
        try:
            self._client.reconnect()
        except (OSError, ValueError) as error:
            raise NoBroker(f"no broker at {self.where}: {told(error)}") from None
        if not self.wait(lambda: self._connack is not None, until_s):
            raise NoBroker(f"no broker at {self.where}: something listens there and says nothing")
        if self._connack is not None and self._connack.is_failure:
            hint = "; see TINYFAAS_MQTT_USERNAME, TINYFAAS_MQTT_PASSWORD_FILE" if self._connack.value in _WHO else ""
            raise Refused(f"the broker at {self.where} refused us: {lowered(str(self._connack))}{hint}")

    def subscribe(self, topics: Iterable[str], until_s: float, *, demanded: int = 1) -> None:
        """Subscribe; raises `Unreachable` if one of the first `demanded` is refused. Others are done without."""
        asked = [(topic, self._client.subscribe(topic, qos=1)[1]) for topic in topics]
        if not self.wait(lambda: all(mid in self._subacks for _, mid in asked), until_s):
            raise Unreachable(f"the broker at {self.where} does not answer")
        for topic, mid in asked[:demanded]:
            if mid is not None and (reason := self._subacks[mid]).is_failure:
                raise Unreachable(
                    f"the broker at {self.where} refused to let us subscribe to {topic}: {lowered(str(reason))}"
                )

    def publish(self, topic: str, payload: bytes, expiry_s: int) -> int:
        """Send a request, which the broker forgets after `expiry_s` (MQTT 5); returns its packet id.

        Raises `Unusable` for one that is too large for MQTT.
        """
        properties = None
        if self._v5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ContentType = "application/json"
            properties.MessageExpiryInterval = expiry_s
        try:
            sent = self._client.publish(topic, payload, 1, False, properties)
        except ValueError as error:
            raise Unusable(f"the request can't be sent: {told(error)}") from None
        return sent.mid

    def receipt(self, mid: int) -> ReasonCode | None:
        """What the broker has said to a request, or None while it has said nothing."""
        return self._pubacks.get(mid)

    def wait(self, met: Callable[[], bool], until_s: float) -> bool:
        """Read and write until a condition is met; False if that is not so by the monotonic `until_s`.

        Raises `Unreachable` when the connection is lost.
        """
        while not met():
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return False
            if self._client.loop(min(left_s, _TICK_S)) != MQTTErrorCode.MQTT_ERR_SUCCESS and not met():
                raise self._loss()
        return True

    def next(self, until_s: float) -> Message | None:
        """What comes next, or None if nothing does by the monotonic `until_s`. Raises `Unreachable`."""
        return self.heard.popleft() if self.wait(lambda: bool(self.heard), until_s) else None

    def close(self) -> None:
        """Say goodbye, as far as that is possible."""
        self._client.disconnect()

    def _loss(self) -> Unreachable:
        why = f": {lowered(self._reason)}" if self._reason not in ("", _UNTOLD) else ""
        if self._connack is None:
            return NoBroker(f"no broker at {self.where}: the connection was closed before a word of MQTT{why}")
        return Unreachable(f"the connection to the broker at {self.where} was lost{why}")

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, properties: Any) -> None:
        self._connack = reason
        self.told = properties.json() if properties else {}

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._reason = str(reason)

    def _on_subscribe(self, _client: Client, _data: Any, mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        self._subacks[mid] = reasons[0]

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._pubacks[mid] = reason

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if not self._wanted(bytes(message.payload)):
            return
        try:
            body = json.loads(message.payload)
        except (ValueError, RecursionError):
            body = {}
        self.heard.append(Message(message.topic, body if isinstance(body, dict) else {}))


def told(error: Exception) -> str:
    """What an error says, without its number."""
    return lowered((isinstance(error, OSError) and error.strerror) or str(error))


def lowered(text: str) -> str:
    """With a small first letter, as it stands within a sentence."""
    return text[:1].lower() + text[1:]
