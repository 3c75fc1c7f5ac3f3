"""Topic names and topic filters as MQTT defines them: which are well formed, and which match what. Pure."""

from __future__ import annotations

LONGEST = 1024  # characters; what MQTT allows is more than any broker or person wants
SHARE = "$share/"

# What a level may hold, written so that Python and JavaScript read the same: no separators, no wildcards, and nothing
# for which a broker ends the connection (control characters, half characters, code points that are none).
_CHARACTER = r"""[ !"$-*,-.0-~\u00a0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd]"""
_LEVEL = rf"(\+|{_CHARACTER}*)"
_SOME = rf"(?=[\s\S]{{1,{LONGEST}}}$)"
_WILD = rf"(#|{_LEVEL}(/{_LEVEL})*(/#)?)"
TOPIC = rf"{_SOME}(?!\$){_CHARACTER}*(/{_CHARACTER}*)*"
FILTER = rf"{_SOME}(\$share/{_CHARACTER}+/(?=[\s\S]))?(?!\$share(/|$)){_WILD}"
PUBLISH_FILTER = rf"{_SOME}(?!\$){_WILD}"


def unshared(topic_filter: str) -> str:
    """What a filter matches: `$share/<group>/` says only who else shares it."""
    return topic_filter.split("/", 2)[2] if topic_filter.startswith(SHARE) else topic_filter


def wildcards(topic_filter: str, topic: str) -> tuple[str, ...] | None:
    """What `+` and `#` of an unshared filter stand for in a topic; None if it does not match.

    `#` stands for all levels that are left, as one text; that is empty where the topic ends before it.
    """
    if topic.startswith("$") and topic_filter.startswith(("+", "#")):
        return None  # wildcards at the front leave the broker's own topics alone
    levels, found = topic.split("/"), []
    wanted = topic_filter.split("/")
    for place, level in enumerate(wanted):
        if level == "#":
            found.append("/".join(levels[place:]))
            return tuple(found)
        if place == len(levels) or level not in ("+", levels[place]):
            return None
        if level == "+":
            found.append(levels[place])
    return tuple(found) if len(levels) == len(wanted) else None


def matches(topic_filter: str, topic: str) -> bool:
    """Whether an unshared filter matches a topic."""
    return wildcards(topic_filter, topic) is not None


def overlap(one: str, other: str) -> bool:
    """Whether there can be a topic that both unshared filters match. A topic is a filter that matches itself."""
    if (one.startswith("$") and other.startswith(("+", "#"))) or (other.startswith("$") and one.startswith(("+", "#"))):
        return False
    ours, theirs = one.split("/"), other.split("/")
    for mine, yours in zip(ours, theirs, strict=False):
        if "#" in (mine, yours):
            return True
        if "+" not in (mine, yours) and mine != yours:
            return False
    shorter = min(len(ours), len(theirs))
    rest = ours[shorter:] or theirs[shorter:]
    return not rest or rest == ["#"]
