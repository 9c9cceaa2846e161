from __future__ import annotations

from alerts.delivery import Delivered, GaveUp, Outcome, Retry
from alerts.fallback import WithFallback

MINUTE = 60_000


class Scripted:
    """Answers as told, the last answer for ever."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes, self.got, self.limit_seconds = list(outcomes), [], 5.0

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        self.got.append(message_id)
        return self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]

    def close(self) -> None: ...


def test_the_second_hears_nothing_while_the_first_takes_messages() -> None:
    first, second = Scripted(Delivered()), Scripted(Delivered())
    assert WithFallback(first, second, "team").send("m", b"", 0) == Delivered()
    assert second.got == []


def test_what_the_first_refuses_goes_to_the_second_once_and_stays_a_failure_of_the_first() -> None:
    first, second = Scripted(GaveUp("bad key")), Scripted(Delivered())
    both = WithFallback(first, second, "receiver team")
    assert both.send("m", b"", 0) == GaveUp("bad key; receiver team was told instead")
    assert both.send("m", b"", 0) == GaveUp("bad key; receiver team was told instead")
    assert second.got == ["m"]


def test_trouble_that_lasts_brings_the_second_in_while_the_first_is_tried_on() -> None:
    first, second = Scripted(Retry(7.0, "down")), Scripted(Delivered())
    both = WithFallback(first, second, "team", patience_ms=5 * MINUTE)
    assert both.send("m", b"", 0) == Retry(7.0, "down")
    assert both.send("m", b"", 5 * MINUTE - 1) == Retry(7.0, "down")
    assert second.got == []
    assert both.send("m", b"", 5 * MINUTE) == Retry(7.0, "down; team was told instead")
    both.send("m", b"", 6 * MINUTE)
    assert second.got == ["m"]
    first.outcomes = [Delivered()]
    assert both.send("m", b"", 7 * MINUTE) == Delivered()


def test_every_message_has_a_patience_of_its_own() -> None:
    both = WithFallback(Scripted(Retry(None, "down")), second := Scripted(Delivered()), "team", patience_ms=MINUTE)
    both.send("old", b"", 0)
    both.send("new", b"", MINUTE)
    assert second.got == []


def test_as_long_as_nobody_has_it_it_is_not_given_up() -> None:
    first, second = Scripted(GaveUp("bad key")), Scripted(Retry(None, "down"), Delivered())
    both = WithFallback(first, second, "team")
    assert both.send("m", b"", 0) == Retry(None, "bad key; team: down")
    assert isinstance(both.send("m", b"", 1), GaveUp)
    assert second.got == ["m", "m"]


def test_when_both_refuse_it_is_over() -> None:
    assert isinstance(WithFallback(Scripted(GaveUp("a")), Scripted(GaveUp("b")), "team").send("m", b"", 0), GaveUp)


def test_the_time_limit_covers_both() -> None:
    assert WithFallback(Scripted(Delivered()), Scripted(Delivered()), "team").limit_seconds == 10
