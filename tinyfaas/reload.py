"""What a running server takes over of settings that were read again: a new `Config`, made from the old and the read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from tinyfaas.config import SECTIONS, Config, reloaded, settings


@dataclass(frozen=True, slots=True)
class Reload:
    """The configuration to be in force, and the keys of what changed: taken over, and waiting for a restart."""

    config: Config
    applied: list[str]
    restart: list[str]


def merged(old: Config, read: Config) -> Reload:
    """The old configuration with all that was read and may change while the server runs."""
    applied: list[str] = []
    restart: list[str] = []
    taken: dict[str, dict[str, Any]] = {section: {} for section in ("", *SECTIONS)}
    origins = dict(old.origins)
    for section, name, _, declared in settings():
        before, after = (getattr(getattr(each, section) if section else each, name) for each in (old, read))
        if before == after:
            continue
        key = f"{section}.{name}" if section else name
        if not reloaded(section, declared):
            restart.append(key)
            continue
        applied.append(key)
        taken[section][name] = after
        origins[key] = read.origins.get(key, "default")
    sections: dict[str, Any] = {
        section: dataclasses.replace(getattr(old, section), **taken[section]) for section in SECTIONS
    }
    return Reload(dataclasses.replace(old, **taken[""], **sections, origins=origins), applied, restart)
