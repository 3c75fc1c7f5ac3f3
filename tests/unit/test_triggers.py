"""Which functions a message calls, against a plain matcher; and what waits in windows, by a clock of the test's."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tinyfaas.model import Batch, FunctionSpec, Limits, Request, Retry, Surroundings, Trigger, Wiring
from tinyfaas.protocol import Topics
from tinyfaas.topics import matches, unshared
from tinyfaas.triggers import Target, Triggers, identifier_of
from tinyfaas.windows import MOST_TOPICS, Windows

LEVELS = st.sampled_from(["a", "b"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=3).map("/".join)
FILTERS = st.builds(
    lambda share, levels, rest: share + "/".join([*levels, *rest]),
    st.sampled_from(["", "", "", "$share/g/"]),
    st.lists(LEVELS | st.just("+"), min_size=1, max_size=3),
    st.sampled_from([[], [], ["#"]]),
)
FUNCTIONS = st.lists(st.lists(FILTERS, max_size=4, unique=True), max_size=4)


def spec(name: str, *triggers: Trigger) -> FunctionSpec:
    """A function with these triggers."""
    nowhere = Path()
    return FunctionSpec(
        name, 1, "", nowhere, nowhere, nowhere, Limits(max_payload_bytes=100), Retry(), Surroundings(), Wiring(triggers)
    )


def table(functions: list[list[str]], group: str = "") -> Triggers:
    """The triggers of functions that are named by their place."""
    triggers = Triggers((), group)
    triggers.follow(spec(str(at), *map(Trigger, filters)) for at, filters in enumerate(functions))
    return triggers


@given(FUNCTIONS, TOPICS, st.sampled_from(["", "farm"]))
def test_a_message_calls_each_function_once_however_many_copies_come(
    functions: list[list[str]], topic: str, group: str
) -> None:
    """A broker that speaks MQTT 5 delivers a copy for each subscription that matches, and names it."""
    triggers = table(functions, group)
    expected = [str(at) for at, filters in enumerate(functions) if any(matches(unshared(f), topic) for f in filters)]
    copies = [wish for each, wish in triggers.wishes().items() if matches(unshared(each), topic)]
    called = [target.function for copy in copies for target in triggers.targets(topic, (copy.identifier,))]
    assert sorted(called) == expected
    at_once = triggers.targets(topic, tuple(copy.identifier for copy in copies))
    assert sorted(target.function for target in at_once) == expected


@given(FUNCTIONS, TOPICS)
def test_a_message_without_an_identifier_calls_all_that_match(functions: list[list[str]], topic: str) -> None:
    expected = [str(at) for at, filters in enumerate(functions) if any(matches(unshared(f), topic) for f in filters)]
    assert [target.function for target in table(functions).targets(topic)] == expected


def test_functions_share_a_subscription_with_the_highest_wish() -> None:
    triggers = Triggers(())
    triggers.follow([spec("f", Trigger("a", qos=0, retained=True)), spec("g", Trigger("a", qos=1)), spec("h")])
    assert {topic: (wish.qos, wish.retained) for topic, wish in triggers.wishes().items()} == {"a": (1, True)}


def test_without_identifiers_filters_that_overlap_have_one_qos() -> None:
    triggers = Triggers((), identifiers=False)
    triggers.follow(
        [spec("f", Trigger("a/+", qos=1), Trigger("+/b", qos=0), Trigger("c/#", qos=0), Trigger("d", qos=0))]
    )
    assert {topic: wish.qos for topic, wish in triggers.wishes().items()} == {"a/+": 1, "+/b": 1, "c/#": 1, "d": 0}


def test_in_a_group_each_function_has_a_share_of_its_own_unless_it_names_one() -> None:
    assert set(table([["a", "$share/mine/b"], ["a"]], "farm").wishes()) == {
        "$share/farm.0/a", "$share/farm.1/a", "$share/mine/b",
    }  # fmt: skip


def test_an_identifier_is_that_of_its_filter_over_restarts_and_one_that_mqtt_allows() -> None:
    assert identifier_of("a/+") == identifier_of("a/+")
    assert identifier_of("sensors/+/temperature") == 108_707_640
    assert all(1 <= identifier_of(str(number)) <= 268_435_455 for number in range(1_000))


def test_a_message_of_a_subscription_that_nobody_wants_any_more_calls_nobody() -> None:
    assert table([["a/#"]]).targets("a/b", (identifier_of("a/b"),)) == ()


def test_what_is_a_request_triggers_nothing_and_is_told() -> None:
    triggers = Triggers(Topics("faas").requests)
    assert triggers.follow([spec("f", Trigger("#"), Trigger("+/+"))]) == [("f", "#")]
    assert set(triggers.wishes()) == {"+/+"}


def test_the_table_is_that_of_the_functions_followed_last() -> None:
    triggers = table([["a"]])
    assert triggers.targets("a")
    triggers.follow([])
    assert triggers.targets("a") == ()
    assert triggers.wishes() == {}


# --- windows -----------------------------------------------------------------------------------------------------


def message(topic: str = "a", payload: bytes = b"1") -> Request:
    """A message."""
    return Request(topic, payload)


def target(**trigger: object) -> Target:
    """A function with a trigger that has a window."""
    return Target("f", Trigger("#", **trigger), 100)  # type: ignore[arg-type]


def test_a_batch_is_ready_when_it_is_full_or_old() -> None:
    windows, batch = Windows(), target(batch=Batch(2, 10.0))
    one, two, three = message(), message("b"), message()
    assert windows.add(batch, one, 0.0).ready == []
    assert windows.add(batch, two, 9.0).ready == [(batch, [one, two])]
    assert windows.add(batch, three, 11.0).ready == []
    assert windows.due(20.9).ready == []  # counted from its first event
    assert windows.due(21.0).ready == [(batch, [three])]
    assert windows.next_s() is None
    assert windows.waiting() == 0


def test_a_batch_holds_no_more_bytes_than_a_call_may_have() -> None:
    windows, batch = Windows(), target(batch=Batch(10, 10.0))
    small, large = message(payload=b"x" * 60), message(payload=b"x" * 60)
    assert windows.add(batch, small, 0.0).ready == []
    assert windows.add(batch, large, 5.0).ready == [(batch, [small])]
    assert windows.due(14.9).ready == []
    assert windows.due(15.0).ready == [(batch, [large])]


def test_after_quiet_the_last_message_of_a_topic_is_ready_and_the_others_are_dropped() -> None:
    windows, quiet = Windows(), target(debounce_s=2.0)
    one, two, other = message(), message(), message("b")
    assert windows.add(quiet, one, 0.0).ready == []
    assert windows.add(quiet, other, 0.5).dropped == []
    assert windows.add(quiet, two, 1.0).dropped == [one]
    assert windows.due(2.4).ready == []
    assert windows.due(2.5).ready == [(quiet, [other])]
    assert windows.due(2.9).ready == []
    assert windows.due(3.0).ready == [(quiet, [two])]
    assert windows.next_s() is None


def test_throttled_a_topic_has_one_call_in_its_time_and_the_last_message_wins() -> None:
    windows, seldom = Windows(), target(throttle_s=2.0)
    one, two, three, four = (message() for _ in range(4))
    assert windows.add(seldom, one, 0.0).ready == [(seldom, [one])]
    assert windows.add(seldom, two, 0.5) == windows.due(1.0)
    assert windows.add(seldom, three, 1.5).dropped == [two]
    assert windows.due(2.0).ready == [(seldom, [three])]
    assert windows.add(seldom, four, 3.0).ready == []
    assert windows.due(4.0).ready == [(seldom, [four])]
    assert windows.due(6.0).ready == []
    assert windows.next_s() is None
    assert windows.add(seldom, one, 6.5).ready == [(seldom, [one])]


def test_topics_are_bounded_and_what_is_beyond_is_let_through() -> None:
    windows, quiet = Windows(), target(debounce_s=2.0)
    for number in range(MOST_TOPICS):
        assert windows.add(quiet, message(str(number)), 0.0).ready == []
    beyond = message("beyond")
    assert windows.add(quiet, beyond, 0.0).ready == [(quiet, [beyond])]
    assert windows.waiting() == MOST_TOPICS


def test_what_waits_for_a_function_that_goes_is_dropped_and_all_of_it_is_given_back_at_a_stop() -> None:
    windows, batch, one = Windows(), target(batch=Batch(10, 1.0)), message()
    windows.add(batch, one, 0.0)
    assert windows.forget("other").dropped == []
    assert windows.forget("f").dropped == [one]
    assert windows.due(9.0).ready == []
    windows.add(batch, one, 9.0)
    assert windows.full_batches().ready == [(batch, [one])]
    windows.add(batch, one, 9.0)
    assert windows.clear() == [one]
    assert windows.next_s() is None
