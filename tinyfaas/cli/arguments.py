"""The command line's grammar: commands, flags, and what their texts mean. Imports nothing that takes time."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from tinyfaas.exits import Exit

QUICK_S = 10.0  # what the server answers at once
CHANGE_S = 60.0  # what may wait for a build of the same function
INVOKE_S = 60.0  # a function's own limit is 30 s unless it says otherwise
BUILD_S = 1200.0  # an environment may take 900 s to build, after waiting for others
_LONGEST_S = 604_800.0


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


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """What the command line says; ends the process with status 2 if it can't be understood."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if args.command == "invoke":
        # argparse before Python 3.13 leaves over what follows a flag: invoke hello --port 1884 ARG
        late, rest = _late_arguments(rest)
        args.arguments += late
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


def json_or_text(text: str) -> Any:
    """A function's argument: what the text says in JSON, or the text itself where it is no JSON."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return text


def named_argument(text: str) -> tuple[str, Any]:
    """A keyword argument, `NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, json_or_text(value)


def function_name(text: str) -> str:
    """The name of a function."""
    from tinyfaas.errors import BadRequest
    from tinyfaas.protocol import check_function

    try:
        return check_function(text)
    except BadRequest as error:
        raise argparse.ArgumentTypeError(error.message) from None


def seconds(text: str) -> float:
    """A time to wait, more than 0 s and at most a week."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {_LONGEST_S:g}")
    return value


def port(text: str) -> int:
    """A TCP port."""
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def _parser() -> Parser:
    parser = Parser(
        prog="tinyfaas",
        description="Functions-as-a-Service over MQTT.",
        epilog="The broker is given by --host and --port, by the server's variables TINYFAAS_MQTT_*"
        " (TINYFAAS_MQTT_USERNAME, TINYFAAS_MQTT_PASSWORD_FILE, TINYFAAS_MQTT_TLS ...),"
        " or by a profile in ~/.config/tinyfaas/cli.toml: a table with the keys of the server's section [mqtt].",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str) -> Parser:
        return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")

    _serve(command("serve", "run the server"))
    _settings(command("config", "print the server's settings and where each comes from"))
    _deploy(command("deploy", "upload a function: a folder with func.py, requirements.txt, function.toml"))
    _invoke(command("invoke", "run a function and print its result as JSON"))
    _plain(command("list", "list the functions"), QUICK_S)
    _about_one(command("info", "show one function: versions, settings, counters"), QUICK_S)
    _logs(command("logs", "show what a function did, newest last"))
    _plain(command("status", "show how the server and the device are"), QUICK_S)
    _doctor(command("doctor", "check this device and its broker, and say how to fix what is wrong"))
    _about_one(command("delete", "remove a function, its state and its history"), CHANGE_S)
    _about_one(command("rollback", "make the version before the current one current"), CHANGE_S)
    return parser


def _serve(parser: Parser) -> None:
    named = os.environ.get("TINYFAAS_CONFIG")
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=Path(named) if named else None,
        help="settings in TOML (default: $TINYFAAS_CONFIG, or /etc/tinyfaas/tinyfaas.toml where there is one)",
    )


def _config(parser: Parser) -> None:
    _serve(parser)
    _json(parser)


def _settings(parser: Parser) -> None:
    _config(parser)
    parser.add_argument(
        "--against",
        metavar="FILE",
        type=Path,
        help="print what differs from these settings instead: what a reload takes over, and what takes a restart",
    )


def _doctor(parser: Parser) -> None:
    _config(parser)
    _broker(parser)


def _deploy(parser: Parser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder that holds func.py")
    parser.add_argument("--name", metavar="FN", type=function_name, help="the function's name (default: the folder's)")
    parser.add_argument(
        "--wait", action="store_true", help="wait until it is ready; without it, until the server has taken it"
    )
    parser.add_argument(
        "--sign",
        metavar="KEY",
        default=os.environ.get("TINYFAAS_SIGN_KEY"),
        help="sign it with this SSH key; with a .pub, by ssh-agent (default: $TINYFAAS_SIGN_KEY)",
    )
    parser.add_argument("--if-changed", action="store_true", help="upload only what is not the current version already")
    _plain(parser, BUILD_S)


def _invoke(parser: Parser) -> None:
    _function(parser)
    parser.add_argument(
        "arguments",
        metavar="ARG",
        nargs="*",
        type=json_or_text,
        help="argument of main(): JSON, or a string where it is none; after -- what begins with a dash",
    )
    parser.add_argument(
        "--kwarg",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=named_argument,
        help="keyword argument of main(); may be repeated",
    )
    _plain(parser, INVOKE_S)


def _logs(parser: Parser) -> None:
    _about_one(parser, QUICK_S)
    parser.add_argument("--limit", metavar="N", type=int, help="at most so many, the newest (default: 100)")
    parser.add_argument("--failed", action="store_true", help="only what failed")
    parser.add_argument("--since", metavar="TIME", help="only from this ISO time on; UTC unless it says otherwise")


def _about_one(parser: Parser, timeout_s: float) -> None:
    _function(parser)
    _plain(parser, timeout_s)


def _broker(parser: Parser) -> None:
    parser.add_argument("--host", help="the broker's host (default: $TINYFAAS_MQTT_HOST, or localhost)")
    parser.add_argument("--port", type=port, help="its port (default: $TINYFAAS_MQTT_PORT, or 1883)")


def _plain(parser: Parser, timeout_s: float) -> None:
    """What all commands that talk to a server have."""
    parser.add_argument("--profile", metavar="NAME", help="which profile (default: $TINYFAAS_PROFILE, or default)")
    _broker(parser)
    parser.add_argument("--node", metavar="NAME", help="only the node of this name answers")
    parser.add_argument(
        "--timeout",
        metavar="S",
        type=seconds,
        default=timeout_s,
        help="seconds to wait for the answer (default: %(default)g)",
    )
    _json(parser)


def _function(parser: Parser) -> None:
    parser.add_argument("function", metavar="FN", type=function_name, help="the function's name")


def _json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print the whole answer as one JSON document")


def _late_arguments(rest: Sequence[str]) -> tuple[list[Any], list[str]]:
    """Arguments of a function among what argparse left over, and what is left then: flags that don't exist."""
    late: list[Any] = []
    unknown: list[str] = []
    plain = False
    for text in rest:
        if text == "--" and not plain:
            plain = True
        elif plain or not text.startswith("-") or re.fullmatch(r"-[0-9.].*|-", text):
            late.append(json_or_text(text))
        else:
            unknown.append(text)
    return late, unknown


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large")
    return value
