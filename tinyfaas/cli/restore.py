"""Brings functions from a backup to a device: by uploads, as anyone would; what they had stored, by its own disk."""

from __future__ import annotations

import argparse
import secrets
import sys

from tinyfaas.cli import answers, archive, deploying, show, store
from tinyfaas.cli.archive import Reader
from tinyfaas.cli.failures import Failed, Unusable
from tinyfaas.cli.store import Store, Stored
from tinyfaas.errors import ConfigError
from tinyfaas.exits import Exit
from tinyfaas.files import remove
from tinyfaas.settings import settings_of

_MIB = 1024 * 1024


def run(args: argparse.Namespace) -> int:
    """Check all of it, then restore one function after the other; the exit status is the worst."""
    backup = archive.read(args.file)
    if unknown := sorted(set(args.functions) - set(backup.functions)):
        raise Unusable(f"{args.file}: has no {', '.join(unknown)}; there are: {', '.join(backup.functions) or 'none'}")
    functions = backup.stored(sorted(set(args.functions)) or backup.functions)
    home = store.here(args.config) if args.state else None
    args.wait = True
    status, said = Exit.OK, []
    for function in functions:
        files = _restore_state(backup, home, function) if home else 0
        args.if_changed = not files  # workers that are there have the folder that has given way
        answer, text = deploying.deploy(args, function.function, function.upload)
        said.append({**answer, **({"state_files": files} if home else {})})
        if answer.get("status") == "error":
            status = answers.complain_of(answer)
        elif not args.json:
            print(show.printable(f"{text}; {files} files of state" if files else text), flush=True)
    if args.json:
        answers.print_json(said)
    return status


def _restore_state(backup: Reader, home: Store, function: Stored) -> int:
    """Put a function's state where its first worker will find it; never over one that is there.

    Returns how many files: none, and says why, where there is a state already.
    """
    state = home.home(function.function) / "state"
    beside = home.config.functions_dir / f".restoring-{secrets.token_hex(4)}"
    try:
        with backup.file.open("rb") as source, home.as_its_owner():
            if state.is_dir() and any(state.iterdir()):
                told = f"{function.function}: has stored something here already, which stays as it is"
                print(f"tinyfaas: {told}", file=sys.stderr)
                return 0
            try:
                files = backup.extract_state(source, function.function, beside, _most_bytes(home, function))
                if files:
                    state.parent.mkdir(mode=0o750, exist_ok=True)
                    beside.rename(state)  # an empty folder gives way
            finally:
                remove(beside)
    except PermissionError as error:
        raise Failed(f"{error.filename}: {error.strerror}; --state is for root, or the server's account") from None
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from None
    return files


def _most_bytes(home: Store, function: Stored) -> int:
    try:
        return settings_of(function.config, home.config.limits).limits.max_disk_mb * _MIB
    except ConfigError as error:
        raise Failed(f"{function.function}: {error}") from None
