"""deploy/systemd/tinyfaas.service, as far as it can be read without systemd; tests/hosts runs it."""

from __future__ import annotations

import re

from tests.harness.installation import CHECKOUT
from tinyfaas.config import Config

UNIT = (CHECKOUT / "deploy/systemd/tinyfaas.service").read_text(encoding="utf-8")
SECTIONS = [
    [line for line in section.splitlines()[1:] if line and not line.startswith("#")] for section in UNIT.split("\n\n")
]


def value(name: str) -> str:
    (found,) = re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    return str(found)


def test_directives_stand_in_the_order_of_the_alphabet() -> None:
    for directives in SECTIONS:
        names = [line.partition("=")[0].lower() for line in directives]
        assert names == sorted(names)


def test_no_comment_stands_behind_a_directive_where_systemd_would_take_it_for_a_value() -> None:
    assert not [line for directives in SECTIONS for line in directives if "#" in line]


def test_a_stop_may_take_longer_than_the_drain() -> None:
    assert float(value("TimeoutStopSec")) >= Config().drain_s + 20


def test_the_watchdog_bites_within_half_a_minute() -> None:
    assert 0 < float(value("WatchdogSec")) <= 30


def test_nothing_is_told_by_the_environment_where_everyone_reads_it() -> None:
    assert "\nEnvironment" not in UNIT
