"""Telling and sending with kills anywhere: every transition arrives, copies bear one id and one body, and each fingerprint stays in order."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alerts.delivery import Delivered, Outcome, Retry
from alerts.lifecycle import alert_id
from alerts.sender import Limits, Sender
from monitor.config import parse_config
from monitor.failpoints import KILLED, TELLING
from monitor.store import AlertRow, Store
from monitor.telling.teller import Teller
from tests.parts.office import SECRETS, put
from tests.parts.program import Room
from tests.parts.receiver import Receiver, answering, receiving, reset

ROUNDS = {"sqlite": 100, "postgresql": 25}  # of a hundred transitions and a kill each; all else is the same on both
TRANSITIONS_A_ROUND, MODELS, MARKS = 100, 10, 5
LEASE_MS = 30_000

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """What kill -9 is to the code that runs: nothing catches it."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path}/driftline.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url").replace("postgresql://", "postgresql+psycopg://", 1)
    store = Store.open(url, durable=False)
    yield store
    store.close()


def transitions() -> Iterator[AlertRow]:
    """Episodes of some subjects of some models, round and round: one fires, becomes critical or not, and is over."""
    rng = random.Random(7)
    firing: dict[tuple[int, int], AlertRow] = {}
    for moment in itertools.count(1):
        place = (rng.randrange(MODELS), rng.randrange(MARKS))
        model, subject = f"m{place[0]}", f"f{place[1]}"
        mark, known = f"{model}/{subject}", firing.pop(place, None)
        starts_ms = moment if known is None else known.starts_at_ms
        row = AlertRow(
            id=alert_id(mark, starts_ms), fingerprint=mark, incident=f"i-{model}-{moment // 400}" if known is None else known.incident,
            model=model, version="1", monitor="data", subject=subject, check="distribution", severity="warning",
            status="firing" if known is None else "resolved", corrected=False, at_ms=moment, starts_at_ms=starts_ms,
            ends_at_ms=None if known is None else moment, window="w", reason="drifted" if known is None else "cleared", text="moved",
            recorded_at_ms=moment, pending=True,
        )  # fmt: skip
        if known is None:
            firing[place] = row
        yield row


def config_of(hook: str, folder: Path) -> Any:
    webhook = {"webhook": {"url": hook, "secret": {"env": "HOOK_SECRET"}}}
    return parse_config({"models": {f"m{i}": {} for i in range(MODELS)}, "receivers": {"hook": webhook}}, folder)


class Hostile:
    """A receiver that fails at random, sometimes after it has taken the message."""

    limit_seconds = 1.0

    def __init__(self, got: list[tuple[str, bytes]]) -> None:
        self.got, self._rng = got, random.Random(3)

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        mood = self._rng.random()
        if mood < 0.2:
            return Retry(None, "refused")
        self.got.append((message_id, body))
        return Retry(None, "the answer was lost") if mood < 0.35 else Delivered()

    def close(self) -> None: ...


class Fatal:
    """The outbox of a sender that dies before it has recorded its nth attempt."""

    def __init__(self, store: Store, nth: int) -> None:
        self._store, self.left = store, nth

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def finish_outbox(self, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise Killed
        return self._store.finish_outbox(*args, **kwargs)


def judge(got: list[tuple[str, bytes]], wanted: list[AlertRow]) -> None:
    """All that is promised, of what one receiver got."""
    bodies, ids = defaultdict(set), defaultdict(set)
    first: dict[tuple[str, str], int] = {}
    for place, (message_id, body) in enumerate(got):
        bodies[message_id].add(body)
        ids[json.dumps(json.loads(body)["data"], sort_keys=True)].add(message_id)
        for index, alert in enumerate(json.loads(body)["data"]["alerts"]):
            first.setdefault((alert["id"], alert["status"]), place * 1_000 + index)
    assert all(len(each) == 1 for each in bodies.values()), "one id, one body"
    assert all(len(each) == 1 for each in ids.values()), "one body, one id"
    assert first.keys() == {(row.id, row.status) for row in wanted}
    by_mark: dict[str, list[int]] = defaultdict(list)
    for row in wanted:
        by_mark[row.fingerprint].append(first[row.id, row.status])
    assert all(places == sorted(places) for places in by_mark.values()), "in order"


class Trial:
    """A teller and one sender after the other, on virtual time; each of them may die."""

    def __init__(self, store: Store, teller: Teller) -> None:
        self.store, self.teller, self.rng = store, teller, random.Random(5)
        self.now_ms, self.kills, self.tells, self.fatal = 1_000_000, 0, 0, ""
        self.got: dict[str, list[tuple[str, bytes]]] = {"hook": [], "log": []}

    def reach(self, point: str) -> None:
        if point == self.fatal:
            self.fatal = ""
            raise Killed

    def tell(self) -> None:
        self.now_ms += 1_000
        self.fatal = self.rng.choice(["", "", "before_telling_commit", "after_telling_commit"])
        try:
            self.teller.turn(self.now_ms)
        except Killed:
            self.tells += 1
        while self.teller.turn(self.now_ms):
            pass

    def send(self, outbox: Any, passes: int) -> None:
        """By a new sender; one that died leaves its leases to end by themselves."""
        notifiers = {name: Hostile(got) for name, got in self.got.items()}
        sender = Sender(
            outbox, notifiers, clock=lambda: self.now_ms, random=self.rng.random, owner=f"s{self.rng.random()}",
            limits=Limits(lease_ms=LEASE_MS),
        )  # fmt: skip
        try:
            for _ in range(passes):
                sender.send_due()
                self.now_ms += 2_000
                if not self.store.outbox_pending():
                    break
            sender.close(1.0)
        except Killed:
            self.kills += 1
            sender._pool.shutdown()  # threads do not die with an exception
        self.now_ms += LEASE_MS


def test_ten_thousand_transitions_with_a_hundred_kills(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRETS["HOOK_SECRET"])
    rounds = ROUNDS[request.node.callspec.params["store"]]
    trial = Trial(store, Teller(store, config_of("http://127.0.0.1:9", tmp_path)))
    monkeypatch.setattr("monitor.telling.teller.reach", trial.reach)
    size = TRANSITIONS_A_ROUND
    wanted = list(itertools.islice(transitions(), rounds * size))
    for number in range(rounds):
        put(store, wanted[number * size : (number + 1) * size])
        trial.tell()
        trial.send(Fatal(store, trial.rng.randrange(1, 12)), 30)
    while trial.kills < rounds:
        trial.send(Fatal(store, 1), 30)
    for _ in range(100):
        trial.send(store, 200)
        trial.now_ms += 3_600_000
        if not store.outbox_pending():
            break
    assert store.outbox_pending() == 0
    assert (trial.kills, trial.tells > rounds // 10) == (rounds, True)
    for got in trial.got.values():
        judge(got, wanted)
    copies = sum(len(got) - len({message_id for message_id, _ in got}) for got in trial.got.values())
    assert copies > rounds // 2, "kills between sending and recording make copies"


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_a_service_that_is_killed_at_each_point_of_telling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real processes and a receiver that is down at times: SIGKILL before and after the commit of telling, and after sending."""
    monkeypatch.setenv("HOOK_SECRET", SECRETS["HOOK_SECRET"])
    wanted = list(itertools.islice(transitions(), 120))
    with receiving() as receiver:
        receiver.answer = moody(receiver)
        room = Room(tmp_path, {f"m{i}": {} for i in range(MODELS)})
        path = tmp_path / "driftline.yaml"
        told = {"receivers": {"hook": {"webhook": {"url": receiver.base, "secret": {"env": "HOOK_SECRET"}}}}}
        path.write_text(json.dumps(json.loads(path.read_text()) | told))
        room.run("db", "upgrade")
        store = Store.open(room.store)
        parts = [wanted[start : start + 20] for start in range(0, len(wanted), 20)]
        try:
            for point, part in zip([*TELLING, *TELLING], parts, strict=True):
                put(store, part)
                worker = room.start("run", "--role", "notify", failpoint=f"{point}:1")
                assert worker.process.wait(60) == KILLED, worker.text[-2000:]
            worker = room.start("run", "--role", "notify")
            end = time.monotonic() + 120
            while (store.outbox_pending() or store.telling_due(0)) and time.monotonic() < end:
                time.sleep(0.1)
            assert worker.stop() == 0
            assert store.outbox_pending() == 0
        finally:
            store.close()
            room.close()
        judge([(headers["webhook-id"], body) for _, headers, body in receiver.got], wanted)


def moody(receiver: Receiver) -> Any:
    """Refuses and hangs up now and then; it notes what it gets even so, as a receiver might."""
    rng = random.Random(1)

    def answer(handler: Any) -> None:
        mood = rng.random()
        (reset if mood < 0.1 else answering(503) if mood < 0.2 else answering(204))(handler)

    return answer
