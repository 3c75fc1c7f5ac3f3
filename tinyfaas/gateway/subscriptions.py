"""What a session is subscribed to, and how that follows what is wanted.

Everything is asked for at every connect, since a broker may have forgotten it. One that has not keeps a subscription
as long as the session, which outlives the server and its settings. So what the broker may hold is written down, and
what is not wanted any more (a function has gone, or the group has another name) is ended at the next connect.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from tinyfaas import log
from tinyfaas.files import write_atomically
from tinyfaas.protocol import encode
from tinyfaas.triggers import Wish

logger = log.get("gateway")


class Subscriptions:
    """The topics one session wants, and those that the broker may hold for it; `file` remembers the latter.
    `forgotten` hears when the broker holds none of them any more.

    Callbacks of paho take the lock here, so paho is never called under it. Whoever calls `ask` or `renew` sees to it
    that there is only one at a time, and that what they have queued is written.
    """

    def __init__(self, file: Path | None = None, forgotten: Callable[[], None] = lambda: None) -> None:
        self._file = file
        self._forgotten = forgotten
        self._heard = threading.Condition()
        self._writing = threading.Lock()
        self._plain: frozenset[str] = frozenset()
        self._wishes: Mapping[str, Wish] = {}
        self._identifies = True
        self._anew: frozenset[str] = frozenset()
        self._asked: frozenset[str] = frozenset()  # on this connection
        self._may_stand: frozenset[str] = frozenset()
        self._unanswered: dict[int, frozenset[str]] = {}
        self._written: list[str] | None = None

    @property
    def wanted(self) -> frozenset[str]:
        """The topics the session shall be subscribed to."""
        return self._plain | self._wishes.keys()

    def load(self, otherwise: Iterable[str]) -> None:
        """Read what the broker may hold from before this start, or take it to be `otherwise` where nothing tells."""
        self._may_stand = frozenset(otherwise)
        if self._file is None:
            return
        try:
            self._may_stand = frozenset(str(topic) for topic in json.loads(self._file.read_bytes()))
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError) as error:
            logger.error("subscriptions_unreadable", path=str(self._file), error=str(error))

    def want(self, topics: Iterable[str]) -> None:
        """Want these too; they are written down before anyone asks the broker for them."""
        with self._heard:
            self._plain |= frozenset(topics)
            self._may_stand |= self._plain
        self.keep()

    def wish(self, wishes: Mapping[str, Wish], anew: frozenset[str] = frozenset()) -> bool:
        """Want these filters of triggers, and no others; False if that changes nothing.

        Of those in `anew` the broker is to show what it has retained once more.
        """
        with self._heard:
            if wishes == self._wishes and not anew:
                return False
            changed = {topic for topic, wish in wishes.items() if self._wishes.get(topic) != wish} | anew
            self._anew |= anew
            self._wishes = wishes
            self._asked -= changed
            self._may_stand |= self.wanted
        self.keep()
        return True

    def want_no_more(self, topics: Collection[str]) -> None:
        """Want these no more; they stay written down until the broker has confirmed that they are gone."""
        with self._heard:
            self._plain -= frozenset(topics)

    def renew(self, client: Client, *, v5: bool, session_present: bool, identifies: bool = True) -> None:
        """Ask for everything on a new connection; `identifies`: the broker says by which filter a message comes."""
        with self._heard:
            self._identifies = identifies
            if not session_present:
                self._may_stand = frozenset()
                self._anew = frozenset()
            if not session_present or not v5:  # before MQTT 5 what is retained is shown at each subscription, to all
                self._forgotten()
            self._asked = frozenset()
            self._unanswered.clear()
        self.ask(client, v5=v5)

    def ask(self, client: Client, *, v5: bool) -> None:
        """Subscribe to what is wanted and not asked for yet, then end what is not wanted.

        In this order: a message may come twice when a group is joined, but none is lost between the two.
        """
        with self._heard:
            wanted = self.wanted
            new, old = wanted - self._asked, self._may_stand - wanted
            self._asked = wanted
            self._may_stand |= wanted
            wishes = {topic: self._wishes[topic] for topic in new & self._wishes.keys()}
            anew, self._anew = self._anew, frozenset()
        plain = new - wishes.keys()
        if plain and v5:
            options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
            self._sent(client.subscribe([(topic, options) for topic in sorted(plain)])[1], plain)
        elif plain:
            self._sent(client.subscribe([(topic, 1) for topic in sorted(plain)])[1], plain)
        for topic, wish in sorted(wishes.items()):
            self._sent(self._subscribe(client, topic, wish, v5=v5, anew=topic in anew), frozenset((topic,)))
        if old:
            self._sent(client.unsubscribe(sorted(old))[1], old)

    def subscribed(self, mid: int, reasons: Iterable[ReasonCode]) -> None:
        """The broker has answered; what it refuses is said and stays wanted."""
        with self._heard:
            topics = self._unanswered.pop(mid, frozenset())
            self._heard.notify_all()
        refused = [topic for topic, reason in zip(sorted(topics), reasons, strict=False) if reason.is_failure]
        if refused:
            logger.error("subscriptions_refused", topics=refused)

    def unsubscribed(self, mid: int) -> None:
        """The broker has ended what it was asked to."""
        with self._heard:
            self._may_stand -= self._unanswered.pop(mid, frozenset()) - self._asked
            self._heard.notify_all()

    def lost(self) -> None:
        """The connection is gone: nothing is answered any more."""
        with self._heard:
            self._unanswered.clear()
            self._heard.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the broker has answered everything; False if it has not in time."""
        with self._heard:
            return self._heard.wait_for(lambda: not self._unanswered, timeout_s)

    def keep(self) -> None:
        """Write down what the broker may hold. A full disk is logged: at worst something is not ended later."""
        if self._file is None:
            return
        with self._writing:
            with self._heard:
                topics = sorted(self._may_stand)
            if topics == self._written:
                return
            try:
                write_atomically(self._file, encode(topics))
                self._written = topics
            except OSError as error:
                logger.error("subscriptions_not_recorded", error=str(error))

    def _subscribe(self, client: Client, topic: str, wish: Wish, *, v5: bool, anew: bool) -> int | None:
        """Ask for one filter by a packet of its own: its identifier would be that of all filters in it."""
        if not v5:
            return client.subscribe(topic, wish.qos)[1]
        shown = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB if wish.retained else SubscribeOptions.RETAIN_DO_NOT_SEND
        if anew:
            shown = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
        properties = None
        if self._identifies:
            properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
            properties.SubscriptionIdentifier = wish.identifier
        options = SubscribeOptions(qos=wish.qos, retainHandling=shown)
        return client.subscribe([(topic, options)], properties=properties)[1]

    def _sent(self, mid: int | None, topics: frozenset[str]) -> None:
        if mid is not None:  # else the connection has just gone, and the next one asks again
            with self._heard:
                self._unanswered[mid] = topics
