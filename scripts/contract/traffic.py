"""Holds what goes over the wire against docs/asyncapi.yaml: which channel a topic is, and what a payload breaks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jsonschema
import yaml

_PARAMETER = re.compile(r"\\\{(\w+)\\\}")


@dataclass(frozen=True)
class Channel:
    """One channel of the document. `qos` and `retain` are those of what the server sends there, if always the same."""

    name: str
    pattern: re.Pattern[str]
    messages: tuple[str, ...]
    is_request: bool
    qos: int | None
    retain: bool


class Contract:
    """What the document says of each topic. `read` gets the text of the files beside it that it refers to."""

    def __init__(self, document: Mapping[str, Any], read: Callable[[str], str]) -> None:
        self._document = document
        self._read = read
        self._files: dict[str, Any] = {}
        self._validators: dict[str, jsonschema.Draft7Validator] = {}

    @classmethod
    def at(cls, file: Path) -> Contract:
        """The contract in a file."""
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        document = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506  (both are safe)
        return cls(document, lambda name: (file.parent / name).read_text(encoding="utf-8"))

    def channel(self, topic: str) -> Channel | None:
        """The channel of a topic; None for one that the contract does not know."""
        return next((each for each in self._channels if each.pattern.fullmatch(topic)), None)

    def faults(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int | None = None,
        retain: bool = False,
        content_type: str = "",
        properties: Mapping[str, str] | None = None,
    ) -> list[str]:
        """What a message that the server has sent breaks, each with topic, key and schema. Requests break nothing.

        `content_type` is empty and there are no user `properties` with MQTT 3.1.1.
        """
        channel = self.channel(topic)
        if channel is None:
            return [f"{topic}: no channel of the contract has this topic"]
        if channel.is_request:
            return []
        found = []
        if retain and not channel.retain:
            found.append(f"{topic}: is retained, and {channel.name} never is")
        if qos is not None and channel.qos not in (None, qos) and not retain:
            found.append(f"{topic}: has QoS {qos}, and {channel.name} has {channel.qos}")
        if not payload and channel.retain:
            return found  # that is how a retained message is removed
        try:
            body = json.loads(payload)
        except RecursionError:
            return found  # a result that is nested deeper than can be read here
        except ValueError:
            return [*found, f"{topic}: is no JSON: {payload[:200]!r}"]
        name, wrong = self.closest(channel.messages, body)
        found += [f"{topic}: {each} (schema {name})" for each in wrong]
        message = self._document["components"]["messages"][name]
        if content_type not in ("", message["contentType"]):
            found.append(f"{topic}: has the content type {content_type!r}, and {name} has {message['contentType']!r}")
        if properties:
            headers = jsonschema.Draft7Validator(self._dereferenced(message["headers"]))
            wrong = list(_errors(headers, dict(properties)))
            found += [f"{topic}: user property {each} (schema {name})" for each in wrong]
        return found

    def closest(self, messages: tuple[str, ...], body: object) -> tuple[str, list[str]]:
        """Of these messages the one that a body is, or is nearest to, and what it breaks of that one."""
        for name in messages:
            if self.validator(name).is_valid(body):
                return name, []
        told = {name: list(_errors(self.validator(name), body)) for name in messages}
        name = min(told, key=lambda name: (sum("expected" in each for each in told[name]), len(told[name])))
        return name, told[name]

    def validator(self, message: str) -> jsonschema.Draft7Validator:
        """What checks the payload of a message; made once."""
        if message not in self._validators:
            schema = self._dereferenced(self._document["components"]["messages"][message]["payload"])
            self._validators[message] = jsonschema.Draft7Validator(schema)
        return self._validators[message]

    @cached_property
    def _channels(self) -> list[Channel]:
        operations = self._document["operations"].values()
        channels = []
        for name, said in self._document["channels"].items():
            mine = [each for each in operations if each["channel"]["$ref"] == f"#/channels/{name}"]
            sent = [each.get("bindings", {}).get("mqtt", {}) for each in mine if each["action"] == "send"]
            asked = any(each["action"] == "receive" for each in mine)
            if said["address"] is not None:
                channels.append(
                    Channel(
                        name,
                        _pattern(said),
                        tuple(said["messages"]),
                        asked,
                        sent[0].get("qos") if sent else None,
                        any(each.get("retain", False) for each in sent),
                    )
                )
        replies = self._document["channels"]["replyTopic"]
        anywhere = Channel(
            "replyTopic", re.compile("(reply|faas/response)/.+"), tuple(replies["messages"]), False, None, False
        )
        return [*channels, anywhere]

    def _dereferenced(self, schema: Any, within: str = "") -> Any:
        """A schema without references: following them at every message takes longer than all the rest."""
        if isinstance(schema, list):
            return [self._dereferenced(each, within) for each in schema]
        if not isinstance(schema, dict):
            return schema
        if "$ref" in schema:
            file, _, pointer = schema["$ref"].partition("#")
            within = file or within
            target = self._file(within) if within else self._document
            for part in filter(None, pointer.split("/")):
                target = target[part]
            return self._dereferenced(target, within)
        return {key: self._dereferenced(value, within) for key, value in schema.items() if key != "$schema"}

    def _file(self, name: str) -> Any:
        if name not in self._files:
            self._files[name] = json.loads(self._read(name))
        return self._files[name]


def _pattern(channel: Mapping[str, Any]) -> re.Pattern[str]:
    """The topics of a channel. A parameter is one level."""

    def of(found: re.Match[str]) -> str:
        choices = channel["parameters"][found[1]].get("enum", ())
        return f"({'|'.join(map(re.escape, choices))})" if choices else "[^/]*"

    return re.compile(_PARAMETER.sub(of, re.escape(channel["address"])))


def _errors(validator: jsonschema.Draft7Validator, body: object) -> Iterator[str]:
    """What a body breaks: the key, and what is wrong with it."""
    for error in validator.iter_errors(body):
        inner = jsonschema.exceptions.best_match([error])
        assert inner is not None
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inner.absolute_path)
        yield f"{where.lstrip('.') or 'the object'}: {inner.message[:300]}"
