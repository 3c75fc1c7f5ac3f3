"""Which broker a command speaks to, and how: from the command line, variables, or a profile."""

from __future__ import annotations

import argparse
import dataclasses
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyfaas import config
from tinyfaas.config import Mqtt
from tinyfaas.errors import ConfigError

_OURS = "TINYFAAS_MQTT_"
_DEFAULT = "default"


def settings(args: argparse.Namespace, environ: Mapping[str, str]) -> Mqtt:
    """The `mqtt` section from a profile, `TINYFAAS_MQTT_*`, `--host` and `--port`; raises `ConfigError`.

    Each overrides those before it. The server's own file is not read: it may be unreadable for who runs a command, or
    on another machine. No other setting matters, so none can keep a command from working. One attempt to connect
    takes no longer than `--timeout` allows.
    """
    ours = {name: text for name, text in environ.items() if name.startswith(_OURS)}
    table, source = _profile(args, environ)
    mqtt = config.assemble({"mqtt": table}, source, ours).mqtt
    return dataclasses.replace(
        mqtt,
        host=args.host or mqtt.host,
        port=args.port or mqtt.port,
        connect_timeout_s=min(mqtt.connect_timeout_s, args.timeout),
    )


def _profile(args: argparse.Namespace, environ: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """The keys of the profile that is named, or of the one called `default`, and where they stand."""
    named = args.profile or environ.get("TINYFAAS_PROFILE", "")
    if not named and (args.host or args.port or environ.get(f"{_OURS}HOST") or environ.get(f"{_OURS}PORT")):
        return {}, ""  # another broker than the default one's: that one's password is none of its business
    file = _file(environ)
    profiles = _read(file)
    profile = profiles.get(named or _DEFAULT)
    if profile is None:
        if not named:
            return {}, ""
        raise ConfigError(f"{file}: no profile {named}; there are: {', '.join(profiles) or 'none'}")
    if not isinstance(profile, dict):
        raise ConfigError(f"{file}: {named or _DEFAULT}: is a table, written [{named or _DEFAULT}]")
    return profile, f"{file}: [{named or _DEFAULT}]"


def _file(environ: Mapping[str, str]) -> Path:
    """Where profiles are kept."""
    folder = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111  (never raises)
    return Path(folder, "tinyfaas", "cli.toml")


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or nested without end
        raise ConfigError(f"{file}: {error}") from None
