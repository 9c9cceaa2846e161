"""Expected error of a regression without its truth: a model of the loss of a row, fitted on the reference (NannyML's DLE is of this kind).

The loss of a row depends on where its features are together, so a window's counts of single codes do not suffice: the model is evaluated
on the window's sample, weighted (`rake`) so that its shares are those of all rows. It is a ridge regression on indicators of every code and
of the prediction's bin, and on all products of two columns, where a code stands for the mean loss that the reference had with it and, if it is
of a number, for its place in order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.estimate.cells import code_shares, shift
from detectors.estimate.choice import Choice, Places, code_slices, time_blocks
from detectors.estimate.interval import Errors, scatter_of
from detectors.estimate.reweighted import rake
from detectors.estimate.types import Floats, LossModel, Method
from detectors.performance.layout import CODES, OTHER

LOSSES = ("abs", "squared", "ape")
METRIC_OF = {"abs": "mae", "squared": "rmse", "ape": "mape"}
PRODUCT_FEATURES = 12  # features whose encoded columns enter the products
SIMPLER = 0.03  # by so much, in log error, a model must beat the mean by bin
_RIDGE = 10.0
_SHRINK_ROWS = 20.0
_CLIP = 4.0  # standard deviations: how far an encoded column may pull


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossRows:
    """`codes` (n, F), `bins` (n) of the prediction (the number of bins without one), `values` the predictions, `losses` (n, L), NaN unknown;
    `numeric`: which features are numbers, whose codes are in order."""

    codes: NDArray[np.uint8]
    bins: NDArray[np.uint16]
    values: Floats
    losses: Floats
    weight: Floats
    numeric: tuple[bool, ...]
    width: int

    def part(self, where: Places) -> LossRows:
        return LossRows(
            codes=self.codes[where],
            bins=self.bins[where],
            values=self.values[where],
            losses=self.losses[where],
            weight=self.weight[where],
            numeric=self.numeric,
            width=self.width,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Expected:
    """Mean losses (L) of a window and their variances: of rows about the model, and of the sample it was evaluated on."""

    mean: Floats
    sampling: Floats
    calibration: Floats


def losses_of(predicted: Floats, truth: Floats) -> Floats:
    """(n, 3): |e|, e**2, |e| / |truth| (NaN where the truth is 0)."""
    error = np.abs(predicted - truth)
    ape = np.divide(error, np.abs(truth), out=np.full(len(error), np.nan), where=truth != 0.0)
    return np.stack([error, error * error, ape], axis=1)


def fit_loss(rows: LossRows) -> LossModel:
    """The model of the mean losses of `rows`. Rows without a loss of a kind enter with its mean."""
    losses = _filled(rows)
    bin_rows = np.bincount(rows.bins, weights=rows.weight, minlength=rows.width).astype(np.float64)
    bin_values = _bin_values(rows)
    encodings = _encodings(rows, losses[:, 0])
    blank = LossModel(
        names=LOSSES,
        encodings=encodings,
        bin_values=bin_values,
        coefficients=np.zeros((0, len(LOSSES))),
        residual_variance=np.zeros(len(LOSSES)),
        bin_loss=_bin_means(rows, losses, bin_rows),
        bin_variance=np.zeros(len(LOSSES)),
    )
    design = _design(blank, rows.codes, rows.bins)
    weighted = design * rows.weight[:, None]
    gram = weighted.T @ design
    gram[np.diag_indices_from(gram)] += _RIDGE * float(rows.weight.mean())
    coefficients = np.asarray(np.linalg.solve(gram, weighted.T @ losses), dtype=np.float64)
    rest = losses - design @ coefficients
    by_bin = losses - blank.bin_loss[rows.bins]
    share = rows.weight / rows.weight.sum()
    return LossModel(
        names=LOSSES,
        encodings=encodings,
        bin_values=bin_values,
        coefficients=coefficients,
        residual_variance=share @ (rest * rest),
        bin_loss=blank.bin_loss,
        bin_variance=share @ (by_bin * by_bin),
    )


def expect(
    model: LossModel, method: Method, sample: tuple[NDArray[np.uint8], NDArray[np.uint16]], code_rows: Floats, bin_rows: Floats
) -> Expected:  # fmt: skip
    """Mean losses of a window with exact `code_rows` (F, 16) and `bin_rows` (B + 1), and a `sample` of its rows (codes, bins).

    Without a sample, or by method `bins`, the mean is taken over the bins of the prediction alone.
    """
    rows = max(float(bin_rows.sum()), 1.0)
    codes, bins = sample
    if method == "bins" or len(bins) == 0:
        mean = bin_rows @ model.bin_loss / rows
        return Expected(mean=mean, sampling=model.bin_variance / rows, calibration=np.zeros(len(mean)))
    order = np.lexsort((*codes.T, bins))  # sums in one order, whatever that of the sample is
    codes, bins = codes[order], bins[order]
    columns = [np.ascontiguousarray(column) for column in (*codes.T, np.minimum(bins, 255).astype(np.uint8))]
    targets = [*code_rows, np.concatenate([bin_rows, np.zeros(max(256 - len(bin_rows), 0))])[:256]]
    weight = rake(columns, targets, np.ones(len(bins)))
    losses = np.maximum(_design(model, codes, bins) @ model.coefficients, 0.0)
    mean = weight @ losses
    unseen = max(1.0 - len(bins) / rows, 0.0)  # a sample of all rows has no sampling error of its own
    spread = losses - model.bin_loss[bins] - (mean - weight @ model.bin_loss[bins])
    return Expected(
        mean=mean, sampling=model.residual_variance / rows, calibration=unseen * (weight * weight) @ (spread * spread)
    )


def metric_errors(model: LossModel, expected: Expected) -> dict[str, tuple[float, Errors]]:
    """MAE, RMSE (root of the mean; its variances by the delta method) and MAPE."""
    found = {}
    for place, name in enumerate(model.names):
        value, sampling, calibration = (
            float(x[place]) for x in (expected.mean, expected.sampling, expected.calibration)
        )
        if name == "squared":
            factor = 1.0 / (4.0 * value) if value > 0.0 else 0.0
            value, sampling, calibration = float(np.sqrt(value)), sampling * factor, calibration * factor
        found[METRIC_OF[name]] = (value, Errors(sampling=sampling, calibration=calibration))
    return found


def choose_loss(rows: LossRows) -> Choice:
    """`modelled` where it beats the mean by bin of the prediction on the reference's blocks and slices."""
    methods: tuple[Method, ...] = ("bins", "modelled") if rows.codes.shape[1] else ("bins",)
    blocks: dict[Method, list[tuple[float, dict[str, tuple[float, float]]]]] = {method: [] for method in methods}
    slices: dict[Method, list[tuple[float, dict[str, tuple[float, float]]]]] = {method: [] for method in methods}
    fitted: dict[tuple[int, int], LossModel] = {}
    trials = [(blocks, pair) for pair in time_blocks(len(rows.bins))]
    trials += [(slices, pair) for pair in code_slices(rows.codes)]
    for kept, (learnt, tested) in trials:
        key = (int(learnt[0]), len(learnt))
        train, test = rows.part(learnt), rows.part(tested)
        if key not in fitted:
            fitted[key] = fit_loss(train)
        moved = shift(code_shares(train.codes), code_shares(test.codes))
        for method in methods:
            kept[method].append((moved, _trial(fitted[key], method, test)))
    errors: dict[str, dict[str, float]] = {
        method: {metric: _rms([e[metric][0] for _, e in blocks[method] + slices[method]]) for metric in METRIC_OF.values()}
        for method in methods
    }  # fmt: skip
    best: Method = "bins"
    if len(methods) > 1 and (blocks["bins"] or slices["bins"]):
        logs = [np.log(max(errors["modelled"][m], 1e-300) / max(errors["bins"][m], 1e-300)) for m in ("mae", "rmse")]
        best = "modelled" if float(np.mean(logs)) < -SIMPLER else "bins"
    scatter = {
        metric: scatter_of(
            [e[metric] for _, e in blocks[best]], [(*e[metric], moved) for moved, e in slices[best]]
        )
        for metric in METRIC_OF.values()
    }  # fmt: skip
    return Choice(method=best, scatter=scatter, plain_scatter={}, errors=errors)


def _trial(model: LossModel, method: Method, test: LossRows) -> dict[str, tuple[float, float]]:
    """Error and variance of each metric on the rows of `test`."""
    code_rows = np.array([np.bincount(column, minlength=CODES) for column in test.codes.T], dtype=np.float64)
    bin_rows = np.bincount(test.bins, minlength=test.width).astype(np.float64)
    step = max(len(test.bins) // 2000, 1)
    sample = (test.codes[::step], test.bins[::step])
    expected = expect(model, method, sample, code_rows.reshape(test.codes.shape[1], CODES), bin_rows)
    mean = np.nanmean(test.losses, axis=0)
    truth = {METRIC_OF[name]: float(mean[place]) for place, name in enumerate(LOSSES)}
    truth["rmse"] = float(np.sqrt(truth["rmse"]))
    return {
        metric: (value - truth[metric], errors.sampling + errors.calibration)
        for metric, (value, errors) in metric_errors(model, expected).items()
    }


def _rms(errors: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(errors)))) if errors else 0.0


def _filled(rows: LossRows) -> Floats:
    mean = [float(np.nanmean(column)) if np.isfinite(column).any() else 0.0 for column in rows.losses.T]
    return np.where(np.isfinite(rows.losses), rows.losses, np.array(mean))


def _bin_values(rows: LossRows) -> Floats:
    """Mean prediction of each bin, standardised over the rows; bins without rows are interpolated, "no prediction" is 0."""
    known = np.isfinite(rows.values)
    weight = np.where(known, rows.weight, 0.0)
    values = np.where(known, rows.values, 0.0)
    total = np.bincount(rows.bins, weights=weight, minlength=rows.width)
    sums = np.bincount(rows.bins, weights=weight * values, minlength=rows.width)
    used = np.flatnonzero(total[:-1] > 0)
    found = np.zeros(rows.width)
    if len(used) == 0:
        return found
    means = sums[used] / total[used]
    middle = float(sums[used].sum() / total[used].sum())
    spread = float(np.sqrt(total[used] @ (means - middle) ** 2 / total[used].sum()))
    found[:-1] = np.interp(np.arange(rows.width - 1), used, (means - middle) / (spread if spread > 0.0 else 1.0))
    return np.clip(found, -_CLIP, _CLIP)


def _bin_means(rows: LossRows, losses: Floats, bin_rows: Floats) -> Floats:
    overall = rows.weight @ losses / rows.weight.sum()
    sums = np.stack([np.bincount(rows.bins, weights=rows.weight * column, minlength=rows.width) for column in losses.T])
    return np.asarray((sums.T + _SHRINK_ROWS * overall) / (bin_rows[:, None] + _SHRINK_ROWS), dtype=np.float64)


def _encodings(rows: LossRows, loss: Floats) -> Floats:
    """(2F, 16): of each feature the mean loss by code less the overall mean, shrunk by how few rows a code has; and, of numeric ones, the
    order of the codes. Standardised over the rows; zeros except for the PRODUCT_FEATURES features whose codes tell most about the loss.
    """
    features = rows.codes.shape[1]
    found = np.zeros((2 * features, CODES))
    mean = float(rows.weight @ loss / rows.weight.sum())
    strength = np.zeros(features)
    for place, column in enumerate(rows.codes.T):
        counts = np.bincount(column, weights=rows.weight, minlength=CODES).astype(np.float64)
        excess = np.bincount(column, weights=rows.weight * (loss - mean), minlength=CODES) / (counts + _SHRINK_ROWS)
        found[place], strength[place] = _standardised(excess, counts)
        if rows.numeric[place]:
            ordinal = counts.copy()
            ordinal[OTHER:] = 0.0
            found[features + place] = _standardised(np.arange(CODES, dtype=np.float64), ordinal)[0]
            found[features + place, OTHER:] = 0.0
    weak = np.argsort(-strength, kind="stable")[PRODUCT_FEATURES:]
    found[weak] = 0.0
    found[features + weak] = 0.0
    return found


def _standardised(values: Floats, counts: Floats) -> tuple[Floats, float]:
    """With mean 0 and spread 1 over `counts` rows, cut at _CLIP; and the spread before. Zeros where there is none."""
    total = float(counts.sum())
    if total <= 0.0:
        return np.zeros(len(values)), 0.0
    middle = float(counts @ values) / total
    spread = float(np.sqrt(counts @ (values - middle) ** 2 / total))
    if spread <= 0.0:
        return np.zeros(len(values)), 0.0
    return np.clip((values - middle) / spread, -_CLIP, _CLIP), spread


def _design(model: LossModel, codes: NDArray[np.uint8], bins: NDArray[np.uint16]) -> Floats:
    features = codes.shape[1]
    used = [
        values[codes[:, place % features]] for place, values in enumerate(model.encodings) if bool(values.any())
    ]  # fmt: skip
    used.append(model.bin_values[bins])
    columns = [np.ones(len(bins)), *used]
    columns += [used[i] * used[j] for i in range(len(used)) for j in range(i, len(used))]
    indicators = [codes[:, [j]] == np.arange(CODES)[None, :] for j in range(features)]
    indicators.append(bins[:, None] == np.arange(len(model.bin_values))[None, :])
    return np.concatenate([np.stack(columns, axis=1), *indicators], axis=1).astype(np.float64)
