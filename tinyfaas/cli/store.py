"""What the server on this device keeps on its disk, read beside it while it runs.

That is safe: the registry is replaced whole, and the files of a version are written before the registry names it and
never changed. A version that is given up between two looks is looked for again.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyfaas.cli.doctor import service
from tinyfaas.cli.failures import Failed
from tinyfaas.config import Config
from tinyfaas.errors import ConfigError
from tinyfaas.model import FUNCTION_NAME
from tinyfaas.protocol import upload_digest

_LOOKS = 3
_AS_WHO = "ask as root, or as the server's account"


@dataclass(frozen=True)
class Stored:
    """One version of a function as it lies there."""

    function: str
    version: int
    uploaded: str
    digest: str
    code: bytes
    requirements: bytes
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def upload(self) -> dict[str, Any]:
        """The keys of the upload that it was made of."""
        code, requirements = (base64.b64encode(data).decode("ascii") for data in (self.code, self.requirements))
        body: dict[str, Any] = {"code_b64": code}
        if self.requirements:
            body["req_b64"] = requirements
        if self.config:
            body["config"] = dict(self.config)
        return body


class Store:
    """The functions of this device."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._registry = config.data_dir / "functions.json"

    def functions(self) -> list[str]:
        """Their names, sorted; raises `Failed`."""
        return sorted(name for name in self._records() if FUNCTION_NAME.fullmatch(name))

    def version(self, function: str, number: int | None = None) -> Stored:
        """A version of a function, the current one unless named; raises `Failed`."""
        for _ in range(_LOOKS):
            record = self._records().get(function)
            if record is None:
                raise Failed(f"no such function on this device: {function}")
            wanted = record["version"] if number is None else number
            found = {each["version"]: each for each in record["versions"]}
            if wanted not in found:
                raise Failed(f"{function} has no version {wanted} here; there are: {', '.join(map(str, found))}")
            folder, entry = self.home(function) / "versions" / str(wanted), found[wanted]
            try:
                code, requirements = ((folder / name).read_bytes() for name in ("func.py", "requirements.txt"))
            except FileNotFoundError:
                continue  # an upload has replaced it meanwhile
            except OSError as error:
                raise _unreadable(error) from None
            if upload_digest(code, requirements, entry["config"]) != entry["digest"]:
                raise Failed(f"{folder}: is not what was uploaded as version {wanted}: its digest differs")
            return Stored(function, wanted, entry["uploaded"], entry["digest"], code, requirements, entry["config"])
        raise Failed(f"{function}: {folder}: has no func.py")

    def home(self, function: str) -> Path:
        """The folder of all there is of a function."""
        return self.config.functions_dir / function

    @contextlib.contextmanager
    def as_its_owner(self) -> Iterator[None]:
        """Do something with the rights of the server's account and no more, if we are root: what lies there is in the
        hands of functions where no sandbox is, and may lead anywhere.
        """
        groups = os.getgroups()
        try:
            owner = self.config.functions_dir.stat()
        except FileNotFoundError as error:
            raise _untouched(error) from None
        if os.geteuid() != 0 or owner.st_uid == 0:
            yield
            return
        try:
            os.setgroups([])
            os.setegid(owner.st_gid)
            os.seteuid(owner.st_uid)
            yield
        finally:
            os.seteuid(0)
            os.setegid(os.getgid())
            os.setgroups(groups)

    def _records(self) -> dict[str, Any]:
        try:
            records: dict[str, Any] = json.loads(self._registry.read_bytes())
        except FileNotFoundError as error:
            raise _untouched(error) from None
        except OSError as error:
            raise _unreadable(error) from None
        except ValueError as error:
            raise Failed(f"{self._registry}: {error}") from None
        return records


def here(config_file: Path | None) -> Store:
    """What the server on this device keeps, wherever its settings say; raises `ConfigError`."""
    settings, _ = service.configured(config_file, os.environ)
    if settings.problem:
        raise ConfigError(f"{settings.problem}; {_AS_WHO}" if settings.is_hidden else settings.problem)
    return Store(settings.config)


def _untouched(error: FileNotFoundError) -> Failed:
    return Failed(f"no server has been on this device: {error.filename} is not there; see --config")


def _unreadable(error: OSError) -> Failed:
    denied = f"; {_AS_WHO}" if isinstance(error, PermissionError) else ""
    return Failed(f"{error.filename}: {error.strerror}{denied}")
