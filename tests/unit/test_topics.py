"""Which filter matches which topic, against MQTT's rules written down as plainly as can be."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfaas.topics import FILTER, PUBLISH_FILTER, TOPIC, matches, overlap, unshared, wildcards

LEVELS = st.sampled_from(["a", "b", "", "$SYS", "$a"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.builds(
    lambda levels, rest: "/".join([*levels, *rest]),
    st.lists(LEVELS | st.just("+"), max_size=4),
    st.sampled_from([[], ["#"]]),
).filter(bool)


def naive(topic_filter: list[str], topic: list[str]) -> bool:
    """The rules, level by level."""
    if topic_filter == ["#"]:
        return True
    if not topic_filter or not topic:
        return topic_filter == topic
    return topic_filter[0] in ("+", topic[0]) and naive(topic_filter[1:], topic[1:])


@given(FILTERS, TOPICS)
def test_a_filter_matches_what_the_rules_say(topic_filter: str, topic: str) -> None:
    for_the_broker = topic[0] == "$" and topic_filter[0] in "+#"
    expected = naive(topic_filter.split("/"), topic.split("/")) and not for_the_broker
    assert matches(topic_filter, topic) is expected


@given(FILTERS, TOPICS)
def test_wildcards_put_back_into_their_filter_give_the_topic(topic_filter: str, topic: str) -> None:
    found = wildcards(topic_filter, topic)
    if found is not None:
        rest = iter(found)
        again = "/".join(next(rest) if level in ("+", "#") else level for level in topic_filter.split("/"))
        assert again.removesuffix("/") == topic.removesuffix("/")
        assert next(rest, None) is None


@given(FILTERS, FILTERS, TOPICS)
def test_filters_that_match_one_topic_overlap(one: str, other: str, topic: str) -> None:
    if matches(one, topic) and matches(other, topic):
        assert overlap(one, other)
        assert overlap(other, one)


@given(FILTERS, TOPICS)
def test_a_filter_overlaps_a_topic_exactly_if_it_matches_it(topic_filter: str, topic: str) -> None:
    assert overlap(topic_filter, topic) is matches(topic_filter, topic)


@given(FILTERS, FILTERS)
def test_filters_that_overlap_have_a_topic_in_common(one: str, other: str) -> None:
    if overlap(one, other):
        width = max(len(one.split("/")), len(other.split("/")))
        padded = [_padded(each.split("/"), width) for each in (one, other)]
        common = "/".join(
            mine if mine not in ("+", "#") else "x" if yours in ("+", "#") else yours
            for mine, yours in zip(*padded, strict=True)
            if (mine, yours) != ("#", "#")
        )
        candidates = [common, common.removesuffix("/x"), one, other, one.removesuffix("/#"), other.removesuffix("/#")]
        assert any(matches(one, each) and matches(other, each) for each in [*candidates, "x"] if each)


def _padded(levels: list[str], width: int) -> list[str]:
    return levels + ["#"] * (width - len(levels))


@pytest.mark.parametrize(
    "good", ["#", "+", "a", "a/+/b", "/", "a//b", "a/#", "$SYS/#", "$share/g/a/#", "$share/g//a", "ä b"]
)
def test_what_is_a_filter_passes(good: str) -> None:
    assert re.fullmatch(FILTER, good)


@pytest.mark.parametrize(
    "bad", ["", "a/#/b", "a#", "a+", "+a/b", "##", "$share", "$share/g", "$share/g/", "$share//a", "$share/+/a",
            "a\0b", "a\nb", "a\n", "\ud800", "\ufffe", "x" * 1025],
)  # fmt: skip
def test_what_is_no_filter_does_not_pass(bad: str) -> None:
    assert not re.fullmatch(FILTER, bad)


def test_one_publishes_to_no_wildcard_and_not_in_the_brokers_name() -> None:
    assert re.fullmatch(TOPIC, "a/b")
    assert not any(re.fullmatch(TOPIC, each) for each in ("", "a/+", "#", "$SYS/a", "$share/g/a"))
    assert re.fullmatch(PUBLISH_FILTER, "a/#")
    assert not any(re.fullmatch(PUBLISH_FILTER, each) for each in ("", "$share/g/a", "$SYS/#", "a#"))


def test_a_share_matches_what_its_filter_matches() -> None:
    assert unshared("$share/g/a/+") == "a/+"
    assert unshared("a/+") == "a/+"
