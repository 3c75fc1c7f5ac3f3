"""Everything the log can say: each event with the sentence that a person reads, and for what an operator should know
more about an identity, under which `journalctl -x` finds the explanation in `deploy/systemd/tinyfaas.catalog`.

docs/logging.md is printed from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

# Who writes records. `function` stands for what functions print.
ROOMS = (
    "admin", "cgroups", "daemon", "deadletters", "delivery", "deploy", "dispatch", "environments", "feed", "forkserver",
    "function", "gateway", "history", "log", "pool", "registry", "retained", "sandbox", "schedules", "signing", "watch",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """What may happen. `text` names fields of its record, and `{subject}` is the function with its version.

    An event with several texts has that of the first whose `field` is in the record, with the value `is_` if given.
    """

    name: str
    text: str
    message_id: str = ""
    field: str = ""
    is_: str = ""

    def fits(self, fields: Mapping[str, Any]) -> bool:
        """Whether this is the text for a record."""
        return not self.field or (self.field in fields and self.is_ in ("", fields[self.field]))

    @property
    def names(self) -> frozenset[str]:
        """The fields that its text tells already."""
        named = {name for _, name, _, _ in Formatter().parse(self.text) if name}
        return frozenset(named | {"function", "version"} if "subject" in named else named)


EVENTS = (
    Event("starting", "starting as {node} with {functions} functions on {threads} threads"),
    Event("ready", "ready: {functions} functions", "9f95b73d0c614c5a9347812b8e20b3cb"),
    Event("stopping", "stopping: {running} calls run, {waiting} wait"),
    Event("stopped", "stopped"),
    Event("drain_deadline_passed", "{running} calls ran past the drain deadline and were killed",
          "f69d3f46a3e44409981bb1db5c886360"),
    Event("reloaded", "settings read again: {applied} in force; after a restart: {restart}",
          "788ce12155bc4efa82909a18c5f05125"),
    Event("reload_refused", "the settings can't be used, the old ones stay: {error}",
          "901f88a6dc6a495e9dbfeb90f4a79aa0"),
    Event("threads_stuck", "no sign of life from {threads}: the watchdog is not fed",
          "c5248b185a5442f7a9d3d6ce274f682a"),
    Event("no_sandbox", "functions are not closed in: {reason}", "c2f9a141a1d548258b8c8ef1efab82a6"),
    # --- the broker
    Event("connected", "{client_id} is connected to {host}:{port}", "48d79132a142440a822f92abc19f1c51"),
    Event("disconnected", "{client_id} lost the broker: {reason}", "75029f03254a4adeb0615992de3d96b5"),
    Event("broker_unreachable", "{client_id} can't connect to {host}:{port}: {error}",
          "e5103d1ff86148478323e2fc529a0720"),
    Event("another_server_has_our_name", "another server is called {client_id} too; this one waits: {advice}",
          "3f3645f587e848baacef896b3c260bf6"),
    Event("subscriptions_refused", "the broker refuses subscriptions to {topics}"),
    Event("subscriptions_unreadable", "{path} can't be read, so old subscriptions may stand: {error}"),
    Event("subscriptions_not_recorded", "subscriptions can't be recorded, so they may outlast their end: {error}"),
    Event("trigger_unheeded", "the trigger {topic} of {subject} matches requests to the server, and calls nothing"),
    Event("events_lost", "{count} messages at QoS 0 waited to be gathered at the stop, and are lost"),
    Event("left_to_group", "calls of {functions} are left to the other nodes of the group {group}"),
    Event("network_fault", "a fault of the server's own on the connection {client_id}"),
    Event("message_not_accepted", "a fault of the server's own: a message was lost"),
    Event("queue_full", "as many requests are held as may be: {refused} refused", "51eb260e686b4f9683a47b63bddc13eb"),
    # --- invocations
    Event("invocation_done", "{subject} failed after {duration_ms} ms: {code}: {error}", field="code"),
    Event("invocation_done", "{subject} answered in {duration_ms} ms"),
    Event("invocation_retried", "{subject} is tried again in {pause_s} s: {code} at attempt {attempt}"),
    Event("invocation_internal_error", "a fault of the server's own in a call of {subject}"),
    Event("successes_unshown", "{count} more calls were answered, too many to be shown one by one"),
    Event("answered_again", "a request to {subject} came again and got the answer it had"),
    Event("dispatch_failed", "a fault of the server's own after a call of {subject}"),
    Event("answer_not_kept", "the answer of {subject} can't be kept for a redelivery: {error}"),
    Event("dead_letter_not_kept", "a dead letter of {subject} can't be kept: {error}"),
    Event("dead_letter_unreadable", "the dead letter {path} can't be read: {error}"),
    Event("retained_unreadable", "{path} can't be read: {error}"),
    Event("retained_not_recorded", "a retained request may run again: {error}"),
    Event("schedule_overlaps", "{subject} still runs when it is due again ({schedule}): left out"),
    Event("schedule_has_no_room", "{subject} is not called at {schedule}: the server holds as much as it may"),
    Event("schedules_failed", "a fault of the server's own in its schedules"),
    Event("last_runs_unreadable", "{path} can't be read, so what a downtime swallowed is not made up for: {error}"),
    Event("last_runs_not_recorded", "when schedules ran can't be recorded, so they may run once more: {error}"),
    # --- functions and their workers
    Event("worker_killed", "{subject} was killed, it took too long: {reason}", "293f2032a4c04b358739cd4cdb5a2b6b",
          "code", "timeout"),
    Event("worker_killed", "{subject} was killed, it used too much memory: {reason}",
          "ba5b0dfb2f714ef1b187be6eed338a0c", "code", "out_of_memory"),
    Event("worker_killed", "the process of {subject} has ended: {reason}", "e10a386797f6431dbddee0a093888946",
          "code", "crashed"),
    Event("worker_killed", "{subject} was killed: {reason}"),
    Event("function_failing", "{subject} can't start, tried again in {pause_s} s: {reason}",
          "5a3e0cba4a9a4ba2845c2d975a8b3e95"),
    Event("function_output", "{line}"),
    Event("function_log", "{line} ({fields})", field="fields"),
    Event("function_log", "{line}"),
    Event("function_output_dropped", "{subject} printed more than may be logged: {bytes} bytes are not shown",
          "6b756b368b274e959512638bc66e6f05"),
    Event("memory_short", "memory is short: {ended} idle workers were ended"),
    Event("fork_server_lost", "the fork server was lost and is started again: {error}"),
    Event("warmth_failed", "a fault of the server's own in keeping functions warm"),
    Event("group_not_removed", "the control group {group} can't be removed: {error}"),
    Event("controller_refused", "the controller {controller} can't be had for control groups: {error}"),
    Event("orphans_ended", "{count} processes that functions left behind were ended"),
    Event("watch_failed", "a fault of the server's own in the watch over {subject}"),
    # --- administration
    Event("function_deployed", "{subject} is deployed, after {seconds} s"),
    Event("function_deleted", "{subject} is deleted"),
    Event("function_rolled_back", "{subject} serves again"),
    Event("command_failed", "the upload of {subject} failed: {code}: {error}", "29a782fc452f49019239646c126e562b",
          "command", "upload"),
    Event("command_failed", "the command {command} failed: {code}: {error}"),
    Event("command_os_error", "the system refused something to the command {command}"),
    Event("command_internal_error", "a fault of the server's own in the command {command}"),
    Event("no_ssh_keygen", "uploads are demanded to be signed, and there is no ssh-keygen: none is taken"),
    Event("signers_unreadable", "uploads are demanded to be signed, and {path} can't be used: {reason}"),
    Event("signers_writable", "{path} says whose uploads are taken, and this server's account may write to it"),
    Event("signed_unreadable", "{path} can't be read, so old signatures of deleted functions may be taken: {error}"),
    Event("signature_refused", "the signature of an upload was refused: {reason}"),
    Event("leftover_removed", "what an interrupted upload or delete had left was removed: {path}"),
    # --- what is on disk
    Event("registry_unreadable", "{path} can't be read and is set aside: {error}", "c109d99f053143b1b0daabf00eeaab67"),
    Event("records_rejected", "records of functions can't be used: {functions}; kept in {kept_in}",
          "5681636873b448389c47800618f9bf8e"),
    Event("record_rejected", "the record of {subject} can't be used: {error}"),
    Event("history_trimmed", "the history was trimmed: {removed} records removed, {kept} kept",
          "aaf071b3cfed459698458c8618edb66b"),
    Event("history_unrecorded", "the history can't be written, {unrecorded} calls are not in it: {error}",
          "20d474bdb3584aa789ce53a712bc8e12"),
    Event("history_not_trimmed", "the history can't be trimmed: {error}", "20d474bdb3584aa789ce53a712bc8e12"),
    Event("records_unreadable", "{count} lines of {path} can't be read"),
    Event("torn_record_dropped", "the history's last line was torn, {bytes} bytes are dropped"),
    # --- the log itself
    Event("log_records_dropped", "{count} records were lost while the journal took none",
          "52d3e867795341369e7a7b2bb22a4d8e"),
)  # fmt: skip

_BY_NAME = {name: tuple(event for event in EVENTS if event.name == name) for name in {event.name for event in EVENTS}}
_UNKNOWN = Event("", "")


def event_of(fields: Mapping[str, Any]) -> Event:
    """The event of a record, in the variant that fits it."""
    for event in _BY_NAME.get(fields["event"], ()):
        if event.fits(fields):
            return event
    return _UNKNOWN


def sentence(event: Event, fields: Mapping[str, Any]) -> str:
    """A record as one line for people, or several where a field has several."""
    if event.text:
        try:
            return event.text.format_map(_Told(fields))
        except KeyError:  # a record without a field that its text names: better plain than lost
            pass
    return " ".join((fields["event"], *(f"{key}={value}" for key, value in fields.items() if key != "event")))


class _Told(dict[str, Any]):
    """Fields as a text tells them."""

    def __getitem__(self, key: str) -> Any:
        if key == "subject":
            version = self.get("version")
            function = self.get("function") or "a function"
            return function if version is None else f"{function} v{version}"
        value = super().__getitem__(key)
        if isinstance(value, dict):
            return ", ".join(f"{name}={each}" for name, each in value.items())
        return (", ".join(map(str, value)) or "none") if isinstance(value, list) else value
