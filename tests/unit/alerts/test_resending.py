from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from alerts.delivery import Delivered, Outcome, Retry
from alerts.resending import Resender


class Forgetful:
    def __init__(self, resend_ms: int) -> None:
        self.resend_ms, self.calls, self.outcome = resend_ms, [], Delivered()

    def resend(self, active, now_ms: int, well: bool) -> Outcome:
        self.calls.append((now_ms, list(active()), well))
        return self.outcome


def test_each_receiver_hears_its_own_alerts_at_its_own_pace() -> None:
    slow, quick = Forgetful(60_000), Forgetful(20_000)
    resender = Resender({"slow": slow, "quick": quick}, lambda name: [{"for": name}])
    for now_ms in range(0, 60_001, 1_000):
        resender.turn(now_ms)
    assert [at for at, _, _ in slow.calls] == [0, 60_000]
    assert [at for at, _, _ in quick.calls] == [0, 20_000, 40_000, 60_000]
    assert slow.calls[0][1:] == ([{"for": "slow"}], True)


def test_one_that_could_not_be_reached_is_tried_again_soon_and_the_log_tells() -> None:
    one = Forgetful(60_000)
    one.outcome = Retry(None, "down")
    resender = Resender({"one": one}, lambda name: [])
    with capture_logs() as logs:
        for now_ms in range(0, 11_000, 1_000):
            resender.turn(now_ms)
    assert [at for at, _, _ in one.calls] == [0, 5_000, 10_000]
    assert logs[0] == {"event": "not_sent_again", "receiver": "one", "error": "down", "log_level": "warning"}


def test_a_store_that_is_away_does_not_become_a_busy_loop() -> None:
    asked = []

    def active(name: str):
        asked.append(name)
        raise OSError("away")

    resender = Resender({"one": Forgetful(60_000)}, active)
    with pytest.raises(OSError):
        resender.turn(0)
    resender.turn(1)
    assert asked == ["one"]
