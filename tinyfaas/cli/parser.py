"""The parser of the command line, and the flags that many commands share. Imports nothing that takes time."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, NoReturn

from tinyfaas.cli import words
from tinyfaas.exits import Exit

QUICK_S = 10.0  # what the server answers at once
CHANGE_S = 60.0  # what may wait for a build of the same function
INVOKE_S = 60.0  # a function's own limit is 30 s unless it says otherwise
BUILD_S = 1200.0  # an environment may take 900 s to build, after waiting for others


class Parser(argparse.ArgumentParser):
    """A parser that knows no abbreviations and says in one line what it does not understand."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """End with exit status 2."""
        self.exit(Exit.USAGE, f"tinyfaas: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """Prints the version; looked up only here, as that takes longer than all the rest of parsing."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from importlib import metadata

        try:
            version = metadata.version("tinyfaas")
        except metadata.PackageNotFoundError:
            version = "(not installed)"
        print(f"tinyfaas {version}")
        parser.exit()


def version(parser: Parser) -> None:
    """Which tinyfaas this is."""
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")


def server_settings(parser: Parser) -> None:
    """Where the server's own settings stand."""
    named = os.environ.get("TINYFAAS_CONFIG")
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=Path(named) if named else None,
        help="the server's settings in TOML (default: $TINYFAAS_CONFIG, or /etc/tinyfaas/tinyfaas.toml if it is there)",
    )


def broker(parser: Parser) -> None:
    """Where the broker is."""
    parser.add_argument("--host", help="the broker's host (default: $TINYFAAS_MQTT_HOST, or localhost)")
    parser.add_argument("--port", type=words.port, help="its port (default: $TINYFAAS_MQTT_PORT, or 1883)")


def remote(parser: Parser, timeout_s: float) -> None:
    """What all commands that talk to a server have."""
    parser.add_argument("--profile", metavar="NAME", help="which profile (default: $TINYFAAS_PROFILE, or default)")
    broker(parser)
    parser.add_argument("--node", metavar="NAME", help="only the node of this name answers")
    parser.add_argument(
        "--timeout",
        metavar="S",
        type=words.seconds,
        default=timeout_s,
        help="seconds to wait for an answer (default: %(default)g)",
    )
    as_json(parser)


def about_one(parser: Parser, timeout_s: float) -> None:
    """A command about one function."""
    function(parser)
    remote(parser, timeout_s)


def function(parser: Parser) -> None:
    """Which function."""
    parser.add_argument("function", metavar="FN", type=words.function_name, help="the function's name")


def call_arguments(parser: Parser) -> None:
    """What `main` is called with."""
    parser.add_argument(
        "arguments",
        metavar="ARG",
        nargs="*",
        type=words.json_or_text,
        help="argument of main(): JSON, or a string where it is none; after -- what begins with a dash;"
        " a single - reads them from stdin, as one JSON array, or as an object with args and kwargs",
    )
    parser.add_argument(
        "--kwarg",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=words.named_argument,
        help="keyword argument of main(); may be repeated",
    )


def signing_key(parser: Parser) -> None:
    """Whose signature an upload bears."""
    parser.add_argument(
        "--sign",
        metavar="KEY",
        default=os.environ.get("TINYFAAS_SIGN_KEY"),
        help="sign it with this SSH key; with a .pub, by ssh-agent (default: $TINYFAAS_SIGN_KEY)",
    )


def as_json(parser: Parser, text: str = "print the whole answer as one JSON document") -> None:
    """For programs."""
    parser.add_argument("--json", action="store_true", help=text)
