"""Upload → build → try → switch; delete; rollback. The version before serves until the new one has been tried."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tinyfaas import environments, log
from tinyfaas.config import Uploads
from tinyfaas.environments import Environments, Report
from tinyfaas.errors import BadRequest, ConfigError, NotFound
from tinyfaas.files import remove, sync_directory, write_atomically
from tinyfaas.model import Version
from tinyfaas.pool import Pool
from tinyfaas.protocol import Topics, Upload, iso_time, upload_digest
from tinyfaas.registry import Record, Registry
from tinyfaas.settings import check_reach
from tinyfaas.signing import Signers

logger = log.get("deploy")

_UNOWNED = ".unowned"


class Deployer:
    """Changes which functions there are. One thread at a time may work on one function.

    `take_up` hears of a function that has changed or gone, `let_go` of one that is about to be removed.
    """

    def __init__(
        self, registry: Registry, pool: Pool, signers: Signers, made: Environments, settings: Uploads, topics: Topics,
        forget_history: Callable[[str], None], take_up: Callable[[str], None], let_go: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._registry = registry
        self._environments = made
        self._pool = pool
        self._signers = signers
        self._settings = settings
        self._topics = topics
        self._forget_history = forget_history
        self._take_up = take_up
        self._let_go = let_go

    def reload(self, settings: Uploads) -> None:
        """Go by other settings from the next upload on."""
        self._settings = settings

    def check(self, name: str, upload: Upload) -> None:
        """Refuse settings that can't be used before anything is built; raises `BadRequest`."""
        try:
            spec = self._registry.spec_for(name, Version(0, "", "", "none", upload.config))
            check_reach(name, spec.wiring, self._topics)
        except ConfigError as error:
            raise BadRequest(str(error)) from None

    def upload(self, name: str, upload: Upload, report: Report) -> Version:
        """Build and try a new version, then make it current; raises `BuildFailed` and leaves the old one serving.

        Raises `Forbidden` before anything is built, where uploads must be signed.
        """
        record = self._registry.get(name)
        signed_by, signed_at = self._signers.verify(name, upload.signed)
        number = record.next_number if record else 1
        if record is None:
            self._mark_unowned(name)
        code_dir = self._registry.home(name) / "versions" / str(number)
        try:
            version = replace(self._build(name, number, upload, code_dir, report), signed_by=signed_by)
            report("import", "")
            worker = self._pool.start(self._registry.spec_for(name, version))
        except BaseException:
            shutil.rmtree(code_dir, ignore_errors=True)
            self._clean(name, record)
            raise
        changed = (record or Record(0, 1, ())).with_version(version, self._settings.keep_versions, signed_at)
        self._switch(name, changed)
        self._pool.adopt(worker)
        self._take_up(name)
        self._clean(name, changed)
        return version

    def rollback(self, name: str) -> Version:
        """Make the version before the current one current; raises `NotFound` where there is none."""
        changed = self._registry.record(name).rolled_back()
        if changed is None:
            raise NotFound(f"{name} has no version before {self._registry.record(name).current}")
        self._switch(name, changed)
        self._take_up(name)
        return changed.version

    def delete(self, name: str) -> None:
        """Remove a function: its code, environments, state and history; raises `NotFound`."""
        self._signers.remember_deleted(self._registry.record(name))
        self._mark_unowned(name)
        self._let_go(name)
        try:
            self._registry.remove(name)
        except BaseException:
            self._take_up(name)
            raise
        self._take_up(name)
        self._pool.retire(name)
        self._forget_history(name)
        remove(self._registry.home(name))

    def sweep(self) -> None:
        """Remove what an interrupted upload or delete has left behind; called once before anything is served."""
        for home in self._registry.home("").iterdir():
            record = self._registry.get(home.name)
            if record is not None:
                self._clean(home.name, record)
            elif (home / _UNOWNED).exists():
                logger.info("leftover_removed", path=str(home))
                remove(home)

    def _build(self, name: str, number: int, upload: Upload, code_dir: Path, report: Report) -> Version:
        shutil.rmtree(code_dir, ignore_errors=True)
        code_dir.mkdir(parents=True)
        write_atomically(code_dir / "func.py", upload.code)
        write_atomically(code_dir / "requirements.txt", upload.requirements)
        sync_directory(code_dir.parent)
        environment = self._environments.prepare(self._registry.home(name), code_dir / "requirements.txt", report)
        digest = upload_digest(upload.code, upload.requirements, upload.config)
        return Version(number, iso_time(time.time()), digest, environment, upload.config)

    def _switch(self, name: str, changed: Record) -> None:
        self._registry.put(name, changed)
        self._pool.retire(name)

    def _mark_unowned(self, name: str) -> None:
        """A folder with this mark and no record is a first upload or a delete that was interrupted."""
        home = self._registry.home(name)
        home.mkdir(parents=True, exist_ok=True)
        (home / _UNOWNED).touch()

    def _clean(self, name: str, record: Record | None) -> None:
        """Remove versions and environments that the record does not name."""
        home = self._registry.home(name)
        if record is None:
            remove(home)
            return
        (home / _UNOWNED).unlink(missing_ok=True)
        numbers = {str(version.number) for version in record.versions}
        for folder in (home / "versions").glob("*"):
            if folder.name not in numbers:
                shutil.rmtree(folder, ignore_errors=True)
        environments.remove_unused(home, (version.environment for version in record.versions))
