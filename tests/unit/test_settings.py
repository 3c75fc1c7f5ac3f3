"""A function's settings: what is refused and how, and that the published schema says the same as the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scripts import docs, schema
from tinyfaas.errors import ConfigError
from tinyfaas.model import Batch, Limits, Output, Trigger, Wiring
from tinyfaas.protocol import Topics
from tinyfaas.settings import check_reach, settings_of

GOOD: list[dict[str, Any]] = [
    {},
    {"timeout_s": 5, "env": {"A": "b"}, "secrets": ["KEY"], "retry": {"attempts": 2, "on": ["timeout"]}},
    {"trigger": [{"topic": "sensors/+/temperature"}]},
    {"trigger": [{"topic": "$share/g/a/#", "qos": 0, "retained": True, "payload": "bytes"}, {"topic": "b"}]},
    {"trigger": [{"topic": "a", "batch": {"events": 5, "seconds": 0.5}}, {"topic": "b", "batch": {}}]},
    {"trigger": [{"topic": "a", "debounce_s": 2}, {"topic": "b", "throttle_s": 0.5}]},
    {"schedule": [{"cron": "*/5 * * * *", "timezone": "Europe/Berlin", "missed": "run_once"}, {"every_s": 30}]},
    {"output": {"topic": "alerts/temperature", "retain": True, "qos": 0, "on": "change"}},
    {"publish": ["actuators/#", "lamps/+/set"]},
]  # fmt: skip
BAD: list[tuple[dict[str, Any], str]] = [
    ({"triger": []}, "config.triger: no such setting; there are: timeout_s,"),
    ({"timeout_s": "5"}, "config.timeout_s: '5' is not a number from 0.05 to 86400.0"),
    ({"env": {"1": "b"}}, "config.env: {'1': 'b'} is not a table of strings matching"),
    ({"retry": {"attempts": 0}}, "config.retry.attempts: 0 is not an integer from 1 to 10"),
    ({"trigger": {"topic": "a"}}, "config.trigger: {'topic': 'a'} is not a list of tables"),
    ({"trigger": ["a"]}, "config.trigger: ['a'] is not a list of tables"),
    ({"trigger": [{}]},
     'config.trigger[0].topic: is required: a topic filter of MQTT, such as "sensors/+/temperature"'),
    ({"trigger": [{"topic": ""}]}, "config.trigger[0].topic: '' is not a topic filter of MQTT"),
    ({"trigger": [{"topic": "b"}, {"topic": "a/#/b"}]},
     "config.trigger[1].topic: 'a/#/b' is not a topic filter of MQTT"),
    ({"trigger": [{"topic": "a", "qos": 2}]}, "config.trigger[0].qos: 2 is not an integer from 0 to 1"),
    ({"trigger": [{"topic": "a", "payload": "xml"}]},
     'config.trigger[0].payload: \'xml\' is not one of "json", "text", "bytes"'),
    ({"trigger": [{"topic": "a", "retain": True}]},
     "config.trigger[0].retain: no such setting; there are: topic, qos,"),
    ({"trigger": [{"topic": "a", "batch": 5}]}, "config.trigger[0].batch: 5 is not a table"),
    ({"trigger": [{"topic": "a", "batch": {"events": 0}}]},
     "config.trigger[0].batch.events: 0 is not an integer from 1 to 10000"),
    ({"trigger": [{"topic": "a", "batch": {}, "debounce_s": 1}]},
     "config.trigger[0]: batch and debounce_s is not at most one of batch, debounce_s, throttle_s"),
    ({"schedule": [{}]}, "config.schedule[0]: none is not one of cron, every_s"),
    ({"schedule": [{"cron": "* * * * *", "every_s": 5}]},
     "config.schedule[0]: cron and every_s is not one of cron, every_s"),
    ({"schedule": [{"cron": "often"}]}, "config.schedule[0].cron: 'often' is not a time of cron in five fields"),
    ({"schedule": [{"every_s": 0}]}, "config.schedule[0].every_s: 0 is not a number from 1.0 to"),
    ({"schedule": [{"every_s": 5, "missed": "all"}]}, "config.schedule[0].missed: 'all' is not one of"),
    ({"output": {}}, "config.output.topic: is required: a topic of MQTT without wildcards"),
    ({"output": {"topic": "a/+"}}, "config.output.topic: 'a/+' is not a topic of MQTT without wildcards"),
    ({"output": {"topic": "a", "on": "always"}}, "config.output.on: 'always' is not one of"),
    ({"publish": "a"}, "config.publish: 'a' is not a list of topic filters of MQTT"),
    ({"publish": [""]}, "config.publish: [''] is not a list of topic filters of MQTT"),
]  # fmt: skip
VALIDATOR = jsonschema.Draft202012Validator(json.loads(schema.function_schema()))


@pytest.mark.parametrize("config", GOOD, ids=str)
def test_what_the_server_takes_the_schema_takes_too(config: dict[str, Any]) -> None:
    settings_of(config, Limits())
    assert VALIDATOR.is_valid(config)


@pytest.mark.parametrize(("config", "message"), BAD, ids=[str(config) for config, _ in BAD])
def test_what_the_server_refuses_with_its_name_the_schema_refuses_too(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        settings_of(config, Limits())
    assert str(refused.value).startswith(message)
    assert not VALIDATOR.is_valid(config)


def test_the_published_schema_is_one_and_is_that_of_the_code() -> None:
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)
    assert (docs.ROOT / "docs/function.schema.json").read_text(encoding="utf-8") == schema.function_schema()


def test_a_schema_that_is_out_of_date_is_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    file = tmp_path / "docs/function.schema.json"
    file.write_text("{}", encoding="utf-8")
    assert [str(finding) for finding in docs.inspect(tmp_path)] == [
        f"{file.relative_to(tmp_path)}:1: is out of date: run scripts/docs.py"
    ]
    assert list(docs.write(tmp_path)) == [Path("docs/function.schema.json")]
    assert docs.inspect(tmp_path) == []


def test_tables_become_what_they_stand_for_with_their_defaults() -> None:
    wiring = settings_of(
        {"trigger": [{"topic": "a", "batch": {"events": 3}}], "output": {"topic": "b"}, "publish": ["c/#"]}, Limits()
    ).wiring
    assert wiring == Wiring((Trigger("a", batch=Batch(events=3)),), (), Output("b"), ("c/#",))
    assert settings_of({}, Limits()).wiring == Wiring()


def test_a_topic_has_one_trigger_of_a_function() -> None:
    with pytest.raises(ConfigError, match=r"config\.trigger\[1\]\.topic: 'a' is the topic of another trigger"):
        settings_of({"trigger": [{"topic": "a"}, {"topic": "a", "qos": 0}]}, Limits())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"trigger": [{"topic": "x"}, {"topic": "faas/invoke/+"}]},
         "config.trigger[1].topic: 'faas/invoke/+' may not match faas/invoke/#: those are requests to the server"),
        ({"trigger": [{"topic": "$share/g/#"}]}, "config.trigger[0].topic: '$share/g/#' may not match faas/invoke/#"),
        ({"trigger": [{"topic": "+/admin/list"}]},
         "config.trigger[0].topic: '+/admin/list' may not match faas/admin/#"),
        ({"publish": ["a", "#"]}, "config.publish[1]: '#' may not reach faas/admin/#: there only the server speaks"),
        ({"publish": ["faas/node/me"]}, "config.publish[0]: 'faas/node/me' may not reach faas/node/#"),
        ({"output": {"topic": "faas/response/invoke/f"}},
         "config.output.topic: 'faas/response/invoke/f' may not reach faas/response/#"),
        ({"output": {"topic": "a/b"}, "trigger": [{"topic": "a/+"}]},
         "config.output.topic: 'a/b' is matched by a/+: the function would call itself"),
        ({"output": {"topic": "faas/invoke/me"}},
         "config.output.topic: 'faas/invoke/me' is matched by faas/invoke/me: the function would call itself"),
    ],
)  # fmt: skip
def test_what_reaches_the_servers_own_topics_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_reach("me", settings_of(config, Limits()).wiring, Topics("faas"))
    assert str(refused.value).startswith(message)


def test_a_function_may_hear_answers_and_call_others() -> None:
    config = {
        "trigger": [{"topic": "faas/response/error"}, {"topic": "faas/node/+"}, {"topic": "+/+"}],
        "output": {"topic": "faas/invoke/other"},
        "publish": ["faas/invoke/+"],
    }
    check_reach("me", settings_of(config, Limits()).wiring, Topics("faas"))
