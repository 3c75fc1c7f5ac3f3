"""The command line's grammar: commands, flags, and what their texts mean. Imports nothing that takes time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyfaas.cli import parser as shared
from tinyfaas.cli import words
from tinyfaas.cli.parser import BUILD_S, CHANGE_S, INVOKE_S, QUICK_S, Parser

if TYPE_CHECKING:
    import argparse

SHELLS = ("bash", "zsh", "fish")
_TAKE_ARGUMENTS = ("invoke", "call", "test")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """What the command line says; ends the process with status 2 if it can't be understood."""
    top = parser(argv[0] if argv else "")
    args, rest = top.parse_known_args(argv)
    if args.command in _TAKE_ARGUMENTS:
        # argparse before Python 3.13 leaves over what follows a flag: invoke hello --port 1884 ARG
        late, rest = _late_arguments(rest)
        args.arguments += late
    if rest:
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


def parser(wanted: str = "") -> Parser:
    """The whole grammar, which docs/cli.md and the shells' completions are made from; or that of one command, which
    takes less time, and less of the server's memory.
    """
    top = Parser(
        prog="tinyfaas",
        description="Functions-as-a-Service over MQTT.",
        epilog="The broker is given by --host and --port, by the server's variables TINYFAAS_MQTT_*"
        " (TINYFAAS_MQTT_USERNAME, TINYFAAS_MQTT_PASSWORD_FILE, TINYFAAS_MQTT_TLS ...),"
        " or by a profile in ~/.config/tinyfaas/cli.toml: a table with the keys of the server's section [mqtt].",
    )
    shared.version(top)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    for name in [wanted] if wanted in _COMMANDS else _COMMANDS:
        text, furnish = _COMMANDS[name]
        furnish(commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}."))
    return top


def _serve(parser: Parser) -> None:
    shared.server_settings(parser)


def _config(parser: Parser) -> None:
    shared.server_settings(parser)
    shared.as_json(parser)


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
    shared.broker(parser)


def _completion(parser: Parser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="for which shell")


# --- developing ----------------------------------------------------------------------------------------------------


def _init(parser: Parser) -> None:
    parser.add_argument("folder", metavar="NAME", type=Path, help="the function's name; a folder of it is made here")
    shared.as_json(parser)


def _folder(parser: Parser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder that holds func.py")
    parser.add_argument(
        "--name", metavar="FN", type=words.function_name, help="the function's name (default: the folder's)"
    )


def _test(parser: Parser) -> None:
    _folder(parser)
    shared.call_arguments(parser)
    shared.server_settings(parser)
    shared.as_json(parser)


def _dev(parser: Parser) -> None:
    _folder(parser)
    shared.signing_key(parser)
    shared.remote(parser, BUILD_S)


def _deploy(parser: Parser) -> None:
    parser.add_argument("folders", metavar="DIR", nargs="*", type=Path, help="folder that holds func.py")
    parser.add_argument("--all", metavar="DIR", type=Path, help="every folder below this one that holds func.py")
    parser.add_argument(
        "--name", metavar="FN", type=words.function_name, help="the function's name (default: the folder's)"
    )
    parser.add_argument(
        "--wait", action="store_true", help="wait until it is ready; without it, until the server has taken it"
    )
    shared.signing_key(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--if-changed", action="store_true", default=True, help="upload only what is not current already (the default)"
    )
    which.add_argument("--force", dest="if_changed", action="store_false", help="upload also what is current already")
    shared.remote(parser, BUILD_S)


def _replay(parser: Parser) -> None:
    shared.function(parser)
    parser.add_argument("folder", metavar="DIR", nargs="?", type=Path, help="run them on the code of this folder")
    parser.add_argument(
        "--version", metavar="N", type=words.version, help="or on this version, as it lies on this device"
    )
    _which_records(parser)
    shared.server_settings(parser)
    shared.remote(parser, QUICK_S)


# --- calling and looking -------------------------------------------------------------------------------------------


def _invoke(parser: Parser) -> None:
    shared.function(parser)
    shared.call_arguments(parser)
    shared.remote(parser, INVOKE_S)


def _call(parser: Parser) -> None:
    _invoke(parser)
    parser.add_argument(
        "--async",
        dest="wait",
        action="store_false",
        help="print the request's id and return; `logs FN --request ID` tells what came of it",
    )


def _logs(parser: Parser) -> None:
    shared.about_one(parser, QUICK_S)
    _which_records(parser)
    parser.add_argument("--request", metavar="ID", help="only the request of this id, as `call --async` printed it")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what happens, until Ctrl-C")


def _which_records(parser: Parser) -> None:
    parser.add_argument("--limit", metavar="N", type=words.records, help="at most so many, the newest (default: 100)")
    parser.add_argument("--failed", action="store_true", help="only what failed")
    parser.add_argument(
        "--since", metavar="TIME", type=words.moment, help="only from then on: an ISO time (UTC), or an age such as 15m"
    )


def _top(parser: Parser) -> None:
    parser.add_argument(
        "--interval", metavar="S", type=words.seconds, default=2.0, help="seconds between looks (default: %(default)g)"
    )
    parser.add_argument("--once", action="store_true", help="look for one interval, print that, and end")
    shared.remote(parser, QUICK_S)


def _acl(parser: Parser) -> None:
    parser.add_argument(
        "--user", metavar="NAME", default="tinyfaas", help="the server's account (default: %(default)s)"
    )
    shared.remote(parser, QUICK_S)


# --- keeping -------------------------------------------------------------------------------------------------------


def _backup(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="the file to write, a .tar.gz")
    parser.add_argument("--without-state", action="store_true", help="leave out what functions have stored")
    shared.server_settings(parser)
    shared.as_json(parser)


def _restore(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="a file that `tinyfaas backup` wrote")
    parser.add_argument(
        "functions", metavar="FN", nargs="*", type=words.function_name, help="only these (default: all in it)"
    )
    parser.add_argument(
        "--state",
        action="store_true",
        help="also what they had stored; only on the device itself, by root or the server's account",
    )
    shared.signing_key(parser)
    shared.server_settings(parser)
    shared.remote(parser, BUILD_S)


def _late_arguments(rest: Sequence[str]) -> tuple[list[Any], list[str]]:
    """Arguments of a function among what argparse left over, and what is left then: flags that don't exist."""
    late: list[Any] = []
    unknown: list[str] = []
    plain = False
    for text in rest:
        if text == "--" and not plain:
            plain = True
        elif plain or not text.startswith("-") or re.fullmatch(r"-[0-9.].*|-", text):
            late.append(words.json_or_text(text))
        else:
            unknown.append(text)
    return late, unknown


_COMMANDS: dict[str, tuple[str, Callable[[Parser], object]]] = {
    "init": ("make a new function: code, settings, an example call and a test", _init),
    "test": ("run a function on this computer as the server would, with its environment and limits", _test),
    "dev": ("deploy a function whenever one of its files is saved, and show its calls", _dev),
    "deploy": ("upload functions: folders with func.py, requirements.txt, function.toml", _deploy),
    "invoke": ("run a function and print its result as JSON", _invoke),
    "call": ("send a request to a function", _call),
    "list": ("list the functions", lambda parser: shared.remote(parser, QUICK_S)),
    "info": ("show one function: versions, settings, counters", lambda parser: shared.about_one(parser, QUICK_S)),
    "logs": ("show what a function did, newest last", _logs),
    "replay": ("run recorded invocations again on this computer, and compare what comes of them", _replay),
    "status": ("show how the server and the device are", lambda parser: shared.remote(parser, QUICK_S)),
    "top": ("watch every node and function: rates, durations, errors, memory, temperature", _top),
    "acl": ("print what a broker must allow the server and its functions, for mosquitto's acl_file", _acl),
    "rollback": ("make the version before the current one current", lambda parser: shared.about_one(parser, CHANGE_S)),
    "redrive": ("run the dead letters of a function again", lambda parser: shared.about_one(parser, CHANGE_S)),
    "delete": ("remove a function, its state and its history", lambda parser: shared.about_one(parser, CHANGE_S)),
    "backup": ("put the functions of this device, their settings and state, into one file", _backup),
    "restore": ("bring the functions of such a file to a device", _restore),
    "serve": ("run the server", _serve),
    "config": ("print the server's settings and where each comes from", _settings),
    "doctor": ("check this device and its broker, and say how to fix what is wrong", _doctor),
    "completion": ("print what completes commands and flags in a shell", _completion),
}
