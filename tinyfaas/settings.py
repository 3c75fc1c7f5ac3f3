"""A function's own settings: the keys of its `function.toml`, which are the keys of an upload's `config`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tinyfaas.errors import ConfigError
from tinyfaas.fields import build, checked, fields_of, type_of
from tinyfaas.model import Limits, Retry, Settings, Surroundings

TABLES = {"retry": Retry}
PLAIN: tuple[type[Any], ...] = (Limits, Surroundings)  # whose settings stand at the top


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
    return Settings(
        dataclasses.replace(defaults, **own[Limits]),
        build(Retry, config.get("retry", {}), "config.retry."),
        Surroundings(**own[Surroundings]),
    )
