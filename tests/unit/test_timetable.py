"""Due times over everything that clocks do: they run, jump, change to summer time, and begin in the past."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tinyfaas.model import Schedule
from tinyfaas.timetable import AtTimes, Clock, Cron, EverySeconds, name_of, timetable

DAY = 86_400.0
HOUR = 3_600.0
MINUTE = 60.0
NIGHTLY = Cron("0 3 * * *", "UTC")
OFTEN = Cron("*/5 * * * *", "UTC")


def at(text: str, zone: str = "UTC") -> float:
    """Seconds since the epoch."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


class Device:
    """A device with its two clocks, and one schedule on it; `runs` are the due times and when they were run."""

    def __init__(self, cron: Cron, wall: float, since: float | None = None) -> None:
        self.now, self.wall = 1_000.0, wall
        self.table = AtTimes(cron, self.now, self.wall, since)
        self.runs: list[tuple[float, float]] = []

    def look(self) -> None:
        """What the server does now and then."""
        if (due := self.table.due(self.now, self.wall)) is not None:
            self.runs.append((due, self.now))

    def wait(self, seconds: float, step: float = 10.0) -> Device:
        """Time passes."""
        until = self.now + seconds
        while self.now < until:
            passed = min(step, until - self.now)
            self.now += passed
            self.wall += passed
            self.look()
        return self

    def jump(self, seconds: float) -> Device:
        """The wall clock is set."""
        self.wall += seconds
        self.look()
        return self

    @property
    def due(self) -> list[str]:
        """The due times."""
        return [datetime.fromtimestamp(due, UTC).strftime("%d %H:%M") for due, _ in self.runs]


# --- every so many seconds ---------------------------------------------------------------------------------------


def test_every_so_many_seconds_is_by_the_clock_that_does_not_jump() -> None:
    table = EverySeconds(30.0, 100.0, 5_000.0, None)
    assert table.due(129.9, 5_029.9) is None
    assert table.due(130.5, 9_000_030.5) == 9_000_030.0
    assert table.due(130.6, 30.6) is None
    assert table.next(140.0, 0.0) == 20.0
    assert table.due(260.0, 260.0) == 250.0  # long overdue: once, in the old step
    assert table.due(261.0, 261.0) is None
    assert table.next(260.0, 260.0) == 280.0


@pytest.mark.parametrize(
    ("since", "first"),
    [(None, 30.0), (990.0, 20.0), (970.0, 0.0), (0.0, 0.0), (2_000.0, 30.0)],
    ids=["new", "a moment ago", "just missed", "long missed", "noted by a clock that was ahead"],
)
def test_after_a_start_an_interval_goes_on_from_its_last_run(since: float | None, first: float) -> None:
    assert EverySeconds(30.0, 0.0, 1_000.0, since).next(0.0, 0.0) == first


# --- times of cron -----------------------------------------------------------------------------------------------


def test_a_time_is_run_once_when_it_comes() -> None:
    device = Device(NIGHTLY, at("2026-03-10T02:59:55")).wait(2 * DAY)
    assert device.due == ["10 03:00", "11 03:00"]


def test_the_first_contact_with_a_time_server_runs_nothing_and_misses_nothing() -> None:
    """The Pi begins in 2024; it is 2026."""
    device = Device(NIGHTLY, at("2024-01-01T00:00:00")).wait(40.0).jump(at("2026-06-01T08:00") - at("2024-01-01"))
    assert device.due == []
    device.wait(DAY)
    assert device.due == ["02 03:00"]


def test_what_was_due_since_the_start_by_the_right_clock_is_run_when_the_clock_is_right() -> None:
    device = (
        Device(NIGHTLY, at("2024-01-01T00:00:00"))
        .wait(40.0)
        .jump(at("2026-06-01T03:00:20") - at("2024-01-01T00:00:40"))
    )
    assert device.due == ["01 03:00"]
    assert device.wait(DAY).due == ["01 03:00", "02 03:00"]


def test_a_correction_over_a_due_time_runs_it_once() -> None:
    device = Device(NIGHTLY, at("2026-03-09T02:00")).wait(DAY).wait(58 * MINUTE)
    assert device.due == ["09 03:00"]
    assert device.jump(7 * MINUTE).due == ["09 03:00", "10 03:00"]
    assert device.jump(-7 * MINUTE).wait(HOUR).due == ["09 03:00", "10 03:00"]
    assert device.wait(DAY).due == ["09 03:00", "10 03:00", "11 03:00"]


def test_a_jump_over_years_is_no_burst() -> None:
    device = Device(OFTEN, at("2024-01-01T00:01:00")).wait(HOUR)
    runs = len(device.runs)
    device.jump(2 * 365 * DAY)
    assert len(device.runs) <= runs + 1
    device.jump(-2 * 365 * DAY).wait(20 * MINUTE)
    assert runs + 3 <= len(device.runs) <= runs + 6


def test_a_clock_that_was_days_behind_skips_no_day_when_it_is_set() -> None:
    """By ten hours: it ran at 13:00 by the right clock, and the night between is made up for."""
    device = Device(NIGHTLY, at("2026-03-10T02:00")).wait(18 * HOUR).jump(10 * HOUR)
    assert device.due == ["10 03:00", "11 03:00"]


def test_a_clock_that_was_hours_ahead_skips_no_day_when_it_is_set() -> None:
    device = Device(NIGHTLY, at("2026-03-10T02:00")).wait(2 * HOUR).jump(-10 * HOUR)
    assert device.wait(10 * HOUR).due == ["10 03:00", "10 03:00"]


def test_what_fell_into_a_downtime_is_run_once_or_not_at_all() -> None:
    noon = at("2026-03-10T12:00")
    assert Device(OFTEN, noon + 1, since=noon - 9 * DAY).wait(10.0).due == ["10 12:00"]
    assert Device(OFTEN, noon + 1).wait(10.0).due == []
    assert Device(NIGHTLY, noon, since=noon - 6 * HOUR).wait(10.0).due == []


def test_a_downtime_is_seen_also_when_the_clock_is_set_only_later() -> None:
    """At its start the clock shows the time of the shutdown; the night's time was missed."""
    device = Device(NIGHTLY, at("2026-03-09T22:00"), since=at("2026-03-09T03:00")).wait(MINUTE)
    assert device.due == []
    assert device.jump(10 * HOUR).wait(MINUTE).due == ["10 03:00"]


def test_a_note_from_the_future_does_not_silence_a_schedule() -> None:
    device = Device(NIGHTLY, at("2026-03-10T02:00"), since=at("2038-01-01T00:00")).wait(2 * HOUR)
    assert device.due == ["10 03:00"]


def test_a_machine_that_slept_runs_what_it_missed_only_where_that_is_asked_for() -> None:
    """The monotonic clock does not count sleep: it is a jump like any other."""
    device = Device(OFTEN, at("2026-03-10T00:02")).wait(10 * MINUTE)
    runs = len(device.runs)
    assert len(device.jump(8 * HOUR).runs) <= runs + 1


jumps = st.lists(
    st.tuples(st.floats(1.0, 2 * DAY), st.floats(-3 * 365 * DAY, 3 * 365 * DAY) | st.floats(-4 * HOUR, 4 * HOUR)),
    max_size=6,
)


@given(st.floats(at("2024-01-01"), at("2030-01-01")), jumps)
def test_no_jump_makes_a_burst_and_none_silences_a_schedule(start: float, steps: list[tuple[float, float]]) -> None:
    device = Device(NIGHTLY, start)
    for seconds, jump in steps:
        before, since = len(device.runs), device.now
        device.jump(jump)
        assert len(device.runs) <= before + 1
        device.wait(seconds, step=900.0)
        assert len(device.runs) - before <= 2 + (device.now - since) / DAY
    apart = [later - sooner for (_, sooner), (_, later) in pairwise(device.runs)]
    device.wait(27 * HOUR + 900, step=900.0)
    assert device.runs
    assert device.now - device.runs[-1][1] <= 27 * HOUR + 1_800
    if len(apart) > 2 * len(steps) + 1:  # each jump may bring one run forward
        assert max(apart) >= DAY - 1_800


@given(st.floats(at("2024-01-01"), at("2030-01-01")), st.floats(-2.9 * HOUR, 2.9 * HOUR))
def test_a_small_correction_runs_no_night_twice_and_skips_none(start: float, correction: float) -> None:
    device = Device(NIGHTLY, start).wait(30 * HOUR, step=300.0)
    before = len(device.runs)
    device.jump(correction).wait(5 * DAY, step=300.0)
    nights = [due for due, _ in device.runs[before - 1 :]]
    assert len(set(nights)) == len(nights)
    assert all(later - sooner == DAY for sooner, later in pairwise(nights))


# --- summer time -------------------------------------------------------------------------------------------------

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC")


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("2026-03-28T12:00", "2026-03-29T03:00+02:00"),  # 02:30 does not exist: run when the hour is over
        ("2026-10-24T12:00", "2026-10-25T02:30+02:00"),  # 02:30 comes twice: the first is meant
    ],
)
def test_a_time_in_the_hour_that_is_skipped_or_repeated_is_run_once(start: str, expected: str) -> None:
    cron = Cron("30 2 * * *", "Europe/Berlin")
    first = cron.next(at(start, "Europe/Berlin"))
    assert first is not None
    assert first == datetime.fromisoformat(expected).timestamp()
    device = Device(cron, at(start, "Europe/Berlin")).wait(36 * HOUR, step=60.0)
    assert len(device.runs) == 1 + (device.wall >= (cron.next(first) or math.inf))


def test_what_runs_by_the_minute_runs_through_both_hours() -> None:
    cron = Cron("*/30 * * * *", "Europe/Berlin")
    device = Device(cron, at("2026-10-25T00:00", "Europe/Berlin")).wait(25 * HOUR, step=60.0)
    assert len(device.runs) == 50
    assert {later - sooner for (sooner, _), (later, _) in pairwise(device.runs)} == {1800.0}


expressions = st.tuples(
    st.sampled_from(["*", "0", "30", "*/7", "59", "0,30"]),
    st.sampled_from(["*", "2", "3", "0", "*/6", "23", "1,2"]),
    st.sampled_from(["*", "1", "31", "L"]),
    st.sampled_from(["*", "3", "10", "2"]),
    st.sampled_from(["*", "0", "SUN", "MON-FRI"]),
).map(" ".join)


# Lord Howe's clocks change by half an hour, where cronsim, looking forwards, leaves out half an hour's minutes once.
@given(
    expressions,
    st.sampled_from([zone for zone in ZONES if "Howe" not in zone]),
    st.integers(int(at("2024-01-01")), int(at("2030-01-01"))),
)
def test_the_last_time_and_the_next_fit_together(expression: str, zone: str, now: int) -> None:
    try:
        cron = Cron(expression, zone)
    except ValueError:
        assume(False)
    following = cron.next(now)
    assert following is not None
    assert following > now
    assert cron.last(following) == following
    last = cron.last(following - 1)
    assert last is not None
    assert last <= now


@given(st.sampled_from(["30 2 * * *", "0 3 * * *", "0 0 * * *", "30 1 * * *"]), st.sampled_from(ZONES),
       st.integers(0, 1500))  # fmt: skip
def test_no_day_is_without_its_run_and_none_has_two_whatever_the_season(expression: str, zone: str, day: int) -> None:
    start = datetime(2024, 1, 1, 12, tzinfo=ZoneInfo(zone)) + timedelta(days=day)
    device = Device(Cron(expression, zone), start.timestamp()).wait(3 * DAY, step=600.0)
    days = [datetime.fromtimestamp(due, ZoneInfo(zone)).date() for due, _ in device.runs]
    assert days == [start.date() + timedelta(days=number) for number in (1, 2, 3)][: len(days)]
    assert len(days) >= 2


# --- what can't be used ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "zone", "why"),
    [
        ("61 * * * *", "UTC", "is no time of cron: Bad minute"),
        ("* * * *", "UTC", "is no time of cron: Wrong number of fields"),
        ("0 0 30 2 *", "UTC", "is no time of cron"),
        ("0 3 * * *", "Europe/Nowhere", "is no time zone"),
        ("0 3 * * *", "../../etc/passwd", "is no time zone"),
    ],
)
def test_what_is_no_time_is_said(expression: str, zone: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Cron(expression, zone)


def test_a_shorthand_means_what_it_does_in_cron() -> None:
    assert Cron("@daily", "UTC").next(at("2026-03-10T00:00")) == at("2026-03-11T00:00")
    assert Cron("@hourly", "UTC").next(at("2026-03-10T00:00")) == at("2026-03-10T01:00")
    assert Cron("@weekly", "UTC").next(at("2026-03-10T00:00")) == at("2026-03-15T00:00")


def test_without_a_zone_it_is_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    assert Cron("0 0 * * *", "").next(at("2026-03-10T00:00")) == at("2026-03-11T00:00", "Asia/Kolkata")


def test_a_schedule_is_called_by_what_it_says() -> None:
    assert name_of(Schedule(cron="0 3 * * *")) == "0 3 * * *"
    assert name_of(Schedule(cron="0 3 * * *", timezone="Europe/Berlin")) == "0 3 * * * Europe/Berlin"
    assert name_of(Schedule(every_s=30.0)) == "every 30 s"
    assert timetable(Schedule(every_s=30.0), 0.0, 0.0, None).next(0.0, 0.0) == 30.0
    assert timetable(Schedule(cron="@hourly"), 0.0, 1_800.0, None).next(0.0, 0.0) == 3_600.0


def test_the_clock_is_believed_after_a_time_server_or_after_a_while(tmp_path: Path) -> None:
    file = tmp_path / "synchronized"
    clock = Clock(file, unsure_s=math.inf)
    assert not clock.settled()
    file.touch()
    assert clock.settled()
    file.unlink()
    assert clock.settled()
    assert Clock(tmp_path / "never", unsure_s=0.0).settled()
