"""A function's own settings: the keys of its `function.toml`, which are the keys of an upload's `config`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tinyfaas.errors import ConfigError
from tinyfaas.fields import build, checked, fields_of, type_of
from tinyfaas.model import Limits, Retry, Settings

TABLES = {"retry": Retry}


def settings_of(config: Mapping[str, Any], defaults: Limits) -> Settings:
    """The settings in force for a function: its own over the server's defaults. Raises `ConfigError`."""
    known = fields_of(Limits)
    for key, value in config.items():
        if key in TABLES and not isinstance(value, dict):
            raise ConfigError(f"config.{key}: must be a table")
        if key not in known and key not in TABLES:
            raise ConfigError(f"config.{key}: no such setting; there are: {', '.join((*known, *TABLES))}")
    own = {
        key: checked(type_of(Limits, key), known[key], value, f"config.{key}")
        for key, value in config.items()
        if key in known
    }
    return Settings(dataclasses.replace(defaults, **own), build(Retry, config.get("retry", {}), "config.retry."))
