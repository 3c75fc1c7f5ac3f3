"""What functions may publish by `context.publish`: what their settings list, and never what only the server says."""

from __future__ import annotations

import re
from collections.abc import Callable

from tinyfaas import topics
from tinyfaas.child import faaswire
from tinyfaas.errors import Forbidden, Unavailable
from tinyfaas.loops import Loops
from tinyfaas.model import FunctionSpec, Publication
from tinyfaas.protocol import Topics

_TOPIC = re.compile(topics.TOPIC)


class Publisher:
    """Checks publications and hands them to `send`, with the chain of functions that led to each.

    `send` returns why the broker does not get one, or nothing.
    """

    def __init__(self, names: Topics, loops: Loops, send: Callable[[Publication, str], str]) -> None:
        self._invoke_prefix = names.invoke_prefix
        # Answers, administration, presence, progress, dead letters: whoever reads them trusts that the server wrote.
        self._ours = tuple(f"{topic}/" for topic in (names.base, names.response))
        self._loops = loops
        self._send = send

    def publish(self, spec: FunctionSpec, publication: Publication, chain: str) -> None:
        """Publish in the name of a function that was called at the end of a chain of others.

        Raises `Forbidden`, and `Unavailable` while the broker takes nothing.
        """
        topic = publication.topic
        shown = repr(topic if len(topic) <= 80 else topic[:79] + "…")
        if len(topic.encode("utf-8", "replace")) > faaswire.LONGEST_TOPIC_BYTES or not _TOPIC.fullmatch(topic):
            raise Forbidden(f"{shown} is no topic to publish on: no wildcards, no control characters, no $ in front")
        if f"{topic}/".startswith(self._ours) and not topic.startswith(self._invoke_prefix):
            raise Forbidden(f"{shown} is a topic that only the server publishes on")
        if not any(topics.matches(each, topic) for each in spec.wiring.publish):
            allowed = ", ".join(spec.wiring.publish) or "none"
            raise Forbidden(f'{shown} is not among the topics that "publish" in its settings allows: {allowed}')
        chain = self._loops.after(chain, spec.name)
        self._loops.published(chain, topic, publication.payload)
        if why_not := self._send(publication, chain):
            raise Unavailable(f"nothing can be published: {why_not}")
