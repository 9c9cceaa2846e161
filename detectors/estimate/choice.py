"""Which method estimates best, and how far it misses: tried on the reference, whose labels are known.

Two kinds of trial. Blocks in time order, each estimated from the rows before it (rolling origin): what an undisturbed window is like.
Slices: the rows of one half that have one code of one feature, estimated from the other half: the strongest covariate shift towards that
code that the reference can show, which blocks of a steady reference never do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.estimate.calibration import blend, calibrate, recalibrate
from detectors.estimate.cells import Table, code_shares, shift, tally_cells
from detectors.estimate.interval import errors_of, scatter_of
from detectors.estimate.reweighted import reweight
from detectors.estimate.types import Floats, Method, ReferenceSample, Scatter
from detectors.estimate.values import figures, names_of
from detectors.performance.layout import CODES, Task

JUDGED = ("accuracy", "precision", "recall", "f1", "roc_auc")
BLOCKS = 12  # of which the first third is only learnt from
BLOCK_ROWS = 250  # at least
SLICE_ROWS = 300  # at least
SLICE_LIMIT = 60  # in each half, evenly spaced over features and codes
TRIAL_ROWS = 32_768  # of the reference that are reweighted in a trial
HANDICAP = 0.05  # log error by which a reweighting may lose: it is guarded in each window, and meant for shifts that no reference shows
FEWEST_OF_A_SIDE = 50  # positives, negatives, and decisions for either, in a trial

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """The labelled rows of a reference in time order, as an estimator sees them: all of `sample`, and the mean scores and raw rates by cell."""

    task: Task
    sample: ReferenceSample
    shape: tuple[int, int]
    raw: Floats | None
    mean_scores: Floats
    tied: NDArray[np.bool_]

    def part(self, where: Places) -> ReferenceSample:
        whole = self.sample
        return ReferenceSample(
            codes=whole.codes[where],
            group=whole.group[where],
            places=whole.places[where],
            hits=whole.hits[where],
            weight=whole.weight[where],
            group_cells=whole.group_cells,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Of one method on one block or slice: error and variance of each metric. `shift` of its features from those learnt from."""

    rows: int
    shift: float
    errors: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    method: Method
    scatter: Mapping[str, Scatter]
    plain_scatter: Mapping[str, Scatter]
    errors: Mapping[str, Mapping[str, float]]


def choose(rows: Rows) -> Choice:
    """The method with the least mean log of the root mean square error over the metrics in JUDGED; blocks and slices count by their rows."""
    methods: list[Method] = ["isotonic", *(("raw",) if rows.raw is not None else ()), *_reweighted(rows)]
    blocks: dict[Method, list[Trial]] = {method: [] for method in methods}
    slices: dict[Method, list[Trial]] = {method: [] for method in methods}
    for learnt, tested in time_blocks(len(rows.sample)):
        for method, trial in _try(rows, learnt, tested, methods).items():
            blocks[method].append(trial)
    for learnt, tested in code_slices(rows.sample.codes):
        for method, trial in _try(rows, learnt, tested, methods).items():
            slices[method].append(trial)
    errors: dict[str, dict[str, float]] = {
        method: _root_mean_square(rows.task, blocks[method] + slices[method]) for method in methods
    }
    best: Method = "isotonic"
    least = 0.0
    for method in methods[1:]:
        score = _score(errors[method], errors["isotonic"])
        if score is not None and score - (HANDICAP if method == "reweighted" else 0.0) < least:
            best, least = method, score
    scatter = {name: _scatter(name, blocks[best], slices[best]) for name in names_of(rows.task)}
    plain = {name: _scatter(name, blocks["isotonic"], slices["isotonic"]) for name in names_of(rows.task)}
    return Choice(method=best, scatter=scatter, plain_scatter=plain, errors=errors)


def _reweighted(rows: Rows) -> tuple[Method, ...]:
    return ("reweighted",) if rows.sample.codes.shape[1] else ()


def time_blocks(rows: int) -> Iterator[tuple[Places, Places]]:
    """Pairs of (rows before, rows of the block)."""
    count = min(BLOCKS, rows // BLOCK_ROWS)
    if count < 3:
        return
    ends = np.arange(count + 1, dtype=np.int64) * rows // count
    for block in range(max(count // 3, 1), count):
        yield np.arange(ends[block]), np.arange(ends[block], ends[block + 1])


def code_slices(codes: NDArray[np.uint8]) -> Iterator[tuple[Places, Places]]:
    """Pairs of (the other half, the rows of a half with one code), at least SLICE_ROWS and at most half of that half."""
    middle = len(codes) // 2
    halves = (np.arange(middle), np.arange(middle, len(codes)))
    for tested, learnt in (halves, halves[::-1]):
        found = []
        for feature in range(codes.shape[1]):
            column = codes[tested, feature]
            counts = np.bincount(column, minlength=CODES)
            fitting = np.flatnonzero((counts >= SLICE_ROWS) & (counts * 2 <= len(tested)))
            found += [(feature, int(code)) for code in fitting]
        kept = np.arange(min(SLICE_LIMIT, len(found))) * len(found) // max(min(SLICE_LIMIT, len(found)), 1)
        for place in kept.tolist():
            feature, code = found[place]
            yield learnt, tested[codes[tested, feature] == code]


def _try(rows: Rows, learnt: Places, tested: Places, methods: list[Method]) -> dict[Method, Trial]:
    test = rows.part(tested)
    counts = tally_cells(test.places, None, rows.shape)
    table = Table(mass=counts, rows=counts, mean_scores=rows.mean_scores)
    hits = tally_cells(test.places, test.hits.astype(np.float64), rows.shape)
    real = figures(rows.task, table, hits, rows.tied)
    if _too_few(rows.task, counts, hits):
        return {}
    train = rows.part(learnt)
    moved = shift(code_shares(train.codes), code_shares(test.codes))
    trials = {}
    for method in methods:
        rates, doubt = _fit(rows, method, train, test)
        guessed = figures(rows.task, table, counts * rates, rows.tied)
        errors = {}
        for name, figure in guessed.items():
            truth = real[name].value
            if figure.value is None or truth is None:
                continue
            errors_found = errors_of(rows.task, table, figure, rates, doubt)
            errors[name] = (figure.value - truth, errors_found.sampling + errors_found.calibration)
        trials[method] = Trial(rows=len(tested), shift=moved, errors=errors)
    return trials


def _too_few(task: Task, counts: Floats, hits: Floats) -> bool:
    """Metrics of few positives, or few decided so, say nothing about a method."""
    if task != "binary":
        return False
    positive = float(hits.sum())
    decided = counts.sum(axis=1)
    return (
        min(positive, float(counts.sum()) - positive) < FEWEST_OF_A_SIDE
        or min(decided[0], decided[1]) < FEWEST_OF_A_SIDE
    )


def _fit(rows: Rows, method: Method, train: ReferenceSample, test: ReferenceSample) -> tuple[Floats, Floats]:
    if method == "raw" and rows.raw is not None:
        return rows.raw, np.zeros(rows.shape)
    if method == "isotonic":
        return calibrate(rows.task, train, train.weight, rows.shape)
    kept = np.arange(min(len(train), TRIAL_ROWS)) * len(train) // min(len(train), TRIAL_ROWS)
    fewer = ReferenceSample(
        codes=train.codes[kept],
        group=train.group[kept],
        places=train.places[kept],
        hits=train.hits[kept],
        weight=train.weight[kept],
        group_cells=train.group_cells,
    )
    code_rows = np.array([np.bincount(column, minlength=CODES) for column in test.codes.T], dtype=np.float64)
    group_rows = np.bincount(test.group, minlength=test.group_cells).astype(np.float64)
    plain = calibrate(rows.task, train, train.weight, rows.shape)
    found = reweight(fewer, code_rows, group_rows, plain[0])
    weighted = recalibrate(rows.task, fewer, found.weight, found.effective_rows, plain[0])
    return blend(plain, weighted, found.trust)


def _root_mean_square(task: Task, trials: list[Trial]) -> dict[str, float]:
    found = {}
    for name in names_of(task):
        pairs = [(trial.errors[name][0], trial.rows) for trial in trials if name in trial.errors]
        if pairs:
            squares = sum(error * error * rows for error, rows in pairs)
            found[name] = float(np.sqrt(squares / sum(rows for _, rows in pairs)))
    return found


def _score(errors: Mapping[str, float], baseline: Mapping[str, float]) -> float | None:
    logs = [
        np.log(max(errors[name], 1e-9) / max(baseline[name], 1e-9))
        for name in JUDGED
        if name in errors and name in baseline
    ]
    return float(np.mean(logs)) if logs else None


def _scatter(name: str, blocks: list[Trial], slices: list[Trial]) -> Scatter:
    return scatter_of(
        [trial.errors[name] for trial in blocks if name in trial.errors],
        [(*trial.errors[name], trial.shift) for trial in slices if name in trial.errors],
    )
