"""The floor: what paho can do at most, answering in its own network thread with what came.

Run as `python -I -c SOURCE PORT REQUEST_TOPIC ANSWER_TOPIC`, until it is killed.
"""

import socket
import sys
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

port, request_topic, answer_topic = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def without_delay(_client: Client, _data: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def subscribe(client: Client, *_: Any) -> None:
    client.subscribe(request_topic, 1)


def answer(client: Client, _data: Any, message: MQTTMessage) -> None:
    client.publish(answer_topic, message.payload, message.qos)


client = Client(CallbackAPIVersion.VERSION2)
client.max_inflight_messages_set(65_535)  # the stock 20 would be the limit, and not paho
client.on_socket_open = without_delay
client.on_connect = subscribe
client.on_message = answer
client.connect("127.0.0.1", port)
client.loop_forever()
