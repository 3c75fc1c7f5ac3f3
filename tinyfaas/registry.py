"""Which functions exist and which version of each is current: `functions.json`.

The file is replaced atomically with every change. A record that can't be read is set aside and reported, and the
others load; a file that can't be read at all gives way to the one before it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tinyfaas import log
from tinyfaas.errors import ConfigError, NotFound
from tinyfaas.files import write_atomically
from tinyfaas.model import FUNCTION_NAME, FunctionSpec, Limits, Version
from tinyfaas.protocol import utc_time
from tinyfaas.settings import settings_of

logger = log.get("registry")


@dataclass(frozen=True, slots=True)
class Record:
    """A function: its kept versions, oldest first, the current one, and the number the next upload gets.

    `signed_at` is that of the latest signed upload, whatever became of its version: none before it counts again.
    """

    current: int
    next_number: int
    versions: tuple[Version, ...]
    signed_at: str = ""

    @property
    def version(self) -> Version:
        """The current version."""
        return next(version for version in self.versions if version.number == self.current)

    def with_version(self, version: Version, keep: int, signed_at: str = "") -> Record:
        """The record after an upload. Versions that were rolled back from are given up with it."""
        served = [kept for kept in self.versions if kept.number <= self.current]
        signed_at = max(signed_at, self.signed_at)
        return Record(version.number, version.number + 1, (*served, version)[-keep:], signed_at)

    def rolled_back(self) -> Record | None:
        """The record with the version before the current one current, or None where there is none."""
        older = [version.number for version in self.versions if version.number < self.current]
        return replace(self, current=older[-1]) if older else None


class Registry:
    """The functions of this server. Reads take no lock: a change replaces the tables whole."""

    def __init__(self, path: Path, functions_dir: Path, defaults: Limits) -> None:
        self._path = path
        self._functions_dir = functions_dir
        self._defaults = defaults
        self._changing = threading.Lock()
        self._records: dict[str, Record] = {}
        self._specs: dict[str, FunctionSpec] = {}

    def load(self) -> None:
        """Read `functions.json`, setting aside what can't be used."""
        records, rejected = self._read(self._path)
        self._records = records
        self._specs = {name: self._spec(name, record) for name, record in records.items()}
        if rejected:
            aside = self._path.with_name(f"{self._path.name}.rejected-{int(time.time())}")
            write_atomically(aside, json.dumps(rejected, indent=1).encode())
            logger.error("records_rejected", functions=sorted(rejected), kept_in=str(aside))

    def reload(self, defaults: Limits) -> None:
        """Go by other defaults: the limits that a function does not set itself are those from its next call on."""
        with self._changing:
            self._defaults = defaults
            self._specs = {name: self._spec(name, record) for name, record in self._records.items()}

    def names(self) -> list[str]:
        """All functions, sorted."""
        return sorted(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, name: object) -> bool:
        return name in self._records

    def record(self, name: str) -> Record:
        """A function's record; raises `NotFound`."""
        record = self._records.get(name)
        if record is None:
            raise NotFound(f"no such function: {name}")
        return record

    def spec(self, name: str) -> FunctionSpec:
        """What a worker needs to serve a function's current version; raises `NotFound`."""
        spec = self._specs.get(name)
        if spec is None:
            raise NotFound(f"no such function: {name}")
        return spec

    def get_spec(self, name: str) -> FunctionSpec | None:
        """What a worker needs to serve a function, or None."""
        return self._specs.get(name)

    def specs(self) -> list[FunctionSpec]:
        """What serves each function now."""
        return list(self._specs.values())

    def get(self, name: str) -> Record | None:
        """A function's record, or None."""
        return self._records.get(name)

    def spec_for(self, name: str, version: Version) -> FunctionSpec:
        """The spec of one version, current or not; raises `ConfigError` for settings that can't be used."""
        home, settings = self.home(name), settings_of(version.config, self._defaults)
        return FunctionSpec(
            name=name,
            version=version.number,
            uploaded=version.uploaded,
            code_dir=home / "versions" / str(version.number),
            state_dir=home / "state",
            python=home / "environments" / version.environment / "bin" / "python",
            limits=settings.limits,
            retry=settings.retry,
            surroundings=settings.surroundings,
            wiring=settings.wiring,
        )

    def home(self, name: str) -> Path:
        """The folder that holds all there is of a function."""
        return self._functions_dir / name

    def put(self, name: str, record: Record) -> None:
        """Record a change durably; from then on it is in force."""
        with self._changing:
            self._save({**self._records, name: record})
            self._specs = {**self._specs, name: self._spec(name, record)}

    def remove(self, name: str) -> None:
        """Forget a function durably."""
        with self._changing:
            self._save({other: record for other, record in self._records.items() if other != name})
            self._specs = {other: spec for other, spec in self._specs.items() if other != name}

    def _save(self, records: dict[str, Record]) -> None:
        document = {name: _to_json(record) for name, record in records.items()}
        previous = self._path.with_name(f"{self._path.name}.previous")
        if self._path.exists():
            previous.unlink(missing_ok=True)
            previous.hardlink_to(self._path)
        write_atomically(self._path, json.dumps(document, indent=1).encode())
        self._records = records

    def _spec(self, name: str, record: Record) -> FunctionSpec:
        return self.spec_for(name, record.version)

    def _read(self, path: Path) -> tuple[dict[str, Record], dict[str, Any]]:
        previous = path.with_name(f"{path.name}.previous")
        for candidate in (path, previous):
            try:
                document = json.loads(candidate.read_bytes())
                if isinstance(document, dict):
                    return self._sorted_out(document)
                raise ValueError("no object")
            except FileNotFoundError:
                continue
            except (OSError, ValueError, RecursionError) as error:
                logger.error("registry_unreadable", path=str(candidate), error=str(error))
                _set_aside(candidate)
        return {}, {}

    def _sorted_out(self, document: Mapping[str, Any]) -> tuple[dict[str, Record], dict[str, Any]]:
        records: dict[str, Record] = {}
        rejected: dict[str, Any] = {}
        for name, entry in document.items():
            try:
                if FUNCTION_NAME.fullmatch(name) is None:
                    raise ValueError("bad name")
                record = _from_json(entry)
                self._spec(name, record)
                records[name] = record
            except (TypeError, ValueError, KeyError, AttributeError, StopIteration, ConfigError) as error:
                logger.error("record_rejected", function=name, error=str(error) or type(error).__name__)
                rejected[name] = entry
        return records, rejected


def _to_json(record: Record) -> dict[str, Any]:
    versions = [{"version": version.number, **_without_number(asdict(version))} for version in record.versions]
    signed = {"signed_at": record.signed_at} if record.signed_at else {}
    return {"version": record.current, "next_version": record.next_number, **signed, "versions": versions}


def _without_number(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != "number"}


def _from_json(entry: Mapping[str, Any]) -> Record:
    versions = tuple(
        Version(
            number=_typed(item["version"], int),
            uploaded=_typed(item["uploaded"], str),
            digest=_typed(item["digest"], str),
            environment=_typed(item["environment"], str),
            config=dict(item["config"]),
            signed_by=_typed(item.get("signed_by", ""), str),
        )
        for item in entry["versions"]
    )
    signed_at = utc_time(entry["signed_at"]) if "signed_at" in entry else ""
    record = Record(_typed(entry["version"], int), _typed(entry["next_version"], int), versions, signed_at)
    if record.version.number >= record.next_number:
        raise ValueError("the next version is not after the current one")
    return record


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _set_aside(path: Path) -> None:
    path.replace(path.with_name(f"{path.name}.corrupt-{int(time.time())}"))
