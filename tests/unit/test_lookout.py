"""Threads that wait at one socket: one of them wakes for what comes, and never none."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.harness.waiting import PATIENCE_S, eventually
from tinyfaas.gateway.lookout import Lookout


@pytest.fixture
def lookout() -> Iterator[Lookout]:
    made = Lookout()
    yield made
    made.close()


@contextmanager
def watched(lookout: Lookout) -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        lookout.add(ours)
        lookout.look(reading=True, writing=False)
        yield ours, theirs


def test_the_owner_sees_what_comes_while_nobody_else_attends(lookout: Lookout) -> None:
    with watched(lookout) as (_, theirs):
        assert not lookout.watch(0)
        theirs.send(b"x")
        assert lookout.watch(PATIENCE_S)
        assert not lookout.watch(0), "what was seen is not looked for again"
        lookout.look(reading=True, writing=False)
        assert lookout.watch(PATIENCE_S), "unless somebody asks to"


def test_the_owner_is_left_alone_while_somebody_attends(lookout: Lookout) -> None:
    with watched(lookout) as (_, theirs):
        lookout.come()
        theirs.send(b"x")
        assert not lookout.watch(0)
        lookout.leave()
        assert lookout.watch(PATIENCE_S), "nobody has seen it, and nobody attends now"


def test_the_owner_is_left_alone_while_who_has_seen_something_sees_to_it(lookout: Lookout) -> None:
    with watched(lookout) as (_, theirs):
        lookout.come()
        theirs.send(b"x")
        assert lookout.wait(PATIENCE_S)
        lookout.leave()
        assert not lookout.watch(0)
        lookout.look(reading=True, writing=False)
        assert lookout.watch(PATIENCE_S), "until that one says that somebody shall look again"


def test_of_many_that_attend_one_wakes_for_each_time_that_something_is_looked_for(lookout: Lookout) -> None:
    woken: list[bool] = []

    def attend() -> None:
        lookout.come()
        woken.append(lookout.wait(PATIENCE_S))
        lookout.leave()

    def wait_woken(count: int) -> None:
        def enough() -> bool:
            return len(woken) >= count

        eventually(enough, f"thread {count} to wake")

    threads = [threading.Thread(target=attend) for _ in range(4)]
    with watched(lookout) as (_, theirs):
        for thread in threads:
            thread.start()
        theirs.send(b"x")
        for count in range(1, 5):
            wait_woken(count)
            assert len(woken) == count
            lookout.look(reading=True, writing=False)
        for thread in threads:
            thread.join()
    assert woken == [True] * 4


def test_a_ring_that_nobody_hears_is_heard_by_the_next_who_comes(lookout: Lookout) -> None:
    lookout.ring()
    lookout.come()
    assert not lookout.wait(PATIENCE_S), "it is the bell, and not the socket"
    lookout.leave()


def test_what_is_closed_or_was_never_there_is_let_be(lookout: Lookout) -> None:
    lookout.look(reading=True, writing=True)
    with watched(lookout):
        pass
    lookout.look(reading=True, writing=True)
    assert not lookout.watch(0)
