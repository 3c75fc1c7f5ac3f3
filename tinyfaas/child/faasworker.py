"""A worker: loads one function and calls its `main` for each frame that comes, until the channel ends.

Runs as a child of the fork server, closed in, with the function's environment joined; so it imports the standard
library only and nothing of tinyfaas. The frame channel is a socket of its own: what user code prints, or does to stdin
and stdout, can't reach it.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import faascontext
import faaswire

SOURCE = "func.py"
LONGEST_TRACEBACK = 8_000

# Taken before user code runs: a function that replaces json.dumps, or os._exit, harms only itself.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_decode = json.loads
_exit, _read, _write = os._exit, os.read, os.write
_AT_ONCE, _AT_MOST = 8_192, 1_048_576


class Channel:
    """The socket to the server, blocking; its end is the worker's end.

    Read and written as a bare descriptor: a socket object would cost each worker memory of its own, and time.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, True)
        self._fd = fd
        self._owner = os.getpid()
        self._ahead = b""

    def receive(self) -> tuple[int, int, bytes]:
        """The next frame: its kind, its number and its body."""
        data = self._ahead
        while len(data) < faaswire.HEADER.size:
            data += self._read(_AT_ONCE)
        length, kind, number = faaswire.HEADER.unpack_from(data)
        end = faaswire.HEADER.size + length
        if len(data) < end:
            data = self._filled(data, end)
        self._ahead = data[end:]
        return kind, number, data[faaswire.HEADER.size : end]

    def send(self, kind: int, number: int, body: bytes) -> None:
        """Send one frame. A process that the function forked has no say here, and ends."""
        if os.getpid() != self._owner:
            _exit(0)
        rest = memoryview(faaswire.frame(kind, number, body))
        try:
            while rest:
                rest = rest[_write(self._fd, rest) :]
        except OSError:
            _exit(1)

    def _filled(self, data: bytes, wanted: int) -> bytes:
        whole = bytearray(data)
        while len(whole) < wanted:
            whole += self._read(min(wanted - len(whole), _AT_MOST))
        return bytes(whole)

    def _read(self, most: int) -> bytes:
        try:
            data = _read(self._fd, most)
        except OSError:
            _exit(1)
        if not data:
            _exit(0)
        return data


def load(code_dir: str) -> Callable[..., Any]:
    """Run func.py as module `func` and return its `main`; whatever is wrong raises."""
    path = os.path.join(code_dir, SOURCE)  # noqa: PTH118  (pathlib would cost every cold start its import)
    with io.open_code(path) as file:
        source = file.read()
    module = types.ModuleType("func")
    module.__file__ = path
    sys.modules["func"] = module
    sys.path.insert(0, code_dir)
    exec(compile(source, SOURCE, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  (what a worker is for)
    main = getattr(module, "main", None)
    if main is None:
        raise AttributeError("func.py defines no main")
    if not callable(main):
        raise TypeError(f"main in func.py is not callable but {type(main).__name__}")
    return main  # type: ignore[no-any-return]


def request_in(payload: bytes) -> dict[str, Any]:
    """The `args` and `kwargs` of a call; events whose payload is bytes get it."""
    if payload[:1] != b"\0":
        return _decode(payload) if payload else {}
    _, length = faaswire.BYTES_BEHIND.unpack_from(payload)
    at = faaswire.BYTES_BEHIND.size + length
    request: dict[str, Any] = _decode(payload[faaswire.BYTES_BEHIND.size : at])
    (events,) = request["args"]
    for event in events if isinstance(events, list) else [events]:
        end = at + event["payload"]
        event["payload"], at = payload[at:end], end
    return request


class Caller:
    """Calls `main`; the event loop of an `async def main` lives as long as the worker."""

    def __init__(self, main: Callable[..., Any]) -> None:
        self._main = main
        self._runner: Any = None

    def __call__(self, payload: bytes, context: faascontext.Context | None = None) -> Any:
        """The value that `main` returns for a request's payload."""
        request = request_in(payload)
        kwargs = request.get("kwargs", {})
        if context is not None and "context" not in kwargs:
            kwargs["context"] = context
        value = self._main(*request.get("args", ()), **kwargs)
        return self._awaited(value) if isinstance(value, types.CoroutineType) else value

    def _awaited(self, coroutine: types.CoroutineType[Any, Any, Any]) -> Any:
        if self._runner is None:
            asyncio = importlib.import_module("asyncio")  # few functions need it, and it would double every cold start
            self._runner = asyncio.Runner()
        return self._runner.run(coroutine)


def result_text(value: Any, largest: int) -> bytes:
    """The result as JSON; raises `BadResult` for what JSON can't hold or for too much of it."""
    try:
        try:
            text = _encode(value).encode("utf-8")
        except UnicodeEncodeError:
            text = _encode_ascii(value).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise BadResult(f"the result is not JSON: {said(error)}") from None
    if len(text) > largest:
        raise BadResult(f"the result has {len(text)} bytes, {largest} are allowed")
    return text


class BadResult(Exception):
    """`main` returned something that can't be an answer."""


def error_body(error: BaseException) -> bytes:
    """What the server tells the caller about an exception of the function's."""
    if isinstance(error, BadResult):
        return _encode_ascii({"code": "bad_result", "error": str(error)}).encode()
    if isinstance(error, MemoryError):
        return b'{"code":"out_of_memory","error":"MemoryError: the function ran out of memory"}'
    name = type(error).__name__
    text = said(error)
    body = {
        "code": error.code if isinstance(error, faascontext.PublishError) else "function_error",
        "error": f"{name}: {text}" if text else name,
        "error_type": name,
        "traceback": own_frames(error),
    }
    return _encode_ascii(body).encode()


def said(error: BaseException) -> str:
    """The exception's message; one whose `__str__` fails has none."""
    try:
        return str(error)[:4000]
    except Exception:  # noqa: BLE001  (any failure of user code ends up here)
        return ""


def own_frames(error: BaseException) -> str:
    """The traceback as Python prints it, with the function's own frames only."""
    try:
        whole = traceback.TracebackException.from_exception(error, limit=-50, compact=True)
        linked: traceback.TracebackException | None = whole
        while linked is not None:
            linked.stack = traceback.StackSummary.from_list(
                [entry for entry in linked.stack if entry.filename == SOURCE]
            )
            linked = linked.__cause__ or linked.__context__
        return "".join(whole.format())[-LONGEST_TRACEBACK:]
    except Exception:  # noqa: BLE001  (an exception may be built so that it can't be shown)
        return ""


def flush() -> None:
    """Let the server see what was printed before it sees the answer."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001, S110  (closed, replaced or broken by the function: its own loss)
            pass


def serve(channel: Channel, call: Caller, largest: int, contexts: faascontext.Contexts | None) -> NoReturn:
    """Answer calls until the server closes the channel."""
    context = None
    while True:
        _, number, payload = channel.receive()
        try:
            if contexts is not None:
                context, payload = contexts.begin(number, payload)
            kind, body = faaswire.RESULT, result_text(call(payload, context), largest)
        except BaseException as error:  # noqa: BLE001  (sys.exit and KeyboardInterrupt are the function's errors too)
            kind, body = faaswire.ERROR, error_body(error)
        if contexts is not None:
            contexts.end()
        flush()
        channel.send(kind, number, body)


def work(channel: Channel, code_dir: str, largest: int, environ: Mapping[str, str]) -> NoReturn:
    """Load the function, say how that went, and serve. `largest` is that of a result, in bytes."""
    sys.dont_write_bytecode = True
    try:
        main = load(code_dir)
        asks = faascontext.wanted(main)
    except BaseException as error:  # noqa: BLE001  (whatever an import raises, sys.exit included)
        flush()
        refuse(channel, error)
    flush()
    gc.freeze()
    contexts = faascontext.Contexts(channel, environ) if asks else None
    channel.send(faaswire.READY, 0, b'{"context":true}' if asks else b"{}")
    serve(channel, Caller(main), largest, contexts)


def refuse(channel: Channel, error: BaseException) -> NoReturn:
    """Say why there is nothing to call, and end."""
    name = type(error).__name__
    body = {"error": f"{name}: {said(error)}", "detail": own_frames(error)}
    channel.send(faaswire.FAILED, 0, _encode_ascii(body).encode())
    _exit(1)
