"""Measures the concept drift detectors on public streams whose concept changes, and writes concept.md. From the root of the repository:

    python docs/statistics/measure_concept.py FOLDER

FOLDER holds `known_drift` (sine1, mixed, circles of alipsgh/tornado, MIT; insects of ZSKPP/feature-drift).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402 - the path comes first
import pandas as pd  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from detectors.concept import arrival  # noqa: E402
from detectors.concept.judge import judge_concept  # noqa: E402
from detectors.concept.registry import DETECTORS, ArrivalPane, Baseline, Verdict, baseline_of, detector  # noqa: E402
from detectors.finding import State  # noqa: E402

SEED = 20_261_125
TRAINED, WATCHED = 4000, 9000  # the model is fitted on rows before the first, the reference is what lies between
HOUR_MS = 3_600_000
A_PANE = 250  # labels an hour
DELAY = 2000  # rows between a prediction and its label
COPIES = 5  # healthy ones of each stream
RISES = (0.11, 0.12, 0.13, 0.15, 0.20)  # error rates after one of .10
BEFORE, AFTER, RUNS = 5000, 20_000, 10  # labels before and after such a rise, and how often it is simulated
ABRUPT, GRADUAL = tuple(range(20_000, 100_000, 20_000)), (25_000, 50_000, 75_000)
CHANGES = {
    "sine1_101": ABRUPT, "sine1_102": ABRUPT, "mixed_101": ABRUPT, "mixed_102": ABRUPT,
    "circles_101": GRADUAL, "circles_102": GRADUAL, "insects_gradual": (14_028,),
}  # fmt: skip
SETTLED = 1000  # rows after a change that tell nothing about the stretch: gradual changes take that long
HEAD = f"""# Concept drift: method and measurements

Written by `python docs/statistics/measure_concept.py FOLDER` (a minute or two on one core, seed {SEED}); do not edit.

**What is asked.** Has the mean loss of a model, in the order in which labels arrive, risen above what is tolerated? A loss is 1 for a wrong
decision; of a regression the absolute error over the reference's range, at most 1. Tolerated is the 95 % upper confidence bound of the
reference's mean loss (Clopper-Pearson; empirical Bernstein for a regression), raised by 5 %, by 2 % from 15,000 reference labels on,
and times the hour-of-week factor where the reference covers three full weeks.

**`e_sr`** (the default, and what decides unless another is named first) is an e-Shiryaev-Roberts detector on the sums of a pane: twelve
bets against "the mean loss is tolerated", mixed. It promises at most one false alarm in 90 days on average, over all segments of a model
together, for every sequence of losses whose mean, given the past, is never above what is tolerated. The promise is about the arrival
order; [decision 0016](../decisions/0016-concept-drift-in-a-fair-order.md) says when that order is not used.

**`adwin`, `ddm`, `page_hinkley`** read single losses and give the numbers of river 0.26, index for index
(`tests/unit/detectors/test_concept_sequence.py`). They promise nothing about false alarms. They also announce falls of the loss;
such a signal restarts them, and opens no episode.

**Episodes.** An alarm opens an episode: `drift` in every pane until it closes. It closes when the newest 500 labels or more are back at
or under what is tolerated (or nearly so, and evidently below the episode); `e_sr` also closes it on evidence of its own. Then the
detector starts anew.

## Set-up

A frozen boosted classifier (rows 0-4,000); reference rows 4,000-9,000; every row from 9,000 on is predicted, and its label arrives {DELAY:,} rows
later. {A_PANE} labels arrive in an hour and make a pane; panes are folded and judged by the code that runs in production. A stretch lies between two
changes of the stream. It is **bad** when its mean loss, its first {SETTLED:,} rows left out, is above what is tolerated. A change back to
the old concept is an improvement for a frozen model, and nobody is to be paged for it.

`insects_gradual` is real data. Its frozen model is bad long before the temperature that its authors name changes, so its first stretch is.

Delays are in labels, from the first one of the stretch to the end of the pane that told. In predictions add {DELAY:,}.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Losses of a frozen model: of its reference, and from row `WATCHED` on."""

    name: str
    baseline: Baseline
    losses: NDArray[np.float64]
    stretches: tuple[slice, ...]  # of `losses`

    @property
    def tolerated(self) -> float:
        return self.baseline.threshold(0, HOUR_MS)

    def mean(self, stretch: slice) -> float:
        first = stretch.start + (SETTLED if stretch.start else 0)
        return float(self.losses[first : stretch.stop].mean())

    def bad(self, stretch: slice) -> bool:
        return self.mean(stretch) > self.tolerated


def load(folder: Path, name: str) -> Stream:
    from sklearn.ensemble import HistGradientBoostingClassifier

    table = pd.read_parquet(folder / "known_drift" / f"{name}.parquet")
    label = table.pop("class").astype(str)
    numbers = table.apply(lambda values: values if values.dtype.kind in "fi" else (values == "True").astype(float))
    model = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, random_state=0)
    model.fit(numbers[:TRAINED], label[:TRAINED])
    loss = (model.predict(numbers) != label.to_numpy()).astype(np.float64)
    known = loss[TRAINED:WATCHED]
    wrong = float(known.sum())
    ends = [0, *(change - WATCHED for change in CHANGES[name]), len(loss) - WATCHED]
    return Stream(
        name=name,
        baseline=baseline_of(labels=len(known), loss_sum=wrong, loss_squared=wrong, zero_one=True),
        losses=loss[WATCHED:],
        stretches=tuple(slice(a, b) for a, b in itertools.pairwise(ends)),
    )


def panes(losses: NDArray[np.float64], keys: NDArray[np.uint64]) -> Iterator[ArrivalPane]:
    """Row k is predicted at k times the step, its label comes DELAY rows later."""
    times = (np.arange(len(losses), dtype=np.int64) + DELAY) * (HOUR_MS // A_PANE)
    ones = np.ones(len(losses), np.int8)
    for start in range(0, len(losses), A_PANE):
        part = slice(start, start + A_PANE)
        profile = arrival.fold_arrival(times[part], keys[part], losses[part], ones[part], with_sequence=True)
        first_ms = int(times[start]) // HOUR_MS * HOUR_MS
        yield arrival.pane(profile, first_ms, first_ms + HOUR_MS)


@dataclass(slots=True)
class Ran:
    """Places (labels watched) at which episodes were told to be open and closed."""

    opened: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)


def run(name: str, baseline: Baseline, watched: Sequence[ArrivalPane]) -> Ran:
    found, ran = detector(name, baseline), Ran()
    state, seen = found.start(), 0
    for pane in watched:
        state, verdict = found.step(state, pane)
        seen += pane.labels
        _check(judge_concept(found, verdict, pane, subject="error").state, verdict)
        if verdict.opened:
            ran.opened.append(seen)
        if verdict.closed:
            ran.closed.append(seen)
    return ran


def _check(state: State, verdict: Verdict) -> None:
    if (state is State.DRIFT) != verdict.drifting:
        raise SystemExit("the finding says otherwise than the detector")


@dataclass(slots=True)
class Tally:
    """Of one detector over all streams."""

    bad: int = 0
    known: int = 0  # bad stretches that were told, by an alarm or an episode that is still open
    delays: list[int] = field(default_factory=list)  # of the alarms
    recovered: int = 0  # good stretches after an episode
    closings: list[int] = field(default_factory=list)
    needless: int = 0  # episodes opened in a good stretch
    healthy: int = 0  # episodes in copies without a change
    healthy_labels: int = 0


def judge(stream: Stream, ran: Ran, tally: Tally) -> list[str]:
    """A cell for each stretch: what was told in it."""
    cells, is_open = [], False
    for stretch in stream.stretches:
        opened = [place - stretch.start for place in ran.opened if stretch.start < place <= stretch.stop]
        closed = [place - stretch.start for place in ran.closed if stretch.start < place <= stretch.stop]
        told = []
        if stream.bad(stretch):
            tally.bad += 1
            tally.known += bool(is_open or opened)
            tally.delays += [] if is_open else opened[:1]
            told += ["still open" if is_open else f"alarm after {opened[0]:,}" if opened else "**missed**"]
        else:
            tally.needless += len(opened)
            if is_open:
                tally.recovered += 1
                tally.closings += closed[:1]
                told += [f"closed after {closed[0]:,}" if closed else "**stays open**"]
            told += [f"**{len(opened)} needless**"] if opened else []
        cells.append(", ".join(told) or "quiet")
        is_open = is_open + len(opened) - len(closed) > 0
    return cells


def healthy(stream: Stream, tallies: dict[str, Tally], random: np.random.Generator) -> None:
    """Losses drawn at random from before the first change: nothing ever changes."""
    if stream.bad(stream.stretches[0]):
        return
    before = stream.losses[stream.stretches[0]]
    for _ in range(COPIES):
        drawn = random.choice(before, len(stream.losses))
        keys = random.integers(0, 2**63, len(drawn)).astype(np.uint64)
        watched = list(panes(drawn, keys))
        for name, tally in tallies.items():
            tally.healthy += len(run(name, stream.baseline, watched).opened)
            tally.healthy_labels += len(drawn)


def league(tallies: dict[str, Tally]) -> Iterator[str]:
    yield "## The league\n"
    yield (
        "`Needless`: episodes opened in stretches that are not bad. `Healthy`: the same in losses drawn at random from before the first"
        f" change (of streams that are not bad from the start), {COPIES} copies of each, where the loss never rises.\n"
    )
    yield "| detector | bad stretches told | median delay of alarms (longest) | needless | closed after recovery | median (longest) | healthy, per 100,000 labels |"
    yield "|---|---|---|---|---|---|---|"
    for name, tally in tallies.items():
        rate = 100_000 * tally.healthy / tally.healthy_labels
        yield (
            f"| `{name}` | {tally.known} of {tally.bad} | {_spread(tally.delays)} | {tally.needless} |"
            f" {len(tally.closings)} of {tally.recovered} | {_spread(tally.closings)} | {rate:.2f} ({tally.healthy} in {tally.healthy_labels:,}) |"
        )
    yield ""


def rises(random: np.random.Generator) -> Iterator[str]:
    """Errors drawn at random, at a rate that rises once."""
    wrong = 500.0
    baseline = baseline_of(labels=5000, loss_sum=wrong, loss_squared=wrong, zero_one=True)
    yield "## Small rises, simulated\n"
    yield (
        f"An error rate of .10 in a reference of 5,000 labels ({baseline.threshold(0, HOUR_MS):.3f} is tolerated) and in the first {BEFORE:,}"
        f" labels; then {AFTER:,} labels at the rate below; {RUNS} runs. In each cell: runs that alarmed after the rise, median delay in labels,"
        " and runs that alarmed before it. The first line lies within what is tolerated: nobody wants to hear of it.\n"
    )
    yield f"| rate | {' | '.join(f'`{name}`' for name in DETECTORS)} |"
    yield "|---" * (1 + len(DETECTORS)) + "|"
    for rate in RISES:
        found: dict[str, list[list[int]]] = {name: [] for name in DETECTORS}
        for _ in range(RUNS):
            chance = np.repeat([0.10, rate], [BEFORE, AFTER])
            losses = (random.random(len(chance)) < chance).astype(np.float64)
            watched = list(panes(losses, random.integers(0, 2**63, len(losses)).astype(np.uint64)))
            for name, runs in found.items():
                runs.append(run(name, baseline, watched).opened)
        yield f"| {rate:.2f} | {' | '.join(map(_told, found.values()))} |"
    yield ""


def _told(runs: Sequence[Sequence[int]]) -> str:
    delays = [
        next(place for place in opened if place > BEFORE) - BEFORE for opened in runs if opened and opened[-1] > BEFORE
    ]
    early = sum(any(place <= BEFORE for place in opened) for opened in runs)
    told = f"{len(delays)} of {len(runs)}" + (f", {np.median(delays):,.0f}" if delays else "")
    return told + (f" ({early} before)" if early else "")


def _spread(delays: Sequence[int]) -> str:
    return f"{np.median(delays):,.0f} ({max(delays):,})" if delays else "-"


def main() -> None:
    folder = Path(sys.argv[1])
    random = np.random.default_rng(SEED)
    tallies = {name: Tally() for name in DETECTORS}
    table = [f"| stream | rows | mean loss | tolerated | {' | '.join(f'`{name}`' for name in DETECTORS)} |"]
    table.append("|---" * (4 + len(DETECTORS)) + "|")
    for name in CHANGES:
        sys.stderr.write(f"{name}\n")
        stream = load(folder, name)
        watched = list(panes(stream.losses, random.integers(0, 2**63, len(stream.losses)).astype(np.uint64)))
        columns = [
            judge(stream, run(detector_name, stream.baseline, watched), tally)
            for detector_name, tally in tallies.items()
        ]
        for stretch, *cells in zip(stream.stretches, *columns, strict=True):
            loss = f"{stream.mean(stretch):.3f}" + (" (bad)" if stream.bad(stretch) else "")
            rows = f"{stretch.start + WATCHED:,}-{stretch.stop + WATCHED:,}"
            table.append(f"| {name} | {rows} | {loss} | {stream.tolerated:.3f} | {' | '.join(cells)} |")
        healthy(stream, tallies, random)
    lines = [HEAD, *league(tallies), *rises(random), "## Stretch by stretch\n", *table, ""]
    (ROOT / "docs" / "statistics" / "concept.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
