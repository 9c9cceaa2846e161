"""The demo's world: four models, their traffic and outcomes, and the faults that are injected into it. Seeded; time is simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
START_MS = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp() * 1000)  # a Monday
DAYS = 28
REFERENCE_ROWS = 20_000
SEED = 20_260_105

Columns = dict[str, NDArray[np.generic]]
Draw = Callable[[np.random.Generator, int], Columns]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is broken, where and when, and by which finding a user should learn of it.

    `stays`: it goes on after `end_ms`, but the model has been retrained on it by then, so nobody should be told any more.
    """

    name: str
    model: str
    subject: str
    checks: tuple[str, ...]
    start_ms: int
    end_ms: int
    stays: bool = False

    def covers(self, model: str, time_ms: int, slack_ms: int) -> bool:
        return self.model == model and self.start_ms - slack_ms <= time_ms < self.end_ms + slack_ms


@dataclass(frozen=True, slots=True)
class DemoModel:
    """`rate` is predictions an hour on average; `task`, `window` and `settings` go into the configuration.

    `truth`: column of `draw` that holds what will turn out, told `label_days` after the prediction; None where nobody learns it.
    """

    name: str
    task: str
    window: str
    rate: int
    draw: Draw
    truth: str | None = None
    label_days: int = 0
    settings: Mapping[str, object] = field(default_factory=dict)


def at(day: int, hour: int = 0) -> int:
    return START_MS + day * DAY_MS + hour * HOUR_MS


FAULTS = (
    Fault("null burst", "fraud", "device_score", ("missing",), at(5, 9), at(5, 21)),
    Fault("shift", "churn", "income", ("distribution",), at(9), at(10), stays=True),
    Fault("silent hour", "fraud", "rows", ("silence",), at(13, 14), at(13, 15)),
    Fault("unit change", "fraud", "amount", ("out_of_range", "distribution"), at(17, 6), at(18, 6)),
    Fault("new category", "churn", "plan", ("unseen",), at(21), at(24)),
    Fault("concept change", "credit", "error", ("e_sr",), at(7), at(28)),
    Fault("limit breached", "credit", "accuracy", ("limit",), at(7), at(28)),
)


def _churn(rng: np.random.Generator, n: int) -> Columns:
    income = np.exp(rng.normal(8.1, 0.35, n)).round(2)
    tenure = rng.integers(0, 120, n)
    plan = rng.choice(["basic", "family", "premium"], n, p=[0.5, 0.3, 0.2])
    score = 1 / (1 + np.exp(1.2 + 0.02 * tenure - 0.4 * (plan == "basic") - rng.normal(0, 0.5, n)))
    return {
        "age": rng.integers(18, 90, n), "income": income, "tenure_months": tenure, "plan": plan,
        "country": rng.choice(["DE", "FR", "IT", "ES", "PL"], n, p=[0.4, 0.25, 0.15, 0.12, 0.08]),
        "calls": rng.poisson(1.5, n), "score": score.round(6),
    }  # fmt: skip


def _fraud(rng: np.random.Generator, n: int) -> Columns:
    amount = np.exp(rng.normal(3.4, 0.9, n)).round(2)
    device = rng.beta(2, 5, n).round(4)
    score = 1 / (1 + np.exp(4 - 0.5 * np.log(amount) - 2 * device + rng.normal(0, 0.6, n)))
    return {
        "amount": amount, "device_score": device, "distance_km": rng.exponential(12.0, n).round(2),
        "merchant": rng.choice(["food", "fuel", "travel", "online", "other"], n, p=[0.35, 0.2, 0.1, 0.25, 0.1]),
        "card_present": rng.random(n) < 0.6, "score": score.round(6),
    }  # fmt: skip


def _price(rng: np.random.Generator, n: int) -> Columns:
    area = rng.gamma(9.0, 10.0, n).round(1)
    rooms = rng.integers(1, 7, n)
    value = (1500 * area + 9000 * rooms + rng.normal(0, 20_000, n)).round(0)
    return {
        "area_sqm": area,
        "rooms": rooms,
        "energy": rng.choice(list("ABCDEFG"), n),
        "year": rng.integers(1900, 2026, n),
        "value": value,
    }


def _credit(rng: np.random.Generator, n: int) -> Columns:
    income = np.exp(rng.normal(7.9, 0.4, n)).round(2)
    debt = rng.beta(2.0, 4.0, n).round(4)
    region = rng.choice(["north", "south", "east", "west"], n, p=[0.25, 0.3, 0.25, 0.2])
    score = 1 / (1 + np.exp(-(14.0 * debt - 5.2 - 1.1 * (np.log(income) - 7.9))))
    defaulted = rng.random(n) < score
    return {
        "income": income, "debt_ratio": debt, "region": region, "years_employed": rng.integers(0, 40, n),
        "score": score.round(6), "label": np.where(defaulted, "default", "paid"),
    }  # fmt: skip


MODELS = (
    DemoModel(
        "churn", "binary", "6h", 160, _churn,
        settings={
            "positive_label": "yes", "page_max_age": "12h",
            "retraining": {"mode": "auto", "target": "trainer", "cooldown": "7d", "budget": {"requests": 2, "per": "28d"}},
        },
    ),
    DemoModel("fraud", "binary", "1h", 420, _fraud, settings={"positive_label": "yes"}),
    DemoModel("price", "regression", "1d", 60, _price),
    DemoModel(
        "credit", "binary", "1d", 80, _credit, truth="label", label_days=14,
        settings={
            "positive_label": "default", "decision_threshold": 0.5, "segments": ["region"],
            "limits": {"accuracy": {"min": 0.8, "severity": "critical"}},
        },
    ),
)  # fmt: skip


def reference_columns(model: DemoModel, *, retrained: bool = False) -> Columns:
    """What the model was trained on, in time order: the four weeks before; `retrained`: rows as they have been since what stays."""
    rng = np.random.default_rng([SEED, _number(model), 0])
    columns = model.draw(rng, REFERENCE_ROWS)
    for fault in FAULTS if retrained else ():
        if fault.stays and fault.model == model.name:
            columns[fault.subject] = np.array(_broken(fault.subject, columns[fault.subject], {fault.subject}, rng))
    step_ms = DAYS * DAY_MS // REFERENCE_ROWS
    columns["timestamp"] = START_MS - DAYS * DAY_MS + step_ms * np.arange(REFERENCE_ROWS)
    if model.task == "regression":
        columns["prediction"] = columns.pop("value")
    return columns


def hour_of_events(model: DemoModel, hour: int, version: str = "1") -> list[bytes]:
    """What a model's producers send in one simulated hour, as canonical events: predictions of `version` in time order, then the outcomes that
    fall due."""
    times, values = _hour(model, hour)
    values.pop(model.truth or "", None)
    events = list(_encode(model, hour, times, values, version))
    predicted = hour - model.label_days * 24
    if model.truth is not None and predicted >= 0:
        times, values = _hour(model, predicted)
        events += _outcomes(model, predicted, times, values[model.truth])
    return events


def _hour(model: DemoModel, hour: int) -> tuple[NDArray[np.int64], dict[str, list[object]]]:
    """Times and columns of one hour's predictions, its faults included; the same whenever it is asked for."""
    start_ms = START_MS + hour * HOUR_MS
    rng = np.random.default_rng([SEED, _number(model), 1 + hour])
    daily = 1 + 0.3 * np.sin(2 * np.pi * (hour % 24 - 9) / 24)
    n = int(rng.poisson(model.rate * daily))
    columns = model.draw(rng, n)
    times = start_ms + np.sort(rng.integers(0, HOUR_MS, n))
    active = {
        fault.subject
        for fault in FAULTS
        if fault.model == model.name and fault.start_ms <= start_ms and (fault.stays or start_ms < fault.end_ms)
    }
    if "rows" in active:
        return times[:0], {name: [] for name in columns}
    if "error" in active:  # what is true of the same people has changed, not the people
        north = (columns["region"] == "north") & (rng.random(n) < 0.7)
        columns["label"] = np.where(north, "default", columns["label"])
    return times, {name: _broken(name, column, active, rng) for name, column in columns.items()}


def _outcomes(model: DemoModel, hour: int, times: NDArray[np.int64], truth: list[object]) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    for place, (label, time_ms) in enumerate(zip(truth, times.tolist(), strict=True)):
        yield encode(
            {
                "type": "outcome", "model": model.name, "id": f"{model.name}-{hour}-{place}",
                "ts": time_ms + model.label_days * DAY_MS, "label": label,
            }
        )  # fmt: skip


def _broken(name: str, column: NDArray[np.generic], active: set[str], rng: np.random.Generator) -> list[object]:
    values: list[object] = column.tolist()
    if name not in active:
        return values
    hit = rng.random(len(values))
    match name:
        case "device_score":
            return [None if h < 0.35 else value for value, h in zip(values, hit, strict=True)]
        case "income":
            return [round(float(value) * float(np.exp(0.7 * 0.35)), 2) for value in column.astype(float)]
        case "amount":
            return [round(float(value) * 100, 2) for value in column.astype(float)]
        case "plan":
            return ["student" if h < 0.08 else value for value, h in zip(values, hit, strict=True)]
    return values


def _encode(
    model: DemoModel, hour: int, times: NDArray[np.int64], values: Mapping[str, list[object]], version: str
) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    role = "value" if model.task == "regression" else "score"
    names = [name for name in values if name != role]
    rows = zip(*(values[name] for name in names), strict=True)
    for place, (row, said, time_ms) in enumerate(zip(rows, values[role], times.tolist(), strict=True)):
        yield encode(
            {
                "type": "prediction", "model": model.name, "version": version, "id": f"{model.name}-{hour}-{place}", "ts": time_ms,
                "features": dict(zip(names, row, strict=True)), "prediction": {role: said},
            }
        )  # fmt: skip


def _number(model: DemoModel) -> int:
    return [other.name for other in MODELS].index(model.name)
