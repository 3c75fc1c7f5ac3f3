"""Puts the functions of this device into one file, while its server runs: code, settings, and what they have stored.

No secrets are taken: they lie elsewhere, and so do the server's own settings.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from tinyfaas.cli import show, store
from tinyfaas.cli.answers import print_json
from tinyfaas.cli.archive import Writer
from tinyfaas.cli.failures import Failed
from tinyfaas.cli.store import Store
from tinyfaas.exits import Exit
from tinyfaas.protocol import iso_time


def run(args: argparse.Namespace) -> int:
    """Write the file beside, then rename it: what stands there is whole."""
    kept = store.here(args.config)
    try:
        fd, beside = tempfile.mkstemp(prefix=f".{args.file.name}.", dir=args.file.parent)  # for nobody else to read
        try:
            with os.fdopen(fd, "wb") as out:
                with kept.as_its_owner():
                    writer, entries = _write(kept, out, with_state=not args.without_state)
                out.flush()
                os.fsync(out.fileno())
            Path(beside).replace(args.file)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Failed(f"{error.filename or args.file}: {error.strerror}") from None
    size = args.file.stat().st_size
    if args.json:
        print_json({"file": str(args.file), "bytes": size, "functions": entries, "left_out": writer.left_out})
        return Exit.OK
    names = ", ".join(entries) or "none"
    print(show.printable(f"{args.file}: {show.size(size)}, functions: {names}"))
    if writer.left_out:
        print(f"{writer.left_out} links or special files in their folders were left out", file=sys.stderr)
    return Exit.OK


def _write(kept: Store, out: IO[bytes], *, with_state: bool) -> tuple[Writer, dict[str, Any]]:
    """Write what is kept; returns the writer, and what its table of contents says of each function."""
    functions = [kept.version(name) for name in kept.functions()]
    entries = {
        each.function: {
            "version": each.version, "uploaded": each.uploaded, "digest": each.digest, "config": dict(each.config),
        }
        for each in functions
    }  # fmt: skip
    contents = {"node": kept.config.node.name, "created": iso_time(time.time()), "functions": entries}
    writer = Writer(out, contents)
    for each in functions:
        writer.add(each)
        if with_state:
            with contextlib.suppress(FileNotFoundError):  # nothing has ever run
                fd = os.open(kept.home(each.function) / "state", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    writer.add_state(each.function, fd)
                finally:
                    os.close(fd)
    writer.close()
    return writer, entries
