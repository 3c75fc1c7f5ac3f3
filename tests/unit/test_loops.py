"""Chains of functions: where a loop is seen, and where none is."""

from __future__ import annotations

import pytest

from tinyfaas.errors import Forbidden
from tinyfaas.loops import MOST_LINKS, Loops


def test_a_function_that_is_in_the_chain_is_refused_and_others_are_not() -> None:
    loops = Loops("pi", remembers=False)
    chain = loops.after(loops.after("", "a"), "b")
    assert chain == "pi/a,pi/b"
    loops.check("", "a")
    loops.check(chain, "c")
    with pytest.raises(Forbidden, match="a loop, broken here: pi/a → pi/b → pi/a"):
        loops.check(chain, "a")
    Loops("other", remembers=False).check(chain, "a")  # a function of another node that is called the same
    assert loops.broken == 1


def test_a_chain_has_an_end_whoever_is_in_it() -> None:
    loops = Loops("pi", remembers=False)
    chain = ",".join(f"elsewhere/{number}" for number in range(MOST_LINKS))
    loops.check(chain.rpartition(",")[0], "a")
    with pytest.raises(Forbidden, match=f"more than {MOST_LINKS} functions in a row"):
        loops.check(chain, "a")
    with pytest.raises(Forbidden):
        loops.check("x" * 100_000, "a")


def test_what_a_refusal_leads_to_is_not_refused_again_and_again() -> None:
    loops = Loops("pi", remembers=False)
    chain = loops.after("", "a")
    assert not loops.exhausted(chain, "a")
    assert loops.exhausted(loops.after(chain, "a"), "a")
    assert not loops.exhausted("", "a")


def test_messages_of_one_call_have_one_chain_that_holds_all_and_has_room_for_one_more() -> None:
    loops = Loops("pi", remembers=False)
    assert loops.joined(["", "x/a", "x/a,x/b", ""]).split(",") == ["x/a", "x/b"]
    many = loops.joined(f"x/{number}" for number in range(100))
    loops.check(many, "a")


def test_without_properties_this_node_remembers_for_a_while_what_it_published(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("tinyfaas.loops.time.monotonic", lambda: now_s)
    loops = Loops("pi", remembers=True)
    assert loops.recalled("t", b"1") == ""
    loops.published("pi/a", "t", b"1")
    assert loops.recalled("t", b"1") == "pi/a"
    assert loops.recalled("t", b"2") == ""
    for number in range(5_000):
        loops.published("pi/b", "t", str(number).encode())
    assert loops.recalled("t", b"4999") == "pi/b"
    assert loops.recalled("t", b"2") == ""  # too long ago by count
    now_s = 61.0
    assert loops.recalled("t", b"4999") == ""
    silent = Loops("pi", remembers=False)
    silent.published("pi/a", "t", b"1")
    assert silent.recalled("t", b"1") == ""
