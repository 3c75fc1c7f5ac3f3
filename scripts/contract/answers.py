"""What the server sends. Each key is named, and no other may come."""

from __future__ import annotations

from scripts.contract.shapes import (
    ANYTHING,
    COUNT,
    NUMBER,
    TEXT,
    Schema,
    closed,
    listed,
    nullable,
    only_with,
    ref,
    settings_in_force,
    texts,
)
from tinyfaas import errors

_ADDRESS: Schema = {"request_id": ref("RequestId"), "node": ref("NodeName")}
_FUNCTION: Schema = {"function": ref("FunctionName")}
_TIMES: Schema = {
    "time_start": ref("Time"),
    "time_end": ref("Time"),
    "duration_ms": ref("Duration"),
    "queued_ms": ref("Queued"),
    "cold": ref("Cold"),
}
_ATTEMPTS: Schema = {"attempts": ref("Attempts")}
_SCHEDULE: Schema = {"schedule": {**TEXT, "description": "The expression of the schedule that called it."}}
_FAILURE: Schema = {"status": texts("error"), "error": ref("Error"), "code": ref("Code")}
_WHY: Schema = {"error_type": TEXT, "traceback": TEXT, "chain": ref("Chain")}
_BY_CODE: list[Schema] = [
    only_with((errors.FunctionError.code,), "error_type", "traceback", always=True)
    | {"else": only_with((errors.Forbidden.code, errors.Unavailable.code), "error_type", "traceback", always=False)},
    only_with((errors.Forbidden.code,), "chain", always=False),
]


def _ran(version: Schema) -> Schema:
    """Who was called: the head of everything about an invocation."""
    return {
        "id": ref("InvocationId"),
        "request_id": ref("RequestId"),
        "function": ref("FunctionName"),
        "version": version,
        "node": ref("NodeName"),
    }


_NONE_OR_VERSION: Schema = {**nullable("integer"), "description": "Null if there is no such function.", "minimum": 1}
_SUCCESS: Schema = {
    **_ran(ref("Version")), "status": texts("success"), "result": {"description": "What `main` returned."}, **_TIMES,
}  # fmt: skip
_FAILED: Schema = {**_ran(_NONE_OR_VERSION), **_FAILURE, **_TIMES}


def _failed(more: Schema, optional: Schema | None = None) -> Schema:
    """An invocation that failed, with more keys."""
    return closed({**_FAILED, **more}, optional={**_WHY, **_ATTEMPTS, **(optional or {})}, allOf=_BY_CODE)


def _done(properties: Schema, status: str = "ok") -> Schema:
    """The answer to a command that succeeded."""
    return closed({"status": texts(status), **_ADDRESS, **properties})


_REFUSED = closed(
    {**_ADDRESS, **_FAILURE},
    optional={**_FUNCTION, "detail": {**TEXT, "description": "The last lines of what a failed build has printed."}},
    allOf=[only_with((errors.BuildFailed.code,), "detail", always=True)],
)


def _told(schema: Schema, command: Schema, **wider: Schema) -> Schema:
    """An error as it stands on the error topic."""
    said: Schema = {"topic": {**TEXT, "description": "Topic of the request."}, "command": command}
    return {**schema, "properties": {**schema["properties"], **said, **wider}, "required": [*schema["required"], *said]}


_RECORDED: Schema = {
    "args": {"description": "The arguments, or the beginning of their JSON.", "type": ["array", "string"]},
    "kwargs": {"type": ["object", "string"]},
    "trigger": {**TEXT, "description": "Topic of the message that called it; of a batch, the filter."},
    **_SCHEDULE,
    "cut": {"description": "What was too long is cut.", "const": True},
}
_RECORD: Schema = {
    "oneOf": [
        closed(
            _SUCCESS, optional={**_ATTEMPTS, **_RECORDED}, anyOf=[{"required": ["args"]}, {"required": ["trigger"]}]
        ),
        _failed({}, _RECORDED),
    ]
}
_STATE: Schema = {
    "function": ref("FunctionName"),
    "version": ref("Version"),
    "state": texts("ready", "building", "failing"),
    "calls": COUNT,
    "errors": COUNT,
    "warm": {**COUNT, "description": "Workers of it that stand ready or run."},
    "uploaded": ref("Time"),
}
_REASON: Schema = {"reason": {**TEXT, "description": "Why it is failing."}}
_VERSION = closed(
    {"version": ref("Version"), "uploaded": ref("Time"), "digest": TEXT},
    optional={"signed_by": {**TEXT, "description": "Who signed the upload."}},
)
_INFO: Schema = {
    "versions": listed(_VERSION),
    "config": settings_in_force(),
    "subscribes": listed(TEXT),
    "publishes": listed(TEXT),
    "schedules": listed(closed({"schedule": TEXT, "next": {"anyOf": [ref("Time"), {"type": "null"}]}})),
    "python": TEXT,
    "requirements": listed(TEXT),
}
_INFORMED = _done({**_STATE, **_INFO})
_INFORMED["properties"].update(_REASON)
_STATUS = closed(
    {
        "status": texts("running"),
        **_ADDRESS,
        "version": {**TEXT, "description": "The server's."},
        "uptime_s": NUMBER,
        "cpu": closed({
            "count": COUNT, "percent": NUMBER, "process_percent": NUMBER, "load_1m": NUMBER, "load_5m": NUMBER,
            "load_15m": NUMBER,
        }),
        "memory": closed({
            "total_bytes": COUNT, "available_bytes": COUNT, "used_percent": NUMBER, "swap_used_bytes": COUNT,
            "process_rss_bytes": COUNT, "fork_server_rss_bytes": COUNT, "workers_rss_bytes": COUNT,
        }),
        "device": closed({
            "model": nullable("string"), "machine": TEXT, "temperature_c": nullable("number"), "uptime_s": NUMBER,
            "disk_total_bytes": COUNT, "disk_free_bytes": COUNT,
        }),
        "queue": closed({
            "waiting": COUNT, "running": COUNT, "held": COUNT, "held_bytes": COUNT, "max_requests": COUNT,
            "max_bytes": COUNT, "overloaded": COUNT, "unrecorded": COUNT,
            "triggers": closed({"messages": COUNT, "waiting": COUNT, "dropped": COUNT, "loops_broken": COUNT}),
        }),
        "workers": closed({"threads": COUNT, "busy": COUNT, "idle": COUNT, "started": COUNT, "killed": COUNT}),
        "limits": closed(
            {
                "sandbox": TEXT, "seccomp": texts("on", "off"), "cgroup": TEXT, "memory": TEXT, "cpu": TEXT,
                "processes": TEXT, "open_files": TEXT, "file_size": TEXT, "timeout": TEXT,
            },
            optional={"sandbox_missing": TEXT, "seccomp_missing": TEXT, "cgroup_missing": TEXT},
        ),
        "mqtt": closed(
            {
                "host": TEXT, "port": COUNT, "connected": {"type": "boolean"}, "connects": COUNT, "redelivered": COUNT,
                "dropped_answers": COUNT,
            },
            optional={"group": TEXT, "shares": COUNT},
        ),
        "functions": closed({"count": COUNT, "ready": COUNT, "building": COUNT, "failing": COUNT}),
    }
)  # fmt: skip
_PRESENCE: Schema = {
    "state": texts("online", "offline"),
    "node": ref("NodeName"),
    "version": {**TEXT, "description": "The server's."},
    "instance": {**TEXT, "description": "Another one after every start of the server."},
    "since": ref("Time"),
}
_IN_GROUP: Schema = {
    "group": {**TEXT, "description": "Whose nodes share the invocations."},
    "functions": {**listed(ref("FunctionName")), "description": "Those it takes calls of, while it is online."},
}

ANSWERS: dict[str, tuple[str, Schema]] = {
    "invokeSuccess": ("What a function returned.", closed(_SUCCESS, optional=_ATTEMPTS)),
    "invokeFailure": ("An invocation that failed.", _failed({})),
    "uploadDone": (
        "The new version serves.",
        _done({"function": ref("FunctionName"), "version": ref("Version"), "seconds": NUMBER}),
    ),
    "deleteDone": ("The function is gone.", _done(_FUNCTION, "deleted")),
    "rollbackDone": ("An earlier version serves.", _done({**_FUNCTION, "version": ref("Version")})),
    "redriveDone": ("So many dead letters were queued.", _done({**_FUNCTION, "redriven": COUNT})),
    "listDone": (
        "Which functions there are.",
        _done({"functions": listed(ref("FunctionName")), "details": listed(closed(_STATE, optional=_REASON))}),
    ),
    "infoDone": ("All about one function.", _INFORMED),
    "logsDone": ("A function's newest records, newest last.", _done({**_FUNCTION, "logs": listed(_RECORD)})),
    "statusDone": ("How server and device are; what can't be told is null.", _STATUS),
    "commandFailure": ("A command that failed.", _REFUSED),
}
REPORTS: dict[str, tuple[str, Schema]] = {
    "invokeError": (
        "An invocation failed. `function` is what stood in the topic.",
        _told(_failed({}), texts("invoke"), function=TEXT),
    ),
    "commandError": (
        "A command failed. `command` is what stood in the topic.",
        _told(_REFUSED, TEXT),
    ),
    "triggerError": ("A call by a trigger failed.", _told(_failed({}), texts("trigger"))),
    "scheduleError": ("A call by a schedule failed.", _told(_failed(_SCHEDULE), texts("schedule"))),
}
TOLD: dict[str, tuple[str, Schema]] = {
    "uploadProgress": (
        "How far an upload is.",
        closed(
            {
                **_FUNCTION,
                **_ADDRESS,
                "phase": texts("queued", "environment", "install", "import", "ready", "failed"),
                "elapsed_s": NUMBER,
            },
            optional={"line": {**TEXT, "description": "What the installer prints."}},
        ),
    ),
    "printed": (
        "A line that a function has printed. Between two calls it has no ids.",
        closed(
            {
                **_FUNCTION,
                "version": ref("Version"),
                "node": ref("NodeName"),
                "time": ref("Time"),
                "stream": {**texts("stdout", "stderr", "log"), "description": "`log`: written by `context.log`."},
                "line": TEXT,
            },
            optional={
                "id": ref("InvocationId"),
                "request_id": ref("RequestId"),
                "level": texts("debug", "info", "warning", "error"),
                "fields": {"description": "Those of a log record.", "type": "object"},
            },
            allOf=[
                {
                    "if": {"properties": {"stream": texts("log")}},
                    "then": {"required": ["level"]},
                    "else": {"properties": {"level": False, "fields": False}},
                }
            ],
        ),
    ),
    "deadLetter": (
        "An invocation given up after retries. Of a trigger or schedule it has `topic` and `command`.",
        _failed(
            {"payload": {"description": "Its payload, to be sent again.", "type": "object"}},
            {"topic": TEXT, "command": texts("trigger", "schedule"), **_SCHEDULE},
        ),
    ),
    "presence": (
        "Whether a node is there; in a group also what it shares in.",
        {"oneOf": [closed(_PRESENCE), closed({**_PRESENCE, **_IN_GROUP})]},
    ),
}
OPEN: dict[str, tuple[str, Schema]] = {
    "event": ("A message that calls the functions whose triggers match it. Any payload.", ANYTHING),
    "output": ("A function's result, as plain JSON.", ANYTHING),
    "publication": ("What a function publishes by `context.publish`. Any payload.", ANYTHING),
}
