"""Which command is carried out by which file; that is loaded when its command is run, and no other."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from importlib import import_module

from tinyfaas.cli import arguments
from tinyfaas.cli.answers import complain
from tinyfaas.cli.failures import Failed
from tinyfaas.errors import ConfigError
from tinyfaas.exits import Exit

_HOMES = {
    "looking": ("list", "info", "logs", "status", "delete", "rollback", "redrive"),
    "calling": ("invoke", "call"),
    "deploying": ("deploy",),
    "dev": ("dev",),
    "serving": ("serve", "config", "doctor"),
    "starter": ("init",),
    "top": ("top",),
    "acl": ("acl",),
    "trial": ("test",),
    "replay": ("replay",),
    "backup": ("backup",),
    "restore": ("restore",),
    "completion": ("completion",),
}
COMMANDS = {command: home for home, commands in _HOMES.items() for command in commands}


def run(argv: Sequence[str]) -> int:
    """Run one command line; returns an exit status. What went wrong is one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale without an ä is no reason to fail
    args = arguments.parse(argv)
    try:
        home = import_module(f"tinyfaas.cli.{COMMANDS[args.command]}")
        return Exit(home.run(args))
    except Failed as failed:
        return complain(f"{failed}{failed.hint}", failed.status)
    except ConfigError as error:
        return complain(str(error), Exit.CONFIG)
