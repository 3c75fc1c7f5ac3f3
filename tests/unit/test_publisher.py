"""What functions may publish: what is listed, and never what only the server says, whatever is listed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfaas.errors import Forbidden, Unavailable
from tinyfaas.loops import Loops
from tinyfaas.model import FunctionSpec, Publication
from tinyfaas.protocol import Topics
from tinyfaas.publisher import Publisher


def spec(*publish: str) -> FunctionSpec:
    """A function that may publish there; nothing else of it matters."""
    return cast("FunctionSpec", SimpleNamespace(name="f", wiring=SimpleNamespace(publish=publish)))


def loops() -> Loops:
    """Those of a node that remembers what it has published."""
    return Loops("here", remembers=True)


def published(topic: str, *allowed: str, base: str = "faas", response: str = "") -> list[str]:
    """The topics that reach the broker."""
    sent: list[str] = []

    def send(publication: Publication, _chain: str) -> str:
        sent.append(publication.topic)
        return ""

    Publisher(Topics(base, response), loops(), send).publish(spec(*allowed), Publication(topic, b""), "")
    return sent


@pytest.mark.parametrize(
    ("topic", "allowed"),
    [("a/b", "a/b"), ("a/b", "a/+"), ("a/b", "a/#"), ("a", "a/#"), ("a/b", "#"), ("faas/invoke/f", "faas/invoke/+"),
     ("faasily", "#"), ("/a", "+/a")],
)  # fmt: skip
def test_what_is_listed_is_published(topic: str, allowed: str) -> None:
    assert published(topic, "other", allowed) == [topic]


@pytest.mark.parametrize(("topic", "allowed"), [("a/b", "a"), ("a/b/c", "a/+"), ("b", "a/#"), ("A/b", "a/b")])
def test_what_is_not_listed_is_forbidden(topic: str, allowed: str) -> None:
    with pytest.raises(Forbidden, match=allowed.replace("+", r"\+")):
        published(topic, allowed)


@pytest.mark.parametrize(
    "topic",
    ["faas", "faas/admin/list", "faas/response/invoke/f", "faas/response/error", "faas/node/n", "faas/event/upload/f",
     "faas/deadletter/f", "faas/invoke", "out/invoke/f", "out"],
)  # fmt: skip
def test_what_only_the_server_says_is_forbidden_whatever_is_listed(topic: str) -> None:
    with pytest.raises(Forbidden, match="only the server"):
        published(topic, "#", topic, response="out")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_nothing_but_a_topic_is_ever_sent(topic: str) -> None:
    try:
        sent = published(topic, "#")
    except Forbidden:
        return
    assert sent == [topic]
    assert topic
    assert not topic.startswith("$")
    assert not set("+#\0\n\x7f") & set(topic)


def test_why_the_broker_gets_nothing_is_told() -> None:
    publisher = Publisher(Topics("faas"), loops(), lambda *_: "the broker is away")
    with pytest.raises(Unavailable, match="nothing can be published: the broker is away"):
        publisher.publish(spec("a"), Publication("a", b""), "")


@pytest.mark.parametrize(("before", "after"), [("", "here/f"), ("there/g", "there/g,here/f")])
def test_what_is_published_tells_which_functions_led_to_it(before: str, after: str) -> None:
    sent: list[str] = []
    known = loops()

    def send(_publication: Publication, chain: str) -> str:
        sent.append(chain)
        return ""

    Publisher(Topics("faas"), known, send).publish(spec("a"), Publication("a", b"x"), before)
    assert sent == [after]
    assert known.recalled("a", b"x") == after
