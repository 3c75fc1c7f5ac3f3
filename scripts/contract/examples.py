"""Examples of messages: those of docs/protocol.md, which the tests play against a server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.contract.traffic import Contract

PAGE = Path("docs/protocol.md")
_MOST = 2
_BLOCK = re.compile(r"^```mqtt\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_MESSAGE = re.compile(r"^([<>]) (\S+)\n((?:(?![<>] ).*\n?)*)", re.MULTILINE)
_PROPERTY = re.compile(r"^[A-Z][\w ]+: .+\n", re.MULTILINE)


def examples_of(document: Mapping[str, Any], root: Path) -> dict[str, list[dict[str, Any]]]:
    """Up to two examples for each message of the document."""
    contract = Contract(document, lambda name: (root / "docs" / name).read_text(encoding="utf-8"))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in document["components"]["messages"]}
    for topic, body in messages((root / PAGE).read_text(encoding="utf-8")):
        channel = contract.channel(topic)
        if channel is None:
            continue
        name, wrong = contract.closest(channel.messages, body)
        if not wrong and len(found[name]) < _MOST and all(each["payload"] != body for each in found[name]):
            found[name].append({"summary": f"On {topic}", "payload": body})
    return found


def messages(page: str) -> Iterator[tuple[str, Any]]:
    """Topic and payload of every message that is shown; an empty one is `{}`."""
    for block in _BLOCK.finditer(page):
        for shown in _MESSAGE.finditer(block[1]):
            yield shown[2], json.loads(_PROPERTY.sub("", shown[3]).strip() or "{}")
