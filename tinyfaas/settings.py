"""A function's own settings: the keys of its `function.toml`, which are the keys of an upload's `config`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tinyfaas.errors import ConfigError
from tinyfaas.fields import build, checked, fields_of, table_of, type_of
from tinyfaas.model import Limits, Retry, Schedule, Settings, Surroundings, Trigger, Wiring
from tinyfaas.protocol import Topics
from tinyfaas.timetable import Cron, name_of
from tinyfaas.topics import overlap, unshared

TABLES = {"retry": Retry}
PLAIN: tuple[type[Any], ...] = (Limits, Surroundings, Wiring)  # whose settings stand at the top

# Settings of which a table may have one only, and whether it must have that one.
ONE_OF: dict[type[Any], tuple[tuple[str, ...], bool]] = {
    Trigger: (("batch", "debounce_s", "throttle_s"), False),
    Schedule: (("cron", "every_s"), True),
}


def settings_of(config: Mapping[str, Any], defaults: Limits) -> Settings:
    """The settings in force for a function: its own over the server's defaults. Raises `ConfigError`."""
    known = {name: (kind, declared) for kind in PLAIN for name, declared in fields_of(kind).items()}
    own: dict[type[Any], dict[str, Any]] = {kind: {} for kind in PLAIN}
    for key, value in config.items():
        if key in TABLES and not isinstance(value, dict):
            raise ConfigError(f"config.{key}: must be a table")
        if key not in known and key not in TABLES:
            raise ConfigError(f"config.{key}: no such setting; there are: {', '.join((*known, *TABLES))}")
        if key in known:
            kind, declared = known[key]
            own[kind][key] = checked(type_of(kind, key), declared, value, f"config.{key}")
            _check_choice(table_of(type_of(kind, key)), value, f"config.{key}")
    wiring = Wiring(**own[Wiring])
    _check_repeats(wiring)
    return Settings(
        dataclasses.replace(defaults, **own[Limits]),
        build(Retry, config.get("retry", {}), "config.retry."),
        Surroundings(**own[Surroundings]),
        wiring,
    )


def check_reach(function: str, wiring: Wiring, topics: Topics) -> None:
    """Refuse triggers that match the server's requests, and publishing into its own voice. Raises `ConfigError`.

    An output that calls its own function is refused too; other loops are found when they are run.
    """
    voice = (f"{topics.admin_prefix}#", f"{topics.response}/#", *(f"{topics.base}/{kind}/#" for kind in _OWN_KINDS))
    for place, trigger in enumerate(wiring.trigger):
        where = f"config.trigger[{place}].topic: {trigger.topic!r}"
        for own in topics.requests:
            if overlap(unshared(trigger.topic), own):
                raise ConfigError(f"{where} may not match {own.replace('+/', '')}: those are requests to the server")
    may_publish = [(f"config.publish[{place}]", each) for place, each in enumerate(wiring.publish)]
    if wiring.output is not None:
        may_publish.append(("config.output.topic", wiring.output.topic))
        calls_itself = [f"{topics.invoke_prefix}{function}", *(unshared(each.topic) for each in wiring.trigger)]
        for own in calls_itself:
            if overlap(wiring.output.topic, own):
                raise ConfigError(
                    f"config.output.topic: {wiring.output.topic!r} is matched by {own}: the function would call itself"
                )
    for where, each in may_publish:
        for own in voice:
            if overlap(each, own):
                raise ConfigError(f"{where}: {each!r} may not reach {own}: there only the server speaks")


_OWN_KINDS = ("node", "event", "deadletter")


def _check_choice(kind: type[Any] | None, value: Any, where: str) -> None:
    """Refuse tables with two settings of which they may have one, or with none of which they must have one."""
    if kind not in ONE_OF:
        return
    names, required = ONE_OF[kind]
    for place, table in enumerate(value):
        given = [name for name in names if name in table]
        if len(given) > 1 or (required and not given):
            shown = " and ".join(given) or "none"
            one = "one" if required else "at most one"
            raise ConfigError(f"{where}[{place}]: {shown} is not {one} of {', '.join(names)}")


def _check_repeats(wiring: Wiring) -> None:
    names: set[str] = set()
    for place, schedule in enumerate(wiring.schedule):
        where = f"config.schedule[{place}]"
        if schedule.cron:
            try:
                Cron(schedule.cron, schedule.timezone)
            except ValueError as error:
                raise ConfigError(f"{where}: {error}") from None
        if (name := name_of(schedule)) in names:
            raise ConfigError(f"{where}: {name!r} is the time of another schedule")
        names.add(name)
    seen: set[str] = set()
    for place, trigger in enumerate(wiring.trigger):
        if trigger.topic in seen:
            raise ConfigError(f"config.trigger[{place}].topic: {trigger.topic!r} is the topic of another trigger")
        seen.add(trigger.topic)
