"""Uploads functions: only what has changed, with progress, one folder after the other."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tinyfaas.cli import answers, folder, show, signature
from tinyfaas.cli.answers import Answer
from tinyfaas.cli.failures import Unusable
from tinyfaas.cli.parser import QUICK_S
from tinyfaas.cli.progress import Progress
from tinyfaas.cli.terminal import width_of
from tinyfaas.exits import Exit


def run(args: argparse.Namespace) -> int:
    """Upload each folder; wait until it serves, or until the server has taken it."""
    folders = _folders(args)
    # All are read before anything is sent: a mistake in the last one leaves the first alone.
    uploads = {args.name or folder.name_of(each): folder.upload_of(each) for each in folders}
    if len(uploads) < len(folders):
        raise Unusable("two of these folders have the same name")
    status, said = Exit.OK, []
    for name, body in uploads.items():
        answer, text = deploy(args, name, body)
        said.append(answer)
        if not args.json and answer.get("status") != "error":
            print(text, flush=True)
        status = max(status, answers.complain_of(answer) if answer.get("status") == "error" else Exit.OK)
    if args.json:
        answers.print_json(said[0] if len(args.folders) == 1 and not args.all else said)
    return status


def deploy(args: argparse.Namespace, name: str, body: dict[str, Any]) -> tuple[Answer, str]:
    """Upload one function; returns what came of it, for programs and in words."""
    if args.if_changed and (current := unchanged(args, name, folder.digest_of(body))) is not None:
        answer = {"status": "ok", "function": name, "version": current, "changed": False}
        return answer, show.unchanged(answer)
    if args.sign:
        body = signature.signed(body, name, args.node or "", args.sign, args.timeout)
    progress = Progress(sys.stderr, width_of(sys.stderr))
    ends: list[Answer] = []
    try:
        # The server says at once that it has taken an upload, however long the build takes then.
        with closing(answers.exchange(args, "upload", name, body, first_sign_s=QUICK_S, of_all=args.wait)) as said:
            for heard in said:
                if heard.is_answer:
                    ends.append(heard.body)
                elif not args.wait:
                    return heard.body, show.taken(heard.body)
                else:
                    progress.show(heard.body)
    finally:
        progress.end()
    return _together(ends)


def unchanged(args: argparse.Namespace, function: str, digest: str) -> int | None:
    """The number of a function's current version, where that is the upload of this digest on every node."""
    with closing(answers.exchange(args, "info", function, {}, first_sign_s=QUICK_S, of_all=True)) as said:
        infos = [heard.body for heard in said if heard.is_answer]
    for info in infos:
        versions = {version["version"]: version["digest"] for version in info.get("versions", ())}
        if "version" not in info or versions.get(info["version"]) != digest:
            return None
    return infos[0]["version"] if infos else None


def _folders(args: argparse.Namespace) -> list[Path]:
    found = list(args.folders)
    if args.all:
        below = sorted(file.parent for file in args.all.glob("*/func.py"))
        if not below:
            raise Unusable(f"{args.all}: no folder in it holds a func.py")
        found += below
    if not found:
        raise Unusable("deploy what? Name folders, or --all DIR for every one in it")
    if args.name and len(found) > 1:
        raise Unusable("--name is for one folder")
    return found


def _together(ends: list[Answer]) -> tuple[Answer, str]:
    """The answers of all nodes as one: a bad one, if there is any; and with more than one node, all of them."""
    answer = next((each for each in ends if each.get("status") == "error"), ends[0])
    if len(ends) == 1:
        return answer, show.deployed(answer)
    return {**answer, "nodes": ends}, "\n".join(_each(ends))


def _each(ends: list[Answer]) -> Iterator[str]:
    for each in ends:
        told = show.failure(each) if each.get("status") == "error" else show.deployed(each)
        yield show.printable(f"{each.get('node')}: {told}")
