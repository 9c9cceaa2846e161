from __future__ import annotations

import dataclasses
import json
import math
import statistics
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from detectors.columns import CategoryColumn, Column, NumericColumn
from detectors.drift.grouping import psi
from detectors.profile import encode, fold
from detectors.reference.build import (
    Reference,
    ReferenceRefused,
    ReferenceSettings,
    ReferenceTable,
    build_reference,
    decode_reference,
    encode_reference,
    reference_hash,
)
from detectors.reference.dispersion import block_bounds

BINARY = ReferenceSettings(task="binary", positive_label="leave", order="time")


def table(rows: int = 3000, seed: int = 1, **changes: object) -> ReferenceTable:
    rng = np.random.default_rng(seed)
    score = rng.random(rows)
    income = rng.normal(size=rows)
    income[rng.random(rows) < 0.05] = np.nan
    features: dict[str, Column] = {
        "income": NumericColumn(income),
        "country": CategoryColumn(rng.choice(["DE", "FR", "IT"], rows, p=[0.6, 0.3, 0.1]).tolist()),
        "children": CategoryColumn(rng.integers(0, 4, rows).tolist()),
        "fixed": NumericColumn(np.full(rows, 7.0)),
    }
    made = ReferenceTable(
        rows=rows,
        features=features,
        score=NumericColumn(score),
        label_predicted=CategoryColumn(["leave" if s > 0.5 else "stay" for s in score.tolist()]),
    )
    return dataclasses.replace(made, **changes)


def with_feature(made: ReferenceTable, **columns: Column) -> ReferenceTable:
    return dataclasses.replace(made, features={**made.features, **columns})


def replaced(column: NumericColumn, row: int, value: float) -> NumericColumn:
    values = column.values.copy()
    values[row] = value
    return NumericColumn(values, column.status)


def test_layout_holds_features_by_name_and_then_what_the_model_said() -> None:
    scores = {name: NumericColumn(np.linspace(0, 1, 3000)) for name in ("b", "a")}
    built = build_reference(table(scores=scores, value=NumericColumn(np.full(3000, np.nan))), BINARY)
    assert [(s.name, s.role) for s in built.layout.subjects] == [
        ("children", "feature"),
        ("country", "feature"),
        ("fixed", "feature"),
        ("income", "feature"),
        ("score", "score"),
        ("label", "label"),
        ("scores.a", "scores"),
        ("scores.b", "scores"),
    ]
    assert built.layout.subjects[4].bins.count > 256
    assert built.constants == {"fixed"}
    assert built.constant.tolist() == [False, False, True, False, False, False, False, False]


def test_profile_is_the_fold_of_the_table() -> None:
    made = table()
    built = build_reference(made, BINARY)
    columns = [made.features[name] for name in sorted(made.features)] + [made.score, made.label_predicted]
    assert encode(built.profile) == encode(fold(built.layout, columns))
    assert built.rows == 3000


# hash


def test_hash_does_not_see_how_the_same_content_was_stored() -> None:
    exact = [0.1, 2.5, 1e-7, 16777216.0, 0.0] * 20
    from_float32 = np.array([float(str(x)) for x in np.array(exact, dtype=np.float32)])  # as the table reader does
    from_text = np.array([float(cell) for cell in ["0.1", "2.5", "1e-07", "16777216", "-0.0"] * 20])
    dictionary = ["DE", "FR"]
    encoded = [dictionary[code] for code in [0, 1, 1, 0] * 25]
    plain = [" DE".strip(), "FR", "FR", "DE"] * 25
    one = ReferenceTable(
        rows=100,
        features={
            "x": NumericColumn(from_float32),
            "c": CategoryColumn(encoded),
            "n": CategoryColumn([1, 2.0, None, 3] * 25),
        },
    )
    nulls = np.array([0] * 100, np.uint8)
    other = ReferenceTable(
        rows=100,
        features={
            "n": CategoryColumn(["1", "2", None, 3.0] * 25),
            "c": CategoryColumn(tuple(plain)),
            "x": NumericColumn(from_text, nulls),
        },
    )
    assert reference_hash(one, BINARY) == reference_hash(other, BINARY)


def test_hash_of_one_nan_is_that_of_any_nan() -> None:
    strange = np.array([1.0, 0.0])
    strange.view(np.uint64)[1] = 0x7FF8_0000_0000_0001
    assert math.isnan(strange[1])
    tables = [
        ReferenceTable(rows=2, features={"x": NumericColumn(values, status)})
        for values in (strange, np.array([1.0, np.nan]))
        for status in (None, np.array([0, 1], np.uint8))
    ]
    assert len({reference_hash(one, BINARY) for one in tables}) == 1


CHANGES: dict[str, Callable[[ReferenceTable], ReferenceTable]] = {
    "one value": lambda t: with_feature(t, income=replaced(t.features["income"], 17, 0.25)),
    "null for nan": lambda t: with_feature(
        t, income=NumericColumn(t.features["income"].values, np.isnan(t.features["income"].values).astype(np.uint8) * 2)
    ),
    "row order": lambda t: with_feature(t, income=NumericColumn(t.features["income"].values[::-1].copy())),
    "one category": lambda t: with_feature(t, country=CategoryColumn(["AT", *t.features["country"].values[1:]])),
    "a feature's name": lambda t: dataclasses.replace(
        t, features={("land" if n == "country" else n): c for n, c in t.features.items()}
    ),
    "kind": lambda t: with_feature(t, fixed=CategoryColumn([7] * 3000)),
    "a score": lambda t: dataclasses.replace(t, score=replaced(t.score, 3, 0.5)),
    "timestamps": lambda t: dataclasses.replace(t, times_ms=np.arange(3000)),
    "a role instead of another": lambda t: dataclasses.replace(t, value=t.score, score=None),
    "an array column": lambda t: dataclasses.replace(t, arrays=frozenset({"embedding"})),
    "a label": lambda t: dataclasses.replace(t, label=t.label_predicted),
}


@pytest.mark.parametrize("change", CHANGES)
def test_hash_sees(change: str) -> None:
    made = table()
    assert reference_hash(CHANGES[change](made), BINARY) != reference_hash(made, BINARY)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("task", "multiclass"),
        ("positive_label", "stay"),
        ("order", "unknown"),
        ("kinds", {"income": "numeric"}),
        ("ranges", {"income": (0.0, 1.0)}),
        ("columns", {"score": "p"}),
        ("segments", ("country",)),
        ("decision_threshold", 0.7),
    ],
)
def test_hash_sees_every_setting_that_may_change_a_count(setting: str, value: object) -> None:
    changed = dataclasses.replace(BINARY, **{setting: value})
    assert reference_hash(table(), changed) != reference_hash(table(), BINARY)


def test_hash_does_not_see_classes_which_the_table_itself_says() -> None:
    changed = dataclasses.replace(BINARY, classes=("leave", "stay"))
    assert reference_hash(table(), changed) == reference_hash(table(), BINARY)


def test_hash_sees_weights_and_a_table_without_them_has_the_hash_it_had() -> None:
    one = dataclasses.replace(table(), weight=NumericColumn(np.full(table().rows, 1.0)))
    two = dataclasses.replace(table(), weight=NumericColumn(np.full(table().rows, 2.0)))
    assert len({reference_hash(t, BINARY) for t in (table(), one, two)}) == 3


def test_hash_of_this_format_stays() -> None:
    small = ReferenceTable(
        rows=2,
        features={"x": NumericColumn(np.array([1.5, np.nan])), "c": CategoryColumn(["é", None])},
        times_ms=np.array([1, 2]),
    )
    assert reference_hash(small, BINARY) == "64db448902423daf660a6332f384aa83bf796357927d3a4e78cefa75b26034a3"


# blocks and dispersion


@pytest.mark.parametrize(
    ("rows", "blocks"), [(100, 0), (1499, 0), (1500, 30), (29_999, 30), (30_000, 60), (1_000_000, 60)]
)
def test_blocks_are_equal_runs(rows: int, blocks: int) -> None:
    bounds = block_bounds(rows)
    assert max(0, len(bounds) - 1) == blocks
    if blocks:
        sizes = np.diff(bounds)
        assert (bounds[0], bounds[-1]) == (0, rows)
        assert sizes.max() - sizes.min() <= 1


def swinging(rows: int = 6000) -> ReferenceTable:
    rng = np.random.default_rng(8)
    season = np.sin(np.arange(rows) / rows * 40 * math.pi)
    nulls = rng.random(rows) < 0.1 * (1 + season)
    made = table(rows)
    return with_feature(
        made,
        season=NumericColumn(season + rng.normal(size=rows)),
        holes=NumericColumn(np.where(nulls, np.nan, rng.normal(size=rows))),
    )


def test_dispersion_is_the_formula() -> None:
    made = swinging()
    built = build_reference(made, BINARY)
    assert (built.ordered, built.blocks) == (True, 30)
    columns = [made.features[name] for name in sorted(made.features)] + [made.score, made.label_predicted]
    for target in (10, 32):
        groups = built.grouped(target)
        for i in range(len(built.layout.subjects)):
            place = built.layout.bins_of(i)
            of_bin = groups.cells[place] - i * target
            count = int(groups.groups[i])
            whole = np.bincount(of_bin, weights=built.profile.counts[place], minlength=count)
            values, inverse = [], []
            for k in range(30):
                rows = np.arange(k * 6000 // 30, (k + 1) * 6000 // 30)
                counts = fold(built.layout, columns, rows).counts[place]
                values.append(float(psi(whole, np.bincount(of_bin, weights=counts, minlength=count))))
                inverse.append(1 / counts.sum())
            s = statistics.fmean(inverse) + 1 / whole.sum()
            phi, nu = built.dispersion[target].phi[i], built.dispersion[target].nu[i]
            if count == 1:
                assert (phi, nu) == (1, 1)
                continue
            mean = statistics.fmean(values)
            a = statistics.variance(values) / (2 * mean)
            if a <= s * (1 + ((2 + 12 / (count - 1)) / 30) ** 0.5):
                a = s
            assert phi == pytest.approx(a / s, rel=1e-9)
            assert nu == pytest.approx(min(max(mean / a, 1), count - 1), rel=1e-9)
            assert built.dispersion[target].known[i]


def test_a_season_raises_phi_and_steady_rows_do_not() -> None:
    built = build_reference(swinging(), BINARY)
    names = [subject.name for subject in built.layout.subjects]
    phi = built.dispersion[10].phi
    assert phi[names.index("season")] > 2
    assert phi[names.index("country")] < 1.8
    assert (phi >= 1).all()
    missing = built.share_phi[:, 0]
    assert missing[names.index("holes")] > 1.8
    assert missing[names.index("income")] < 1.8
    assert missing[names.index("country")] == 1


def test_share_phi_is_the_formula() -> None:
    made = swinging()
    built = build_reference(made, BINARY)
    i = [subject.name for subject in built.layout.subjects].index("holes")
    missing = np.isnan(made.features["holes"].values).reshape(30, 200).mean(axis=1).tolist()
    p = statistics.fmean(missing)
    assert built.share_phi[i, 0] == pytest.approx(statistics.variance(missing) / (p * (1 - p) / 200), rel=1e-9)


def test_timestamps_give_the_order_whatever_the_order_of_rows() -> None:
    made = swinging()
    timed = dataclasses.replace(made, times_ms=np.arange(made.rows) * 1000)
    mixed = np.random.default_rng(4).permutation(made.rows)
    assert timed.times_ms is not None

    def taken(column: Column) -> Column:
        if isinstance(column, NumericColumn):
            return NumericColumn(column.values[mixed])
        return CategoryColumn([column.values[i] for i in mixed.tolist()])

    shuffled = dataclasses.replace(
        timed,
        features={name: taken(column) for name, column in timed.features.items()},
        times_ms=timed.times_ms[mixed],
        score=taken(timed.score),
        label_predicted=taken(timed.label_predicted),
    )
    unknown = dataclasses.replace(BINARY, order="unknown")
    a, b = build_reference(timed, unknown), build_reference(shuffled, unknown)
    assert a.ordered
    assert np.array_equal(a.dispersion[32].phi, b.dispersion[32].phi)
    unaware = build_reference(dataclasses.replace(shuffled, times_ms=None), BINARY)
    assert a.dispersion[10].phi.max() > 2 > unaware.dispersion[10].phi.max()


def test_without_order_or_with_too_few_rows_nothing_is_known() -> None:
    unknown = build_reference(table(), dataclasses.replace(BINARY, order="unknown"))
    few = build_reference(table(1499), BINARY)
    for built, word in ((unknown, "order: time"), (few, "too few for 30 blocks")):
        assert not built.ordered
        assert built.blocks == 0
        assert not built.dispersion[10].known.any()
        assert (built.dispersion[10].phi == 1).all()
        assert built.dispersion[10].nu.tolist() == np.maximum(built.grouped(10).groups - 1, 1).tolist()
        assert any(word in warning for warning in built.warnings)


def test_a_subject_with_few_values_is_not_known() -> None:
    values = np.full(3000, np.nan)
    values[::20] = np.arange(150) % 7
    built = build_reference(with_feature(table(), rare=NumericColumn(values)), BINARY)
    i = [subject.name for subject in built.layout.subjects].index("rare")
    assert np.flatnonzero(~built.dispersion[10].known).tolist() == [i]
    assert any(warning.startswith("rare has too few values") for warning in built.warnings)


# exclusion


def test_columns_that_cannot_be_features_are_left_out_with_the_reason() -> None:
    rows = 3000
    rng = np.random.default_rng(6)
    made = with_feature(
        table(rows, arrays=frozenset({"embedding"})),
        order_id=CategoryColumn([f"ord-{i}" for i in rng.permutation(rows).tolist()]),
        many=CategoryColumn([f"m{i}" for i in rng.integers(0, 9000, rows).tolist()]),
        cities=CategoryColumn([f"m{i}" for i in rng.integers(0, 300, rows).tolist()]),
        row_number=NumericColumn(np.arange(rows, dtype=np.float64)),
        days=NumericColumn(np.arange(rows) // 100 + 0.5),
        day=CategoryColumn([f"2026-01-{1 + i // 100:02d}" for i in range(rows)]),
        nothing=NumericColumn(np.full(rows, np.nan)),
        blank=CategoryColumn([None] * rows),
    )
    built = build_reference(made, BINARY)
    reasons = {name: reason.split(":")[0] for name, reason in built.excluded.items()}
    assert reasons == {
        "blank": "has no value in the reference",
        "day": "only grows with time",
        "days": "only grows with time",
        "embedding": "holds arrays",
        "nothing": "has no value in the reference",
        "order_id": "is near-unique text",
        "row_number": "only grows with time",
        "many": "is near-unique text",
    }
    assert not {subject.name for subject in built.layout.subjects} & set(built.excluded)
    unordered = build_reference(made, dataclasses.replace(BINARY, order="unknown"))
    assert unordered.excluded["row_number"].startswith("counts the rows")
    assert not {"day", "days"} & set(unordered.excluded)


def test_a_column_whose_kind_is_configured_stays() -> None:
    rows = 3000
    made = with_feature(
        table(rows),
        row_number=NumericColumn(np.arange(rows, dtype=np.float64)),
        order_id=CategoryColumn([f"ord-{i}" for i in range(rows)]),
    )
    kinds = {"row_number": "numeric", "order_id": "categorical"}
    assert build_reference(made, dataclasses.replace(BINARY, kinds=kinds)).excluded == {}


def test_configured_ranges_reach_the_bins() -> None:
    built = build_reference(table(), dataclasses.replace(BINARY, ranges={"income": (-100.0, 1.0)}))
    i = [subject.name for subject in built.layout.subjects].index("income")
    outside = built.layout.outside & (built.layout.subject_of == i)
    values = table().features["income"].values
    assert built.profile.counts[outside].sum() == (values > 1.0).sum()


# self-check


def test_a_large_steady_reference_has_no_warnings() -> None:
    assert build_reference(table(12_000), BINARY).warnings == ()


def test_a_small_reference_says_so() -> None:
    assert any("3000 rows" in warning for warning in build_reference(table(3000), BINARY).warnings)


def test_a_reference_that_drifts_in_itself_names_what_drifts() -> None:
    rows = 12_000
    values = np.random.default_rng(2).normal(size=rows) + np.where(np.arange(rows) < rows / 2, 0, 0.4)
    warnings = build_reference(with_feature(table(rows), moving=NumericColumn(values)), BINARY).warnings
    assert len(warnings) == 1
    assert warnings[0].startswith("moving drifts in the reference itself")


def test_scores_that_rank_their_own_labels_backwards_are_refused() -> None:
    made = table()
    with pytest.raises(ReferenceRefused, match="backwards"):
        build_reference(dataclasses.replace(made, score=NumericColumn(1 - made.score.values)), BINARY)
    with pytest.raises(ReferenceRefused, match="backwards"):
        build_reference(made, dataclasses.replace(BINARY, positive_label="stay"))


def test_scores_that_rank_what_happened_backwards_are_a_warning() -> None:
    made = table(12_000)
    happened = CategoryColumn(["stay" if s > 0.5 else "leave" for s in made.score.values.tolist()])
    built = build_reference(dataclasses.replace(made, label=happened), BINARY)
    assert any("what happened backwards" in warning for warning in built.warnings)


def test_tables_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(ReferenceRefused, match="no rows"):
        build_reference(ReferenceTable(rows=0, features={}), BINARY)
    with pytest.raises(ReferenceRefused, match="no column"):
        build_reference(ReferenceTable(rows=3, features={"x": CategoryColumn([None] * 3)}), BINARY)
    with pytest.raises(ReferenceRefused, match="length"):
        build_reference(table(times_ms=np.zeros(5, np.int64)), BINARY)


def test_tiny_references_work() -> None:
    made = ReferenceTable(rows=1, features={"x": NumericColumn(np.array([3.0])), "c": CategoryColumn(["a"])})
    built = build_reference(made, BINARY)
    assert built.constants == {"x", "c"}
    assert built.profile.rows == 1


# codec


def whole() -> Reference:
    made = with_feature(table(arrays=frozenset({"v"})), edge=NumericColumn(np.full(3000, np.finfo(np.float64).max)))
    settings = dataclasses.replace(
        BINARY,
        kinds={"income": "numeric"},
        ranges={"income": (0.1, math.inf)},
        columns={"weight": None, "score": "p"},
        segments=("country",),
        classes=("leave", "stay"),
        decision_threshold=0.3,
    )
    return build_reference(made, settings)


def test_codec_gives_back_the_same_reference() -> None:
    built = whole()
    back = decode_reference(encode_reference(built))
    for name in ("hash", "rows", "settings", "excluded", "ordered", "blocks", "warnings", "constants"):
        assert getattr(back, name) == getattr(built, name), name
    assert encode(back.profile) == encode(built.profile)
    assert np.array_equal(back.share_phi, built.share_phi)
    assert np.array_equal(back.constant, built.constant)
    for a, b in zip(back.layout.subjects, built.layout.subjects, strict=True):
        assert (a.name, a.role, a.bins.count) == (b.name, b.role, b.bins.count)
    for a, b in zip(back.layout.keys, built.layout.keys, strict=True):
        assert a.tobytes() == b.tobytes()
    assert np.array_equal(back.layout.outside, built.layout.outside)
    for target in (10, 32):
        assert np.array_equal(back.grouped(target).cells, built.grouped(target).cells)
        for name in ("phi", "nu", "known"):
            assert np.array_equal(getattr(back.dispersion[target], name), getattr(built.dispersion[target], name))
    assert encode_reference(back) == encode_reference(built)


def test_damaged_or_foreign_references_are_refused() -> None:
    good = encode_reference(whole())
    content = json.loads(zlib.decompress(good))
    later = zlib.compress(json.dumps({**content, "format": 2}).encode())
    without = zlib.compress(json.dumps({k: v for k, v in content.items() if k != "profile"}).encode())
    other = zlib.compress(json.dumps({**content, "subjects": content["subjects"][1:]}).encode())
    for bad in (b"", good[:-1], good[:50] + b"\0" + good[51:], later, without, other, zlib.compress(b"[]")):
        with pytest.raises(ValueError):
            decode_reference(bad)
