"""What is said while it runs, on stderr: tables alone are on stdout."""

from __future__ import annotations

import sys
import time

_begun = time.monotonic()


def say(text: str) -> None:
    """One line, with the time since the start."""
    seconds = int(time.monotonic() - _begun)
    print(f"==> {seconds // 60:2}:{seconds % 60:02}  {text}", file=sys.stderr, flush=True)
