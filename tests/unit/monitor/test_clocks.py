"""Watermarks: the rules of DESIGN 3.3, one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monitor.clocks import Clock, PartitionClock, model_watermark

MINUTE = 60_000


def partition(
    newest: int | None = None, read: int = 0, caught_up: int | None = None, *, bounded: bool = False
) -> PartitionClock:
    clock = None if newest is None else Clock(newest, read)
    return PartitionClock(any_model=clock, caught_up_ms=caught_up, bounded=bounded)


def test_the_newest_prediction_less_the_lateness() -> None:
    assert model_watermark([(partition(900, 5), Clock(900, 5))], 100) == 800


def test_the_slowest_partition_decides() -> None:
    pairs = [(partition(900), Clock(900, 0)), (partition(500), Clock(500, 0))]
    assert model_watermark(pairs, 0) == 500


def test_a_partition_without_the_model_counts_as_read_up_to_its_newest_prediction_of_any_model() -> None:
    assert model_watermark([(partition(900), Clock(700, 0)), (partition(650), None)], 0) == 650


def test_a_never_read_partition_holds_everything() -> None:
    assert model_watermark([(partition(900), Clock(900, 0)), (partition(), None)], 0) is None


def test_a_partition_read_to_its_end_without_predictions_is_left_out() -> None:
    assert model_watermark([(partition(900), Clock(900, 0)), (partition(caught_up=7), None)], 0) == 900


def test_a_quiet_stream_goes_on_at_the_speed_of_the_clock_from_its_own_time() -> None:
    read_at, now = 1_000_000, 1_000_000 + 5 * MINUTE
    assert model_watermark([(partition(900, read_at, now), Clock(900, read_at))], 0) == 900 + 5 * MINUTE


def test_a_backlog_is_not_closed_by_an_older_end() -> None:
    """Read to the end an hour before the newest record was read: the end was another one."""
    assert model_watermark([(partition(900, 4_000, 400), Clock(900, 4_000))], 0) == 900


def test_without_any_prediction_there_is_no_watermark() -> None:
    assert model_watermark([(partition(caught_up=1), None)], 0) is None


def test_a_finished_file_does_not_hold_a_model_that_a_stream_carries() -> None:
    file, live = partition(100, caught_up=0, bounded=True), partition(900)
    assert model_watermark([(file, Clock(100, 0)), (live, Clock(900, 0))], 0) == 900
    assert model_watermark([(file, None), (live, Clock(900, 0))], 0) == 900, "also where the file never held it"


def test_a_file_that_is_still_being_read_holds() -> None:
    live = (partition(900), Clock(900, 0))
    assert model_watermark([(partition(100, bounded=True), Clock(100, 0)), live], 0) == 100
    assert model_watermark([(partition(bounded=True), None), live], 0) is None, "never read"


def test_a_quiet_stream_holds_beside_a_finished_file() -> None:
    """The file is not taken for the stream's clock."""
    file = partition(5_000, caught_up=0, bounded=True)
    assert model_watermark([(file, Clock(5_000, 0)), (partition(900), Clock(900, 0))], 0) == 900


def test_a_stream_that_has_not_carried_the_model_says_nothing_of_it() -> None:
    file = partition(100, caught_up=0, bounded=True)
    assert model_watermark([(file, Clock(100, 0)), (partition(900), None)], 0) == 100


def test_among_files_only_the_slowest_decides_finished_or_not() -> None:
    files = [(partition(at, caught_up=0, bounded=True), Clock(at, 0)) for at in (100, 900)]
    assert model_watermark(files, 0) == 100


clocks = st.builds(Clock, st.integers(0, 50), st.integers(0, 50))


@given(st.lists(clocks, min_size=1, max_size=6), st.randoms())
def test_the_later_clock_does_not_depend_on_the_order(seen: list[Clock], random: object) -> None:
    def latest(order: list[Clock]) -> Clock:
        best: Clock | None = None
        for clock in order:
            best = clock.later(best)
        assert best is not None
        return best

    shuffled = list(seen)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert latest(seen) == latest(shuffled)
    assert latest(seen).newest_ms == max(clock.newest_ms for clock in seen)
