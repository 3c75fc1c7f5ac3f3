"""The command `tinyfaas`, also as `python -m tinyfaas`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tinyfaas.exits import Exit


def main() -> int:
    """Run what the command line says; returns an exit status, see `tinyfaas.exits`."""
    try:
        # Here, so that Ctrl-C is quiet from the first moment: on a Pi Zero imports take a noticeable time.
        if sys.argv[1:] == ["serve"]:  # as the unit says it: nothing of the command line stays in the server's memory
            from tinyfaas.daemon import serve

            named = os.environ.get("TINYFAAS_CONFIG")
            return serve(Path(named) if named else None)
        from tinyfaas.cli.commands import run

        try:
            return run(sys.argv[1:])
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # while what it may raise can still be caught
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        _give_up_stdout()
        return Exit.READER_GONE
    except OSError as error:
        _give_up_stdout()
        print(f"tinyfaas: {error}", file=sys.stderr)
        return Exit.FAILED


def _give_up_stdout() -> None:
    """Python flushes stdout once more at its end, and would complain about what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main())
