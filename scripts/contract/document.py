"""docs/asyncapi.yaml: the contract as AsyncAPI 3, from what the server knows of topics, errors and settings.

The application that it describes is the server: it receives requests, and sends answers.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import yaml

from scripts.contract.answers import ANSWERS, OPEN, REPORTS, TOLD
from scripts.contract.examples import examples_of
from scripts.contract.requests import REQUESTS
from scripts.contract.shapes import SHARED, TEXT, ref
from tinyfaas.config import Mqtt
from tinyfaas.fields import fields_of
from tinyfaas.protocol import COMMANDS, NAMED_COMMANDS, Topics

ROOT = Path(__file__).resolve().parents[2]
_TOPICS = Topics("faas")
_FUNCTION = "{function}"
_NODE = "pi-01"
_MQTT = {"bindingVersion": "0.2.0"}
_REPLY_TOPIC = "$message.header#/responseTopic"

_PARAMETERS: dict[str, dict[str, Any]] = {
    "function": {"description": "1 to 63 of A-Z a-z 0-9 _ -, the first a letter or digit.", "examples": ["hello"]},
    "node": {"description": "The node's name.", "examples": [_NODE]},
    "command": {"description": "A command about one function.", "enum": list(NAMED_COMMANDS)},
}
# Of each command the message that answers it.
_DONE = {command: f"{command}Done" for command in COMMANDS}


def asyncapi() -> str:
    """The document, as a file."""
    head = "---\n# Made by scripts/docs.py from scripts/contract and the server's code; not to be edited here.\n"
    plain = json.loads(json.dumps(document()))  # no object twice: YAML would make anchors of them
    return head + yaml.dump(plain, Dumper=_Indenting, sort_keys=False, allow_unicode=True, width=110)


class _Indenting(yaml.SafeDumper):
    """Writes lists as yamllint wants them: further in than the key they belong to."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)


def document() -> dict[str, Any]:
    """The document, as an object."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    made: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {
            "title": project["name"],
            "version": project["version"],
            "description": (
                "Functions over MQTT: all that a client sends, and all that it gets back. It works with MQTT 3.1.1 and "
                "5; properties are those of 5. `faas` is the setting `mqtt.base_topic`, `faas/response` the setting "
                "`mqtt.response_topic`. Objects that the server sends have the keys given here and no others; in "
                "requests it ignores what it does not know. The application described is the server. docs/protocol.md "
                "says the same in words."
            ),
            "license": {"name": project["license"]},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages(), "messageBindings": _message_bindings(), "schemas": SHARED},
    }
    for name, found in examples_of(made, ROOT).items():
        if found:
            made["components"]["messages"][name]["examples"] = found
    return made


def _servers() -> dict[str, Any]:
    defaults = {name: field.default for name, field in fields_of(Mqtt).items()}
    bindings = {
        "clientId": f"tinyfaas-{_NODE}-admin",
        "cleanSession": False,
        "sessionExpiryInterval": defaults["session_expiry_s"],
        "keepAlive": defaults["keepalive_s"],
        "lastWill": {"topic": _TOPICS.node(_NODE), "qos": 1, "retain": True, "message": "its presence, as offline"},
        **_MQTT,
    }
    told = "A broker, and the session of a node that carries its commands and presence; invocations have another."
    plain = {"host": "broker.example:1883", "protocol": "mqtt", "protocolVersion": "5.0", "description": told}
    return {
        "broker": {**plain, "bindings": {"mqtt": bindings}},
        "brokerWithTls": {
            **plain,
            "host": "broker.example:8883",
            "protocol": "mqtts",
            "security": [{"type": "userPassword"}],
            "bindings": {"mqtt": bindings},
        },
    }


# --- messages ----------------------------------------------------------------------------------------------------


def _messages() -> dict[str, Any]:
    requests = {name: _message(name, *said, asks=True) for name, said in REQUESTS.items()}
    answers = {name: _message(name, *said) for name, said in (ANSWERS | REPORTS | TOLD).items()}
    others = {name: _message(name, *said, is_json=name == "output") for name, said in OPEN.items()}
    return requests | answers | others


def _message(name: str, summary: str, payload: dict[str, Any], *, asks: bool = False, is_json: bool = True) -> Any:
    labelled = asks or name in ANSWERS | REPORTS or name in ("uploadProgress", "printed", "deadLetter")
    kind = "request" if asks else "answer" if name in ANSWERS else "json" if is_json else ""
    return {
        "summary": summary,
        "contentType": "application/json" if is_json else "application/octet-stream",
        **({"correlationId": {"location": "$message.payload#/request_id"}} if labelled else {}),
        "headers": ref("UserProperties"),
        "payload": payload,
        **({"bindings": {"$ref": f"#/components/messageBindings/{kind}"}} if kind else {}),
    }


def _message_bindings() -> dict[str, Any]:
    """The properties of MQTT 5: of any JSON, of answers, of requests."""
    json_of_any = {"contentType": "application/json", **_MQTT}
    correlation = {**TEXT, "description": "Any bytes; an answer has those of its request."}
    topic = {
        **TEXT,
        "description": "Where the answer shall go, below one of `mqtt.response_prefixes`: faas/response/, reply/.",
    }
    answer = {**json_of_any, "correlationData": correlation}
    return {
        "json": {"mqtt": json_of_any},
        "answer": {"mqtt": answer},
        "request": {"mqtt": {**answer, "responseTopic": topic}},
    }


# --- channels ----------------------------------------------------------------------------------------------------


def _channels() -> dict[str, Any]:
    channels = {
        "invoke": _channel(f"{_TOPICS.invoke_prefix}{_FUNCTION}", "Run a function.", "invoke"),
        "invokeAnswer": _channel(
            _TOPICS.invoke_answer(_FUNCTION), "What became of it.", "invokeSuccess", "invokeFailure"
        ),
    }
    for command in COMMANDS:
        function = _FUNCTION if command in NAMED_COMMANDS else ""
        topic = f"{_TOPICS.admin_prefix}{command}" + (f"/{function}" if function else "")
        channels[command] = _channel(topic, REQUESTS[command][0], command)
        answer = _TOPICS.admin_answer(command, function)
        channels[f"{command}Answer"] = _channel(answer, "Its answer.", _DONE[command], "commandFailure")
    told = "A command whose function stands in the payload; it is answered on the topic with the function in it."
    channels["command"] = _channel(f"{_TOPICS.admin_prefix}{{command}}", told, *NAMED_COMMANDS)
    channels |= {
        "errors": _channel(_TOPICS.error, "Every error, whatever its kind: one place to watch.", *REPORTS),
        "uploads": _channel(_TOPICS.event("upload", _FUNCTION), "Progress of uploads.", "uploadProgress"),
        "printed": _channel(_TOPICS.event("output", _FUNCTION), "What functions print, if asked for.", "printed"),
        "deadLetters": _channel(_TOPICS.deadletter(_FUNCTION), "Invocations given up after retries.", "deadLetter"),
        "presence": _channel(_TOPICS.node("{node}"), "Retained; also a node's last will.", "presence"),
        "replyTopic": _channel(None, "The Response Topic of a request (MQTT 5), such as reply/kitchen.", *ANSWERS),
        "triggers": _channel(None, "The topics of functions' triggers, such as sensors/+/temperature.", "event"),
        "outputs": _channel(None, "The topic of a function's output, such as alerts/temperature.", "output"),
        "publications": _channel(None, "The topics that a function's settings allow it to publish on.", "publication"),
    }
    return channels


def _channel(address: str | None, description: str, *messages: str) -> dict[str, Any]:
    used = {name: said for name, said in _PARAMETERS.items() if address and f"{{{name}}}" in address}
    return {
        "address": address,
        "description": description,
        **({"parameters": used} if used else {}),
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


# --- operations --------------------------------------------------------------------------------------------------


def _operations() -> dict[str, Any]:
    at_qos_1 = {"qos": 1, "retain": False}
    operations = {
        "invoke": _operation("receive", "invoke", "Runs a function.", at_qos_1, _replies("invokeAnswer", "invoke")),
        "invokeForReplyTopic": _operation(
            "receive",
            "invoke",
            "Runs a function; the answer goes to the Response Topic of the request (MQTT 5). Commands take one alike.",
            at_qos_1,
            _replies("replyTopic", "invoke") | {"address": {"location": _REPLY_TOPIC}},
        ),
    }
    for command in COMMANDS:
        replies = _replies(f"{command}Answer", command)
        operations[command] = _operation("receive", command, REQUESTS[command][0], at_qos_1, replies)
    operations["command"] = _operation("receive", "command", "Carries out a command.", at_qos_1)
    operations |= {
        "tellError": _operation("send", "errors", "Tells of an error, at the QoS of the request.", {"retain": False}),
        "tellProgress": _operation("send", "uploads", "Tells of progress.", {"qos": 0, "retain": False}),
        "show": _operation("send", "printed", "Shows what a function prints.", {"qos": 0, "retain": False}),
        "giveUp": _operation("send", "deadLetters", "Gives an invocation up.", at_qos_1),
        "announce": _operation("send", "presence", "Says whether it is there.", {"qos": 1, "retain": True}),
        "beTriggered": _operation("receive", "triggers", "Calls functions; nobody is answered.", {}),
        "output": _operation("send", "outputs", "Publishes a result; QoS and retain as the function says.", {}),
        "publish": _operation("send", "publications", "Publishes for a function; QoS and retain as it says.", {}),
    }
    return operations


def _operation(
    action: str, channel: str, summary: str, mqtt: dict[str, Any], reply: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        **({"bindings": {"mqtt": {**mqtt, **_MQTT}}} if mqtt else {}),
        **({"reply": reply} if reply else {}),
    }


def _replies(channel: str, request: str) -> dict[str, Any]:
    messages = ("invokeSuccess", "invokeFailure") if request == "invoke" else (_DONE[request], "commandFailure")
    return {
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }
