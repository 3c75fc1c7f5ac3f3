"""Keys take turns, each keeps its order, and none has more out than its cap."""

from __future__ import annotations

import threading
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tinyfaas.fairqueue import FairQueue


def test_a_flood_on_one_key_delays_another_by_one_item() -> None:
    queue: FairQueue[int] = FairQueue(lambda _: 1)
    for number in range(100):
        queue.submit("flood", number)
    queue.submit("quiet", 1)
    first = queue.take()
    assert first == ("flood", 0)
    assert queue.take("flood") == ("quiet", 1)


def test_items_beyond_the_cap_wait_until_one_is_done() -> None:
    queue: FairQueue[int] = FairQueue(lambda key: 2 if key == "slow" else 1)
    for number in range(3):
        queue.submit("slow", number)
    queue.submit("other", 9)
    taken = [queue.take() for _ in range(3)]
    assert sorted(item for each in taken if each for item in [each[0]]) == ["other", "slow", "slow"]
    assert queue.waiting() == 1
    queue.done("slow")
    assert queue.take() == ("slow", 2)


def test_closing_wakes_whoever_waits_and_returns_what_was_left() -> None:
    queue: FairQueue[int] = FairQueue(lambda _: 1)
    ended = threading.Event()

    def consume() -> None:
        while (taken := queue.take()) is not None:
            queue.done(taken[0])
        ended.set()

    thread = threading.Thread(target=consume)
    thread.start()
    queue.close()
    assert ended.wait(10.0)
    thread.join()
    closed: FairQueue[int] = FairQueue(lambda _: 1)
    closed.submit("a", 1)
    assert closed.close() == [1]
    assert closed.take() is None


@settings(max_examples=25, deadline=None)
@given(
    items=st.lists(st.sampled_from("abc"), min_size=1, max_size=200),
    caps=st.fixed_dictionaries({"a": st.integers(1, 3), "b": st.integers(1, 3), "c": st.integers(1, 3)}),
    consumers=st.integers(1, 4),
)
def test_with_many_threads_nothing_is_lost_and_no_cap_is_passed(
    items: list[str], caps: dict[str, int], consumers: int
) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(caps.__getitem__)
    lock, all_taken = threading.Lock(), threading.Event()
    out: Counter[str] = Counter()
    most: Counter[str] = Counter()
    order: dict[str, list[int]] = {"a": [], "b": [], "c": []}

    def consume() -> None:
        finished: str | None = None
        while True:
            taken = queue.take(finished)
            if taken is None:
                return
            key, (_, number) = taken
            with lock:
                out[key] += 1
                most[key] = max(most[key], out[key])
                order[key].append(number)
                if sum(map(len, order.values())) == len(items):
                    all_taken.set()
            with lock:
                out[key] -= 1
            finished = key

    threads = [threading.Thread(target=consume) for _ in range(consumers)]
    for thread in threads:
        thread.start()
    for number, key in enumerate(items):
        queue.submit(key, (key, number))
    assert all_taken.wait(20.0)
    queue.close()
    for thread in threads:
        thread.join()
    for key, numbers in order.items():
        assert sorted(numbers) == [number for number, each in enumerate(items) if each == key]
        assert most[key] <= caps[key]
        if caps[key] == 1:
            assert numbers == sorted(numbers)
