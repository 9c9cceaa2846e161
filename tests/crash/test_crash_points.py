"""Workers that die or are frozen at every step: the stored results are those of a run that nothing happened to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.adoption import adopt
from monitor.errors import TransientError
from monitor.ingest import Ingest
from monitor.ports import Assigned, Revoked
from monitor.store import ClosingTransaction, Store
from parts.world import CONFIG, World, hour_of_events, write_reference

HOURS = 6
EVENTS = [value for hour in range(HOURS) for value in hour_of_events(hour, 120)]


class Killed(BaseException):
    """What kill -9 is to the code that runs: nothing catches it."""


class Fragile:
    """A store that goes wrong at the nth call of one method, before it does anything or after it has landed."""

    def __init__(
        self, store: Store, method: str, nth: int, *, landed: bool, error: Callable[[], BaseException] = Killed
    ) -> None:
        self._store, self._method, self._left, self._landed, self._error = store, method, nth, landed, error

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if name != self._method:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left != 0:
                return real(*args, **kwargs)
            if self._landed:
                real(*args, **kwargs)
            raise self._error()

        return call


@pytest.fixture(params=["sqlite", "postgres"])
def new_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], World]]:
    """Worlds on a database of their own, two partitions each."""
    made: list[World] = []

    def make() -> World:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        url = None
        if request.param == "postgres":
            url = request.getfixturevalue("postgres").create_database()
            url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        world = World(folder, CONFIG, store_url=url, partitions=2)
        for index, value in enumerate(EVENTS):
            world.send([value], partition=index % 2)
        world.clock.ms += HOURS * 3_600_000
        made.append(world)
        return world

    if request.param == "postgres":
        request.getfixturevalue("postgres")
    yield make
    for world in made:
        world.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, str]:
    world = World(tmp_path_factory.mktemp("undisturbed"), CONFIG)
    world.send(EVENTS)
    world.finish()
    digests = world.digests()
    world.close()
    assert len(digests) == HOURS * 4
    return digests


def finished(world: World, ingest: Ingest) -> dict[Any, str]:
    """This worker reads the rest, in steps so small that fences and retries have their time; then what is stored."""
    for _ in range(200):
        world.clock.ms += 400
        ingest.step(0.0)
        if len(ingest.owned) == 2 and ingest.settled and all(map(ingest.source.caught_up, ingest.owned)):
            break
    else:
        pytest.fail("the worker never came to the end")
    world.closer.step()
    world.closer.finish_input()
    return world.digests()


def run_for_ever(world: World, ingest: Ingest) -> None:
    for _ in range(200):
        world.clock.ms += 400
        ingest.step(0.0)


def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.ingest.MAX_POLL_RECORDS", 50)


def total_rows(world: World) -> int:
    return sum(row.rows for row in world.windows("volume"))


@pytest.mark.parametrize("landed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("method", "nth"),
    [("checkpoint", 1), ("checkpoint", 2), ("checkpoint", 3), ("claim", 1), ("set_start", 2), ("sync_topics", 1)],
)
def test_a_successor_goes_on_where_the_store_stands(  # noqa: PLR0917
    new_world: Callable[[], World],
    undisturbed: dict[Any, str],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    nth: int,
    landed: bool,
) -> None:
    small_steps(monkeypatch)
    world = new_world()
    world.ingest.source.close()
    victim = world.worker("victim", store=Fragile(world.store, method, nth, landed=landed))  # type: ignore[arg-type]
    with pytest.raises(Killed):
        run_for_ever(world, victim)
    victim.source.close()  # the broker notices that it is gone
    assert finished(world, world.worker("heir")) == undisturbed
    assert total_rows(world) == len(EVENTS)
    assert not world.store.gaps()


@pytest.mark.parametrize("landed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("method", "nth"),
    [("checkpoint", 1), ("checkpoint", 2), ("claim", 1), ("set_start", 1), ("set_start", 2), ("sync_topics", 1)],
)
def test_a_worker_survives_a_store_that_answers_with_trouble(  # noqa: PLR0917
    new_world: Callable[[], World],
    undisturbed: dict[Any, str],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    nth: int,
    landed: bool,
) -> None:
    small_steps(monkeypatch)
    world = new_world()
    world.ingest.source.close()
    trouble = Fragile(world.store, method, nth, landed=landed, error=lambda: TransientError("the database is away"))
    assert finished(world, world.worker("steady", store=trouble)) == undisturbed  # type: ignore[arg-type]
    assert total_rows(world) == len(EVENTS)
    assert not world.store.gaps()


class Away:
    """A store where nothing answers while `away`."""

    def __init__(self, store: Store) -> None:
        self._store, self.away = store, False

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.away:
                raise TransientError("the database is away")
            return real(*args, **kwargs)

        return call


def test_a_database_that_is_away_for_a_minute_loses_nothing(
    new_world: Callable[[], World], undisturbed: dict[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a worker asks for the references, and where a rebalance comes meanwhile."""
    small_steps(monkeypatch)
    world = new_world()
    world.ingest.source.close()
    away = Away(world.store)
    monkeypatch.setattr(world.runtime, "store", away)
    ingest = world.worker("steady", store=away)  # type: ignore[arg-type]
    for turn in range(160):
        world.clock.ms += 400
        away.away = 5 <= turn < 150
        if turn == 60:
            ingest.source._events.append(Assigned(frozenset([world.partition(0), world.partition(1)])))
        ingest.step(0.0)
    assert finished(world, ingest) == undisturbed
    assert total_rows(world) == len(EVENTS)
    assert not world.store.gaps()


def test_a_zombie_beside_its_successor_is_fenced_and_doubles_nothing(
    new_world: Callable[[], World], undisturbed: dict[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen with records in memory, woken when another has taken over: in a group of its own, so that no broker tells it."""
    small_steps(monkeypatch)
    world = new_world()
    world.ingest.source.close()
    zombie = world.worker("zombie", group="before")
    for _ in range(4):
        zombie.step(0.0)
    assert zombie.owned
    assert not zombie.settled
    heir = world.worker("heir", group="after")
    for _ in range(5):
        world.clock.ms += 400
        heir.step(0.0)
    before = world.store.partition_states("live")
    zombie.checkpoint()
    assert not zombie.owned
    assert world.store.partition_states("live") == before
    assert finished(world, heir) == undisturbed
    assert total_rows(world) == len(EVENTS)


def test_two_that_believe_to_own_the_same_take_turns_and_double_nothing(
    new_world: Callable[[], World], undisturbed: dict[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_steps(monkeypatch)
    world = new_world()
    world.ingest.source.close()
    one, two = world.worker("one", group="before"), world.worker("two", group="after")
    for turn in range(80):
        world.clock.ms += 700
        (one, two)[turn % 2].step(0.0)
    assert finished(world, two) == undisturbed
    assert total_rows(world) == len(EVENTS)
    assert not world.store.gaps()


def test_a_rebalance_in_full_flow_loses_and_doubles_nothing(
    new_world: Callable[[], World], undisturbed: dict[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_steps(monkeypatch)
    world = new_world()
    world.ingest.source.close()
    one = world.worker("one")
    one.step(0.0)
    one.step(0.0)
    two = world.worker("two")
    for _ in range(6):
        world.clock.ms += 400
        two.step(0.0)
        one.step(0.0)
    assert len(one.owned) == len(two.owned) == 1
    one.close()
    assert finished(world, two) == undisturbed
    assert total_rows(world) == len(EVENTS)
    assert not world.store.gaps()


def test_records_of_an_older_claim_are_not_taken_for_the_new_one(
    new_world: Callable[[], World], undisturbed: dict[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same poll brings records and the news of a rebalance, and the checkpoint on the way out is refused."""
    small_steps(monkeypatch)
    world = new_world()
    world.ingest.source.close()
    one = world.worker("one")
    for _ in range(5):
        one.step(0.0)
    assert not one.settled
    world.store.claim("live", [world.partition(0)], "somebody", world.clock())
    source = one.source
    real = source.poll

    def poll(max_records: int, timeout_seconds: float) -> Any:
        chunks = real(max_records, timeout_seconds)
        both = frozenset([world.partition(0), world.partition(1)])
        source._events.extend([Revoked(both), Assigned(both)])
        source.poll = real
        return chunks

    source.poll = poll
    one.step(0.0)
    assert finished(world, one) == undisturbed
    assert total_rows(world) == len(EVENTS)
    assert not world.store.gaps()


def test_an_assignment_that_is_told_twice_doubles_nothing(
    new_world: Callable[[], World], undisturbed: dict[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka's client may skip the revocation when it was away for long."""
    small_steps(monkeypatch)
    world = new_world()
    for _ in range(5):
        world.ingest.step(0.0)
    assert not world.ingest.settled
    world.ingest.source._events.append(Assigned(frozenset(world.ingest.owned)))
    world.ingest.step(0.0)
    assert finished(world, world.ingest) == undisturbed
    assert total_rows(world) == len(EVENTS)


def test_what_was_dropped_no_longer_counts_as_read_to_the_end(new_world: Callable[[], World]) -> None:
    """Else the clock would go on over records that are not stored yet, and close their windows."""
    world = new_world()
    away = Away(world.store)
    world.ingest.source.close()
    ingest = world.worker(store=away)  # type: ignore[arg-type]
    for _ in range(4):
        ingest.step(0.0)
    world.send(EVENTS[:4])
    world.clock.ms += 500
    ingest.step(0.0)
    assert any(owned.caught_up_ms != owned.stored_caught_up_ms for owned in ingest.owned.values())
    away.away = True
    with pytest.raises(TransientError):
        ingest.checkpoint()
    assert all(owned.caught_up_ms == owned.stored_caught_up_ms for owned in ingest.owned.values())


class BrokenClosing(Exception):
    pass


@pytest.mark.parametrize("step", ["put_window", "put_alert_state", "mark_clean", "set_frontier"])
@pytest.mark.parametrize("nth", [1, 7])
def test_closing_is_one_step_or_none(
    new_world: Callable[[], World], undisturbed: dict[Any, str], monkeypatch: pytest.MonkeyPatch, step: str, nth: int
) -> None:
    world = new_world()
    real, calls = getattr(ClosingTransaction, step), 0

    def broken(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        result = real(*args, **kwargs)
        if calls == nth:
            raise BrokenClosing
        return result

    monkeypatch.setattr(ClosingTransaction, step, broken)
    world.read()
    try:
        world.closer.step()
    except BrokenClosing:
        assert not world.windows()
        assert not world.decided
    world.finish()
    assert world.digests() == undisturbed
    assert {row.revision for row in world.windows()} == {1}


def test_a_reference_adopted_between_reading_and_storing_is_read_again(
    new_world: Callable[[], World], undisturbed: dict[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_steps(monkeypatch)
    world = new_world()
    for _ in range(4):
        world.ingest.step(0.0)
    write_reference(world.folder / "new.parquet", seed=5)
    adopt(world.store, world.config.models["churn"], path=world.folder / "new.parquet", now_ms=world.clock())
    digests = finished(world, world.ingest)
    assert total_rows(world) == len(EVENTS)
    assert {row.reference for row in world.windows("data")} == {row.hash for row in world.store.references()}
    assert digests.keys() == undisturbed.keys()
    assert not world.store.gaps()
