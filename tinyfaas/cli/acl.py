"""Prints what a broker must allow the server: its own topics, and what its functions subscribe to and publish."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from typing import Any

from tinyfaas.cli import broker
from tinyfaas.cli.answers import ask, complain_of, print_json
from tinyfaas.cli.show import printable
from tinyfaas.exits import Exit
from tinyfaas.protocol import Topics
from tinyfaas.topics import unshared

Rights = dict[str, list[str]]


def run(args: argparse.Namespace) -> int:
    """Ask for all functions, and print lines for mosquitto's `acl_file`; a deleted one is left out."""
    listed = ask(args, "list", "", {})
    if listed.get("status") == "error":
        return complain_of(listed)
    functions: dict[str, Rights] = {}
    for name in listed.get("functions", ()):
        info = ask(args, "info", str(name), {})
        if info.get("status") != "error":
            functions[str(name)] = rights_of(info)
        elif info.get("code") != "not_found":
            return complain_of(info)
    mqtt = broker.settings(args, os.environ)
    own = rights_of_server(Topics(mqtt.base_topic, mqtt.response_topic), mqtt.response_prefixes)
    if args.json:
        print_json({"node": listed.get("node"), "user": args.user, "server": own, "functions": functions})
    else:
        print("\n".join(lines(args.user, str(listed.get("node", "")), own, functions)))
    return Exit.OK


def rights_of(info: Mapping[str, Any]) -> Rights:
    """What one function needs, of what `info` says of it."""
    read = {unshared(str(topic)) for topic in info.get("subscribes", ())}
    return {"read": sorted(read), "write": sorted({str(topic) for topic in info.get("publishes", ())})}


def rights_of_server(topics: Topics, response_prefixes: Iterable[str]) -> Rights:
    """What the server needs without any function. Presence it also reads, of itself and of a group's others."""
    node = topics.node("+")
    voices = {f"{topics.base}/event/#", topics.deadletter("+"), node, f"{topics.response}/#"}
    replies = {f"{prefix}#" for prefix in response_prefixes if prefix and not prefix.startswith(f"{topics.response}/")}
    return {
        "read": sorted({f"{topics.invoke_prefix}#", f"{topics.admin_prefix}#", node}),
        "write": sorted(voices | replies),
    }


def lines(user: str, node: str, own: Rights, functions: Mapping[str, Rights]) -> list[str]:
    """The account's part of an ACL file; what no line allows is refused. What two functions need stands once."""
    said: set[str] = set()
    text = [f"# The server of node {node}, and what its functions subscribe to and publish.", f"user {user}"]
    for title, rights in (("", own), *functions.items()):
        needed = [f"topic {access} {topic}" for access in ("read", "write") for topic in rights[access]]
        new = [line for line in needed if line not in said]
        said.update(new)
        if title and new:
            text.append(f"# {title}")
        text += new
    return [printable(line) for line in text]
