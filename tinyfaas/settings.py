"""A function's own settings: the keys of its `function.toml`, which are the keys of an upload's `config`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tinyfaas.errors import ConfigError
from tinyfaas.fields import checked, fields_of, type_of
from tinyfaas.model import Limits


def limits_of(config: Mapping[str, Any], defaults: Limits) -> Limits:
    """The limits in force for a function: its own settings over the server's defaults. Raises `ConfigError`."""
    known = fields_of(Limits)
    for key in config:
        if key not in known:
            raise ConfigError(f"config.{key}: no such setting; there are: {', '.join(known)}")
    own = {key: checked(type_of(Limits, key), known[key], value, f"config.{key}") for key, value in config.items()}
    return dataclasses.replace(defaults, **own)
