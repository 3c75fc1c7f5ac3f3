"""The secrets that functions may ask for by name: files in a folder that only root and the server read.

Under systemd that is the credentials folder, where `LoadCredential=secrets:FOLDER` makes each file of the folder a
credential `secrets_NAME`. Read when a worker starts and never kept, so what is changed there is in force with the next.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from tinyfaas.errors import BadRequest

_PREFIX = "secrets_"
_LARGEST_BYTES = 65_536


class Credentials:
    """Where secrets are. `folder` is the configured one; empty: systemd's, if the server was started by it."""

    def __init__(self, folder: str, environ: Mapping[str, str]) -> None:
        systemd = environ.get("CREDENTIALS_DIRECTORY", "")
        places = ((folder, _PREFIX if folder == systemd else ""), (systemd, _PREFIX))
        self._places = [(Path(place), prefix) for place, prefix in places if place]

    def of(self, names: Iterable[str]) -> dict[str, str]:
        """The values of these secrets, by name. Raises `BadRequest` for one that is not there, or no text."""
        return {name: self._read(name) for name in names}

    def _read(self, name: str) -> str:
        for place, prefix in self._places:
            try:
                with (place / (prefix + name)).open("rb") as file:
                    value = file.read(_LARGEST_BYTES + 1)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise BadRequest(f"secrets: {name} can't be read: {error.strerror}") from None
            return _text(name, value)
        raise BadRequest(f"secrets: this device has no secret {name}")


def _text(name: str, value: bytes) -> str:
    if len(value) > _LARGEST_BYTES or b"\0" in value:
        raise BadRequest(f"secrets: {name} is too large, or no text")
    return os.fsdecode(value.removesuffix(b"\n").removesuffix(b"\r"))
