"""Signs an upload with the operator's SSH key, for servers that demand it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tinyfaas.cli.failures import Unusable
from tinyfaas.errors import BadRequest
from tinyfaas.protocol import SIGNATURE_NAMESPACE, canonical_upload, utc_time


def signed(body: Mapping[str, Any], function: str, node: str, key: str, timeout_s: float) -> dict[str, Any]:
    """The keys of an upload of `function` for `node` (empty: any), with those of its signature; raises `Unusable`.

    `key` is a private key's file; or a public one's, whose private one ssh-agent holds. ssh-keygen asks for a
    passphrase on the terminal.
    """
    body = {**body, "signed_at": utc_time(datetime.now(UTC).isoformat())}
    try:
        text = canonical_upload(function, {**body, "node": node})
    except BadRequest as error:
        raise Unusable(error.message) from None
    return {**body, "signature": _signature(text, key, timeout_s)}


def _signature(text: bytes, key: str, timeout_s: float) -> str:
    command = ["ssh-keygen", "-Y", "sign", "-n", SIGNATURE_NAMESPACE, "-f", key]
    try:
        with open(key, "rb"):  # noqa: PTH123  (only whether it can be opened: ssh-keygen would name another file)
            pass
        ended = subprocess.run(command, input=text, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603  (arguments are the user's own)
    except FileNotFoundError as error:
        if os.fspath(error.filename) == command[0]:
            raise Unusable("signing needs ssh-keygen (Debian's package openssh-client)") from None
        raise Unusable(f"{key}: {error.strerror}") from None
    except OSError as error:
        raise Unusable(f"{key}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Unusable(f"{key}: ssh-keygen did not sign within {timeout_s:g} s") from None
    if ended.returncode != 0:
        said = [line.strip() for line in ended.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        raise Unusable(f"{key}: can't sign with it: {_tellingly(said)}")
    return ended.stdout.decode("ascii")


def _tellingly(said: list[str]) -> str:
    """The line of ssh-keygen's that says most: what is wrong comes before what follows from it."""
    telling = ("too open", "passphrase", "invalid format", "error in libcrypto")
    return next(
        (line for line in said if any(words in line for words in telling)), said[-1] if said else "no reason given"
    )
