"""Settings as dataclass fields: each carries its default, its range and one line of documentation.

One mechanism reads the server's configuration (`config.py`) and a function's own settings (`settings.py`),
checks both with the same messages, and prints both as documentation.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from tinyfaas.errors import ConfigError

T = TypeVar("T")
SECRET_MASK = "********"  # noqa: S105  (what is shown instead of one)


def setting(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    pattern: str = "",
    form: str = "",
    required: bool = False,
    secret: bool = False,
    env: str = "",
    reload: bool = False,
) -> Any:
    """Declare a setting. `low` and `high` are inclusive; `env` names a variable other than the derived one.

    `form` says in words what its texts must be, where the `pattern` would tell nobody. A `required` setting must be
    given, and not be empty. `reload`: a change is taken over while the server runs.

    A setting whose type is a dataclass of settings is a table; a tuple of such is a list of tables.
    """
    metadata = {
        "doc": doc, "low": low, "high": high, "choices": choices, "pattern": pattern, "form": form,
        "required": required, "secret": secret, "env": env, "reload": reload,
    }  # fmt: skip
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def fields_of(kind: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """The declared settings of a dataclass, by name."""
    return {field.name: field for field in dataclasses.fields(kind)}


def type_of(kind: type[Any], name: str) -> Any:
    """The annotation of a setting, resolved."""
    return get_type_hints(kind)[name]


def table_of(kind: Any) -> Any:
    """The dataclass of a setting that is a table or a list of tables; None for any other."""
    kinds = [each for each in (kind, *get_args(kind)) if dataclasses.is_dataclass(each)]
    return kinds[0] if kinds else None


def is_list(kind: Any) -> bool:
    """Whether a setting is a list."""
    return get_origin(kind) is tuple


def allowed(kind: Any, field: dataclasses.Field[Any]) -> str:
    """What a setting may be, in words: `an integer from 1 to 65535`."""
    meta = field.metadata
    if table_of(kind) is not None:
        return "a list of tables" if is_list(kind) else "a table"
    if meta["choices"]:
        choices = ", ".join(f'"{choice}"' for choice in meta["choices"])
        return f"one of {choices}" if kind is str else f"a list of {choices}"
    words = {
        bool: "true or false", int: "an integer", float: "a number", str: "a string", Path: "a path",
        Mapping[str, str]: "a table of strings",
    }  # fmt: skip
    text = words.get(kind, "a list of strings")
    if meta["low"] is not None and meta["high"] is not None:
        return f"{text} from {meta['low']} to {meta['high']}"
    if meta["low"] is not None:
        return f"{text} of at least {meta['low']}"
    if meta["form"]:
        return f"a list of {meta['form']}" if is_list(kind) else f"a {meta['form']}"
    if meta["pattern"]:
        return f"{text} matching {meta['pattern']}"
    return text


def checked(kind: Any, field: dataclasses.Field[Any], value: object, where: str) -> Any:
    """Return `value` as the setting's type, or raise `ConfigError` naming `where`, the value and what is allowed."""
    if table_of(kind) is not None:
        return _tables(kind, field, value, where)
    try:
        typed = _typed(kind, value)
    except (TypeError, ValueError, OverflowError):
        raise _refused(kind, field, value, where) from None
    meta = field.metadata
    too_low = meta["low"] is not None and typed < meta["low"]
    too_high = meta["high"] is not None and typed > meta["high"]
    chosen = tuple(typed) if isinstance(typed, tuple | dict) else (typed,)  # of a table, the names
    no_choice = bool(meta["choices"]) and not set(chosen) <= set(meta["choices"])
    no_match = bool(meta["pattern"]) and any(
        re.fullmatch(meta["pattern"], str(each)) is None
        for each in chosen
        if typed != "" or meta["required"]  # empty: not set
    )
    if too_low or too_high or no_choice or no_match:
        raise _refused(kind, field, value, where)
    return typed


def from_text(kind: Any, text: str) -> object:
    """The value that a variable's text stands for, still to be `checked`."""
    if kind is bool:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower(), text)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    if kind in (str, Path):
        return text
    return [part.strip() for part in text.split(",") if part.strip()]


def build(kind: type[T], values: Mapping[str, object], where: str) -> T:
    """Make the dataclass from a table of values; unknown, missing and bad ones raise `ConfigError`."""
    fields = fields_of(kind)
    for key in values:
        if key not in fields:
            raise ConfigError(f"{where}{key}: no such setting; there are: {', '.join(fields)}")
    for key, field in fields.items():
        if field.metadata["required"] and key not in values:
            raise ConfigError(f"{where}{key}: is required: {allowed(type_of(kind, key), field)}")
    return kind(
        **{key: checked(type_of(kind, key), fields[key], value, f"{where}{key}") for key, value in values.items()}
    )


def _tables(kind: Any, field: dataclasses.Field[Any], value: object, where: str) -> Any:
    of = table_of(kind)
    tables = value if is_list(kind) else [value]
    if not isinstance(tables, list | tuple) or not all(isinstance(table, dict) for table in tables):
        raise _refused(kind, field, value, where)
    if is_list(kind):
        return tuple(build(of, table, f"{where}[{place}].") for place, table in enumerate(tables))
    return build(of, tables[0], f"{where}.")


def _typed(kind: Any, value: object) -> Any:
    if kind is bool or isinstance(value, bool):
        if kind is not bool or not isinstance(value, bool):
            raise TypeError
        return value
    if kind is float and isinstance(value, int | float) and math.isfinite(typed := float(value)):
        return typed
    if kind in (int, str) and isinstance(value, kind):
        return value
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    if kind == tuple[str, ...] and isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if kind == Mapping[str, str] and isinstance(value, dict) and all(isinstance(v, str) for v in value.values()):
        return dict(value)
    raise TypeError


def _refused(kind: Any, field: dataclasses.Field[Any], value: object, where: str) -> ConfigError:
    shown = SECRET_MASK if field.metadata["secret"] else repr(value)
    return ConfigError(f"{where}: {shown[:80]} is not {allowed(kind, field)}")
