"""Who may upload, where that is restricted: SSH signatures, how old they are, and that none counts twice.

`ssh-keygen` does the cryptography: it is on every Pi, and knows keys, certificates and security keys. It is a process,
so `verify` belongs on a thread that may wait. Whatever keeps a signature from being checked refuses the upload.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tinyfaas import family, log
from tinyfaas.config import Uploads
from tinyfaas.errors import Forbidden
from tinyfaas.files import write_atomically
from tinyfaas.protocol import SIGNATURE_NAMESPACE, Signed, Upload, parse_signed, utc_time
from tinyfaas.registry import Record, Registry

logger = log.get("signing")

CHECK_S = 30.0  # what a signature may take to be checked; two short processes, even on a Pi Zero under load
_PROGRAM = "ssh-keygen"
_MOST_PRINCIPALS = 8


class Signers:
    """The signers that `uploads.allowed_signers` names; their file is read anew for each upload."""

    def __init__(self, registry: Registry, settings: Uploads, path: Path) -> None:
        self._registry = registry
        self._settings = settings
        self._path = path
        self._changing = threading.Lock()
        self._deleted_at = ""

    def reload(self, settings: Uploads) -> None:
        """Go by other settings from the next upload on."""
        self._settings = settings

    def load(self) -> None:
        """Read what is remembered of deleted functions; say in the log what will keep uploads from being taken."""
        try:
            self._deleted_at = utc_time(json.loads(self._path.read_bytes())["deleted"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.error("signed_unreadable", path=str(self._path), error=str(error))
        if not self._settings.allowed_signers:
            return
        if not shutil.which(_PROGRAM):
            logger.error("no_ssh_keygen", uploads_taken=False, package="openssh-client")
        if reason := self._unreadable():
            logger.error("signers_unreadable", path=self._settings.allowed_signers, reason=reason)
        elif self._writable():
            logger.warning("signers_writable", path=self._settings.allowed_signers)

    def admit(self, function: str, upload: Upload, body: Mapping[str, Any]) -> Upload:
        """The upload with its signature, where one is demanded: there, and of the right age. Takes no time.

        Raises `BadRequest`, or `Forbidden`.
        """
        if not self._settings.allowed_signers:
            return upload
        signed = parse_signed(function, body)
        self._check_age(signed.at)
        return replace(upload, signed=signed)

    def verify(self, function: str, signed: Signed | None) -> tuple[str, str]:
        """Who signed an upload of a function, and when; empty where nobody need sign. Waits for processes.

        Raises `Forbidden`. No other upload of the function may be on its way meanwhile.
        """
        if not self._settings.allowed_signers:
            return "", ""
        if signed is None:
            raise Forbidden("uploads must be signed here")
        record = self._registry.get(function)
        latest = record.signed_at if record else self._deleted_at
        if signed.at <= latest:
            what = f"{function} was uploaded" if record else "a function that is deleted now was uploaded"
            raise Forbidden(f"it was signed at {signed.at}, and {what} with a signature of {latest}: sign it again")
        return self._signer(signed), signed.at

    def remember_deleted(self, record: Record) -> None:
        """A function is about to be deleted: what was signed before its last upload must not come back as a new one.

        One time stands for all deleted functions, so that nothing grows.
        """
        with self._changing:
            if record.signed_at > self._deleted_at:
                write_atomically(self._path, json.dumps({"deleted": record.signed_at}).encode())
                self._deleted_at = record.signed_at

    def _check_age(self, signed_at: str) -> None:
        """The one decision by the wall clock, as a signature's time comes from another machine.

        A Pi's clock may be behind after its start, and then refuses what was signed now. It is no earlier than what
        was taken before says, so that what has been too old once is not young again.
        """
        records = (self._registry.get(name) for name in self._registry.names())
        now, taken = datetime.now(UTC), max([self._deleted_at, *(record.signed_at for record in records if record)])
        if taken:
            ahead = timedelta(seconds=self._settings.signature_max_ahead_s)
            now = max(now, datetime.fromisoformat(taken) - ahead)
        age_s = (now - datetime.fromisoformat(signed_at)).total_seconds()
        clock = f"this device's clock says {now:%Y-%m-%dT%H:%M:%SZ}"
        if age_s > self._settings.signature_max_age_s:
            raise Forbidden(
                f"it was signed {age_s:.0f} s ago, at most {self._settings.signature_max_age_s:g} are allowed; {clock}"
            )
        if -age_s > self._settings.signature_max_ahead_s:
            raise Forbidden(
                f"it was signed {-age_s:.0f} s in the future, at most {self._settings.signature_max_ahead_s:g} are"
                f" allowed; {clock}"
            )

    def _signer(self, signed: Signed) -> str:
        """The principal whose signature it is; raises `Forbidden`."""
        if reason := self._unreadable():
            logger.error("signers_unreadable", path=self._settings.allowed_signers, reason=reason)
            raise Forbidden(f"no upload is taken: uploads.allowed_signers can't be read: {reason}")
        deadline_s = time.monotonic() + CHECK_S
        code, out, why = self._ssh_keygen(["find-principals"], signed.signature, b"", deadline_s)
        if code != 0:
            unreadable = "armor" in why or "parse signature" in why
            raise _refused(
                "its signature can't be read" if unreadable else "its signer is not among those who may upload", why
            )
        principals = [line for line in out.split("\n") if line and not line.startswith("!")]
        for principal in principals[:_MOST_PRINCIPALS]:
            arguments = ["verify", "-n", SIGNATURE_NAMESPACE, "-I", principal]
            code, _, why = self._ssh_keygen(arguments, signed.signature, signed.text, deadline_s)
            if code == 0:
                return principal
        if "namespace" in why:
            raise _refused(f"its signature is not for {SIGNATURE_NAMESPACE}, the namespace of uploads", why)
        if "incorrect signature" in why:
            raise _refused("its signature does not fit: something differs from what was signed", why)
        raise _refused("its signature is not valid; the server's log says why", why)

    def _unreadable(self) -> str:
        """Why the file of allowed signers can't be read; empty if it can."""
        try:
            with open(self._settings.allowed_signers, "rb"):  # noqa: PTH123  (only whether it can be opened)
                return ""
        except OSError as error:
            return error.strerror or str(error)

    def _writable(self) -> bool:
        """Whether we could change the file, or put another in its place; then a function without a sandbox can."""
        file = Path(self._settings.allowed_signers)
        return os.geteuid() != 0 and any(os.access(path, os.W_OK) for path in (file, file.parent))

    def _ssh_keygen(
        self, arguments: list[str], signature: bytes, text: bytes, deadline_s: float
    ) -> tuple[int, str, str]:
        """Run it over a signature: its exit status and what it said; raises `Forbidden` if it can't or takes too long.

        The signature comes in a file that is nowhere on a disk.
        """
        file = os.memfd_create("signature")
        try:
            os.write(file, signature)
            command = [_PROGRAM, "-Y", *arguments, "-f", self._settings.allowed_signers, "-s", f"/proc/self/fd/{file}"]
            process = family.spawn(  # the file's name is the operator's, the principals come from it
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(file,),
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            logger.error("no_ssh_keygen", error=str(error), package="openssh-client")
            raise Forbidden("no upload is taken: ssh-keygen, which checks signatures, can't be run here") from None
        finally:
            os.close(file)
        try:
            out, why = process.communicate(text, max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise _refused(f"its signature could not be checked within {CHECK_S:g} s", "timeout") from None
        finally:
            if process.returncode is None:
                family.kill(process.pid)
                process.communicate()
            family.forget(process.pid)
        return process.returncode, out.decode("utf-8", "replace"), why.decode("utf-8", "replace")


def _refused(reason: str, why: str) -> Forbidden:
    """A refusal, whose reason in ssh-keygen's own words stays in the log: they name files of this device."""
    logger.warning("signature_refused", reason=reason, said=why.strip()[-500:])
    return Forbidden(reason)
