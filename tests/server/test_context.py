"""What a function gets that asks for `context`: who it is, a logger, leave to publish; and for what it has none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.bench import Bench
from tests.harness.broker import Broker
from tests.harness.client import Client, Message, new_label
from tests.harness.server import Server
from tests.harness.waiting import eventually

OBEDIENT = """
    import threading

    def main(do, *args, context, **kwargs):
        return globals()[do](context, *args, **kwargs)

    def identity(context):
        left = context.seconds_left()
        (context.state / "seen").write_text("yes")
        return {
            "id": context.id, "request_id": context.request_id, "function": context.function,
            "version": context.version, "node": context.node, "left": left, "shown": repr(context),
        }

    def publish(context, *messages, **options):
        for topic, payload in messages:
            context.publish(topic, payload, **options)
        return len(messages)

    def publish_bytes(context, topic):
        context.publish(topic, bytes([0, 255]))

    def publish_nothing(context, topic):
        context.publish(topic)

    def catch(context, topic, *more, **options):
        try:
            context.publish(topic, *more, **options)
        except Exception as error:
            known = isinstance(error, context.PublishError)
            return [type(error).__name__, str(error), known]

    def publish_often(context, topic, times):
        done = 0
        try:
            for number in range(times):
                context.publish(topic, number)
                done += 1
        except context.Forbidden as error:
            return [done, str(error)]
        return [done, ""]

    def log(context, level, message, **fields):
        getattr(context.log, level)(message, **fields)

    def log_much(context, times):
        for number in range(times):
            context.log.info("again", number=number)

    def log_odd(context):
        ring = []
        ring.append(ring)
        context.log.info("odd", thing=object, nan=float("nan"), half="\\ud800", deep={"a": [1]}, long="x" * 5000)
        context.log.info("a ring", ring=ring, **{"no name": 1, "x" * 41: 2})
        context.log.info(ValueError("not text"))

    kept = []

    def keep(context):
        kept.append(context)

    def use_kept(context, topic):
        try:
            kept[0].publish(topic, "late")
        except RuntimeError as error:
            return str(error)

    def in_threads(context, topic, count):
        def one(number):
            context.log.debug("unseen", number=number)
            context.publish(topic, number)
        threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()

    def in_child(context, topic):
        import os
        child = os.fork()
        if not child:
            try:
                context.log.info("from a child")
                context.publish(topic, "from a child")
            except RuntimeError:
                os._exit(7)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


@pytest.fixture(scope="module")
def place(broker: Broker, shared_server: Server) -> str:
    """The first level of the topics that the functions here may publish on; nobody else uses it."""
    return new_label("place")


@pytest.fixture(scope="module")
def obedient(broker: Broker, shared_server: Server, place: str) -> str:
    """A function that does with its context what it is told."""
    name = new_label("obedient")
    with Client(broker.port) as client:
        config = {"publish": [f"{place}/#", "faas/invoke/+"], "max_result_bytes": 100_000}
        client.deploy(name, OBEDIENT, config=config)
    return name


@pytest.fixture
def watching(server: Server, broker: Broker, place: str) -> Iterator[Client]:
    """A client that sees what is published there too."""
    with Client(broker.port, topics=("faas/#", f"{place}/#")) as client:
        yield client


def came(client: Client, topic: str) -> list[Message]:
    """What has come on a topic by now."""
    client.settle()
    return [message for message in client.seen if message.topic == topic]


def refused(watching: Client, function: str, *args: Any, **kwargs: Any) -> str:
    """Why the server did not take a publication."""
    name, error, known = watching.call(function, "catch", *args, **kwargs)
    assert (name, known) == ("Forbidden", True), error
    return str(error)


# --- what it tells -----------------------------------------------------------------------------------------------


def test_a_context_tells_which_call_this_is_and_where(client: Client, server: Server, obedient: str) -> None:
    answer = client.request(f"faas/invoke/{obedient}", {"request_id": "r-context", "args": ["identity"]})
    told = answer["result"]
    assert told["request_id"] == "r-context"
    assert told["id"] == answer["id"]
    assert (told["function"], told["version"], told["node"]) == (obedient, 1, server.node)
    assert 0 < told["left"] <= 30
    assert told["shown"] == f"<context of call {answer['id']} of {obedient} v1>"
    assert (server.functions_dir / obedient / "state" / "seen").read_text() == "yes"


@pytest.mark.parametrize(
    ("code", "args", "kwargs", "result"),
    [
        ("def main(context): return context.function", [], {}, None),
        ("def main(a, context=None): return [a, context.function]", [1], {}, None),
        ("async def main(*, context): return context.function", [], {}, None),
        ("class Main:\n    def __call__(self, context): return context.function\nmain = Main()", [], {}, None),
        (
            "import functools\ndef wrap(inner):\n    @functools.wraps(inner)\n"
            "    def outer(*a, **k): return inner(*a, **k)\n    return outer\n"
            "@wrap\ndef main(*, context): return context.function",
            [], {}, None,
        ),
        ("def main(context): return context", [], {"context": "the caller's"}, "the caller's"),
        ("def main(context, /): return context", ["by place"], {}, "by place"),
        ("def main(*context): return list(context)", [1], {}, [1]),
        ("def main(**kwargs): return kwargs", [], {}, {}),
        ("def main():\n    context = 1\n    return context", [], {}, 1),
    ],
    ids=[
        "positional", "with a default", "async", "an object", "decorated", "given by the caller", "positional only",
        "any number", "any name", "a local variable",
    ],
)  # fmt: skip
def test_who_has_a_parameter_named_context_gets_one_unless_the_caller_gives_it(
    client: Client, function: str, code: str, args: list[Any], kwargs: dict[str, Any], result: Any
) -> None:
    client.deploy(function, code)
    found = client.call(function, *args, **kwargs)
    if result is None:
        result = [args[0], function] if args else function
    assert found == result


# --- publishing --------------------------------------------------------------------------------------------------


def test_what_is_published_is_as_it_was_given_and_comes_before_the_answer(
    watching: Client, obedient: str, place: str
) -> None:
    topic = f"{place}/valve"
    start = len(watching.seen)
    answer = watching.ask(
        f"faas/invoke/{obedient}",
        {
            "args": ["publish", [topic, {"open": True}], [topic, "on"], [topic, 1.5], [topic, None]],
            "kwargs": {"qos": 1},
        },
    )
    messages = [message for message in watching.seen[start:] if message.topic == topic]
    assert [message.payload for message in messages] == [b'{"open":true}', b"on", b"1.5", b"null"]
    assert [message.content_type for message in messages] == ["application/json", "", *["application/json"] * 2]
    assert {message.qos for message in messages} == {1}
    assert watching.seen.index(answer) > watching.seen.index(messages[-1])
    watching.call(obedient, "publish_bytes", topic)
    watching.call(obedient, "publish_nothing", topic)
    assert [(m.payload, m.qos) for m in came(watching, topic)[4:]] == [(b"\0\xff", 0), (b"", 0)]


def test_a_retained_publication_is_there_for_those_who_come_later(
    watching: Client, broker: Broker, obedient: str, place: str
) -> None:
    topic = f"{place}/kept"
    watching.call(obedient, "publish", [topic, {"level": 3}], retain=True)
    with Client(broker.port, topics=(topic,)) as later:
        message = later.wait(lambda each: each.topic == topic, "the retained message")
        assert (message.body, message.retain) == ({"level": 3}, True)
    watching.publish(topic, b"", retain=True, wait=True)


def test_threads_of_a_call_may_publish_at_once(watching: Client, obedient: str, place: str) -> None:
    topic = f"{place}/threads"
    watching.call(obedient, "in_threads", topic, 20)
    assert sorted(int(message.payload) for message in came(watching, topic)) == list(range(20))


@pytest.mark.parametrize(
    ("topic", "why"),
    [
        ("elsewhere/valve", "is not among the topics"),
        ("", "is no topic"),
        ("{place}/+", "is no topic"),
        ("{place}/#", "is no topic"),
        ("{place}/a\0b", "is no topic"),
        ("{place}/" + "x" * 2000, "the topic has"),
        ("$SYS/broker", "is no topic"),
        ("$share/g/{place}/a", "is no topic"),
        ("faas/admin/delete/echo", "only the server"),
        ("faas/response/invoke/echo", "only the server"),
        ("faas/response/error", "only the server"),
        ("faas/node/other", "only the server"),
        ("faas/event/upload/echo", "only the server"),
        ("faas/deadletter/echo", "only the server"),
        ("faas", "only the server"),
    ],
)
def test_a_topic_that_is_not_allowed_is_refused_in_the_function(
    watching: Client, place: str, topic: str, why: str, obedient: str
) -> None:
    topic = topic.format(place=place)
    assert why in refused(watching, obedient, topic, "x")
    assert came(watching, topic) == []


def test_a_function_that_calls_itself_by_what_it_publishes_is_stopped(client: Client, function: str) -> None:
    code = f"def main(context): context.publish('faas/invoke/{function}', {{}}, qos=1)"
    client.deploy(function, code, config={"publish": [f"faas/invoke/{function}"]})
    client.call(function)
    error = client.wait_topic("faas/response/error", function=function).body
    assert error["code"] == "forbidden"
    assert "a loop, broken here" in error["error"]


def test_a_refusal_that_nobody_catches_is_the_answer(client: Client, obedient: str) -> None:
    answer = client.invoke(obedient, "publish", ["elsewhere/valve", 1])
    assert (answer["status"], answer["code"], answer["error_type"]) == ("error", "forbidden", "Forbidden")
    assert "elsewhere/valve" in answer["error"]
    assert "func.py" in answer["traceback"]
    assert "faascontext" not in answer["traceback"]


def test_a_function_that_lists_nothing_may_publish_nothing(watching: Client, function: str, place: str) -> None:
    watching.deploy(function, OBEDIENT)
    assert "allows: none" in refused(watching, function, f"{place}/valve")


def test_what_can_not_be_published_is_a_plain_error(client: Client, obedient: str, place: str) -> None:
    for args, kwargs, kind in (
        ([f"{place}/a", "x"], {"qos": 2}, "ValueError"),
        ([f"{place}/a", "x"], {"qos": True}, "ValueError"),
        ([7, "x"], {}, "TypeError"),
        (["\ud800", "x"], {}, "UnicodeEncodeError"),
    ):
        assert client.call(obedient, "catch", *args, **kwargs)[0] == kind


def test_a_call_publishes_so_often_and_so_much_and_no_more(watching: Client, obedient: str, place: str) -> None:
    done, why = watching.call(obedient, "publish_often", f"{place}/often", 1_100)
    assert (done, why) == (1_000, "a call may publish 1000 times")
    assert len(came(watching, f"{place}/often")) == 1_000
    assert "100000 bytes together" in refused(watching, obedient, f"{place}/much", "x" * 100_001)
    watching.call(obedient, "publish", [f"{place}/much", "x" * 60_000])  # each call anew
    watching.call(obedient, "publish", [f"{place}/much", "x" * 60_000])
    assert len(came(watching, f"{place}/much")) == 2


def test_a_context_is_good_for_its_own_call_and_process_alone(
    watching: Client, server: Server, obedient: str, place: str
) -> None:
    watching.call(obedient, "keep")
    for _ in range(20):  # more than one worker may be warm: the one that keeps it has to be met
        said = watching.invoke(obedient, "use_kept", f"{place}/late")
        if said["status"] == "success":
            break
    assert said["result"] == "the call that this context belongs to is over"
    assert watching.call(obedient, "in_child", f"{place}/late") == 7
    assert came(watching, f"{place}/late") == []
    server.log.wait(event="function_output", line="info: from a child")


def test_while_the_broker_is_away_publishing_says_so(bench: Bench, function: str) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    code = """
        import time
        def main(context):
            deadline = time.monotonic() + 20
            (context.state / "runs").touch()
            while time.monotonic() < deadline:
                try:
                    context.publish("p/q", "x")
                except context.Unavailable as error:
                    (context.state / "said").write_text(str(error))
                    raise
                time.sleep(0.05)
    """
    with Client(broker.port) as client:
        client.deploy(function, code, config={"publish": ["p/q"]})
        client.publish(f"faas/invoke/{function}", {"request_id": "away"}, wait=True)
        state = server.functions_dir / function / "state"
        eventually((state / "runs").exists, "the call to run")
    broker.stop()
    eventually((state / "said").exists, "the function to be told")
    assert (state / "said").read_text() == "nothing can be published: the broker is away"
    broker.start()
    server.log.wait(event="invocation_done", request_id="away", code="unavailable")
    with Client(broker.port) as client:
        eventually(lambda: client.request("faas/admin/status")["mqtt"]["connected"], "the server to be back")
        client.deploy(function, "def main(context): context.publish('p/q', 'back')", config={"publish": ["p/q"]})
        client.call(function)


# --- logging -----------------------------------------------------------------------------------------------------


def test_a_record_reaches_the_log_with_its_fields_and_none_of_the_servers(
    client: Client, server: Server, obedient: str
) -> None:
    mark = server.log.mark()
    answer = client.request(
        f"faas/invoke/{obedient}",
        {"request_id": "r-log", "args": ["log", "info", "watered"],
         "kwargs": {"bed": 3, "dry": True, "event": "invocation_done", "function": "other", "request_id": "forged",
                    "level_": "error"}},
    )  # fmt: skip
    record = server.log.wait(mark, event="function_log", line="watered")
    assert record["fields"] == {
        "bed": 3, "dry": True, "event": "invocation_done", "function": "other", "request_id": "forged",
        "level_": "error",
    }  # fmt: skip
    assert (record["function"], record["version"], record["room"]) == (obedient, 1, "function")
    assert (record["request_id"], record["invocation_id"], record["level"]) == ("r-log", answer["id"], "info")
    for level in ("warning", "error"):
        client.call(obedient, "log", level, f"a {level}")
        assert server.log.wait(mark, event="function_log", line=f"a {level}")["level"] == level
    client.call(obedient, "log", "debug", "a secret of developers")
    client.call(obedient, "log", "info", "after it")
    server.log.wait(mark, event="function_log", line="after it")
    assert server.log.records(mark, line="a secret of developers") == []


def test_odd_fields_are_shown_as_text_and_cut(client: Client, server: Server, obedient: str) -> None:
    mark = server.log.mark()
    client.call(obedient, "log_odd")
    server.log.wait(mark, event="function_log", line="not text")
    assert server.log.wait(mark, event="function_log", line="a ring")["fields"] == {"ring": "[[...]]"}
    record = server.log.wait(mark, event="function_log", line="odd")
    assert record["fields"]["thing"] == "<class 'object'>"
    assert record["fields"]["deep"] == '{"a": [1]}'
    assert record["fields"]["nan"] == "NaN"
    assert len(record["fields"]["long"]) == 1024


def test_what_is_logged_counts_as_what_is_printed(client: Client, server: Server, function: str) -> None:
    client.deploy(function, OBEDIENT, config={"max_output_bytes": 2_000})
    mark = server.log.mark()
    client.call(function, "log_much", 1_500)
    server.log.wait(mark, event="function_output_dropped", function=function)
    shown = server.log.records(mark, event="function_log", function=function)
    assert 10 < len(shown) < 100


def test_a_secret_is_not_shown_in_a_record(bench: Bench, broker: Broker, function: str) -> None:
    folder = bench.grounds.new_folder("secrets")
    (folder / "KEY").write_text("hunter-and-gatherer")
    (folder / "KEY").chmod(0o644)
    server = bench.server(broker, {"sandbox_secrets_dir": folder}).start()
    code = """
        import os
        def main(context):
            context.log.info(f"key {os.environ['KEY']}", key=os.environ["KEY"], list=[os.environ["KEY"]])
    """
    with Client(broker.port) as client:
        body = {"node": server.node}
        client.upload(function, code, config={"secrets": ["KEY"]}, **body)
        client.request(f"faas/invoke/{function}", body)
    record = server.log.wait(event="function_log", function=function)
    assert record["line"] == "key ********"
    assert record["fields"] == {"key": "********", "list": '["********"]'}


# --- hostile functions -------------------------------------------------------------------------------------------

# A worker's channel is the descriptor 3.
FORGER = """
    import json, os, struct, time

    def frame(kind, number, body):
        return struct.pack("!IBI", len(body), kind, number) + body

    def publication(topic, payload=b"forged", flags=0):
        return struct.pack("!BH", flags, len(topic)) + topic + payload

    def main(what, context=None):
        number = context._number
        if what == "publish":
            os.write(3, frame(8, number, publication(b"elsewhere/forged")))
        elif what == "publish for another call":
            os.write(3, frame(8, number + 1, publication(b"%(place)s/forged")))
        elif what == "publish and answer":
            os.write(3, frame(8, number, publication(b"faas/admin/list")) + frame(2, number, b"1"))
        elif what == "a topic longer than its frame":
            os.write(3, frame(8, number, struct.pack("!BH", 0, 9999) + b"x"))
        elif what == "an empty publication":
            os.write(3, frame(8, number, b""))
        elif what == "no JSON":
            os.write(3, frame(10, number, b"{"))
        elif what == "another level":
            os.write(3, frame(10, number, json.dumps(["critical", "x", {}]).encode()))
        elif what == "fields that are none":
            os.write(3, frame(10, number, json.dumps(["info", "x", [1]]).encode()))
        elif what == "a record of 100 kB":
            os.write(3, frame(10, number, json.dumps(["info", "x" * 100_000, {}]).encode()))
        elif what == "records without end":
            flood = frame(10, number, json.dumps(["info", "flood", {}]).encode()) * 100
            while True:
                os.write(3, flood)
        elif what == "publications without end":
            while True:
                os.write(3, frame(8, number, publication(b"elsewhere/forged")))
        elif what == "a kind that is none":
            os.write(3, frame(99, number, b""))
        elif what == "two answers":
            os.write(3, frame(2, number, b"1") + frame(2, number, b"2"))
        elif what == "a large frame":
            os.write(3, struct.pack("!IBI", 200_000_000, 8, number))
        elif what == "says that it is forbidden":
            error = type("Forbidden", (context.PublishError,), {"code": "forbidden"})
            raise error("so I say")
        time.sleep(0.5)
"""


@pytest.mark.parametrize(
    "what",
    [
        "publish for another call", "publish and answer", "a topic longer than its frame", "an empty publication",
        "no JSON", "another level", "fields that are none", "a record of 100 kB", "records without end",
        "publications without end", "a kind that is none", "two answers", "a large frame",
    ],
)  # fmt: skip
def test_a_frame_that_no_worker_sends_ends_the_worker_and_nothing_comes_of_it(
    watching: Client, server: Server, forger: str, obedient: str, what: str
) -> None:
    mark = server.log.mark()
    answer = watching.invoke(forger, what)
    assert answer["status"] == "error" or (what == "publish and answer" and answer["result"] == 1), answer
    if answer["status"] == "error":
        spoilt = ("crashed", "the function wrote to its frame channel")
        unread = ("timeout", "it ran longer than 3 s and was killed")  # who does not hear the server's word
        assert (answer["code"], answer["error"]) == (unread if what == "publications without end" else spoilt)
    watching.settle()
    assert [message for message in watching.seen if message.payload == b"forged"] == []
    assert server.log.records(mark, event="invocation_internal_error") == []
    assert watching.call(obedient, "identity")["function"] == obedient


def test_a_forged_publication_goes_the_way_of_every_other(watching: Client, forger: str, server: Server) -> None:
    answer = watching.invoke(forger, "publish")
    assert answer["status"] == "error" or answer["result"] is None
    watching.settle()
    assert [message for message in watching.seen if message.payload == b"forged"] == []


def test_a_function_can_not_say_that_the_server_has_refused_it(client: Client, forger: str) -> None:
    answer = client.invoke(forger, "says that it is forbidden")
    assert (answer["code"], answer["error_type"]) == ("function_error", "Forbidden")


@pytest.mark.parametrize("kind", [8, 10], ids=["publication", "record"])
def test_a_function_without_a_context_has_no_leave_to_say_anything(
    watching: Client, server: Server, function: str, place: str, kind: int
) -> None:
    code = f"""
        import os, struct, time

        def main():
            topic = b"{place}/forged"
            body = struct.pack("!BH", 0, len(topic)) + topic + b"forged" if {kind} == 8 else b'["info","forged",{{}}]'
            os.write(3, struct.pack("!IBI", len(body), {kind}, 1) + body)
            time.sleep(5)
    """
    watching.deploy(function, code, config={"publish": [f"{place}/#"]})
    mark = server.log.mark()
    answer = watching.invoke(function)
    assert (answer["code"], answer["error"]) == ("crashed", "the function wrote to its frame channel")
    assert came(watching, f"{place}/forged") == []
    assert server.log.records(mark, line="forged") == []


@pytest.fixture(scope="module")
def forger(broker: Broker, shared_server: Server, place: str) -> str:
    """A function that writes frames of its own to its channel."""
    name = new_label("forger")
    with Client(broker.port) as client:
        code = FORGER.replace("%(place)s", place)
        client.deploy(name, code, config={"publish": [f"{place}/#"], "timeout_s": 3})
    return name
