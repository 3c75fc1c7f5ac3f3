"""A function's folder: `func.py`, and where they are there `requirements.txt` and `function.toml`."""

from __future__ import annotations

import base64
import tomllib
from pathlib import Path
from typing import Any

from tinyfaas.cli.failures import Unusable
from tinyfaas.errors import BadRequest
from tinyfaas.protocol import check_function, encode, upload_digest


def name_of(folder: Path) -> str:
    """The function's name, which is the folder's; raises `Unusable` if it can't be one."""
    name = folder.name if folder.name not in ("", "..") else folder.resolve().name
    try:
        return check_function(name)
    except BadRequest as error:
        raise Unusable(f"{error.message}; give one with --name") from None


def upload_of(folder: Path) -> dict[str, Any]:
    """The keys of an upload; raises `Unusable` for a file that is missing or can't be used."""
    code = _read(folder / "func.py")
    if code is None:
        raise Unusable(f"{folder}: has no func.py")
    body: dict[str, Any] = {"code_b64": _base64(code)}
    if (requirements := _read(folder / "requirements.txt")) is not None:
        body["req_b64"] = _base64(requirements)
    if (settings := _read(folder / "function.toml")) is not None:
        body["config"] = _settings(settings, folder / "function.toml")
    return body


def digest_of(body: dict[str, Any]) -> str:
    """The digest by which `info` tells a version that was made of this upload."""
    code, requirements = (base64.b64decode(body.get(key, "")) for key in ("code_b64", "req_b64"))
    return upload_digest(code, requirements, body.get("config", {}))


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from None


def _settings(text: bytes, file: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(text.decode("utf-8"))
        encode(settings)
    except TypeError:
        raise Unusable(f"{file}: holds a date or a time, which no setting is") from None
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, no number of JSON, or nested without end
        raise Unusable(f"{file}: {error}") from None
    return settings


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
