"""The smallest function: it greets."""

from __future__ import annotations


def main(name: str = "world") -> dict[str, str]:
    """Greet `name`."""
    return {"message": f"Hello, {name}!"}
