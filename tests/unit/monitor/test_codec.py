from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.columns import ABSENT, INVALID, NAN, CategoryColumn, NumericColumn, Status
from monitor.decoding.codec import Codec, EventSchema, FeatureSchema, Limits, label_number, long_text_hash
from monitor.decoding.events import Reason
from monitor.decoding.labels import normalise_label

T = 1_795_420_800_000  # 2026-11-23T08:00:00Z
CHURN = EventSchema(
    model="churn",
    task="binary",
    features=(
        FeatureSchema("age", "numeric"),
        FeatureSchema("country", "categorical"),
        FeatureSchema("member", "boolean"),
        FeatureSchema("größe in cm", "numeric"),
    ),
    label_map={"true": "leave"},
)
PRICE = EventSchema(model="price", task="regression", features=(FeatureSchema("age", "numeric"),))
STEPS = EventSchema(
    model="steps", task="multiclass", features=(), classes=("stay", "1", "leave"), label_map={"true": "leave"}
)
SCHEMAS = {schema.model: schema for schema in (CHURN, PRICE, STEPS)}
BASE = {
    "type": "prediction",
    "model": "churn",
    "version": "7",
    "id": "ord-1",
    "ts": "2026-11-23T08:00:00.120Z",
    "features": {"age": 34, "country": "DE", "member": True, "größe in cm": 181.5},
    "prediction": {"label": "stay", "score": 0.19},
}
OUTCOME = {"type": "outcome", "model": "churn", "id": "ord-1", "ts": "2026-12-02T00:00:00Z", "label": "leave"}


def codec(**limits):
    return Codec(SCHEMAS, Limits(**limits))


def event(**changes):
    return json.dumps({**BASE, **changes}, ensure_ascii=False).encode()


def outcome(**changes):
    return json.dumps({**OUTCOME, **changes}).encode()


def without(field, base=BASE):
    return json.dumps({key: value for key, value in base.items() if key != field}).encode()


def raw(**fragments):
    """The base event with features given as JSON text."""
    inner = ",".join(f"{json.dumps(name)}:{text}" for name, text in fragments.items())
    head = json.dumps({key: value for key, value in BASE.items() if key != "features"})[:-1]
    return f'{head},"features":{{{inner}}}}}'.encode()


def one(value, hint="churn", **kw):
    block = codec().decode(hint, [value], **kw)
    assert not block.rejected, block.rejected
    (batch,) = [*block.predictions, *block.outcomes]
    assert len(batch) == 1
    return batch


def cell(column):
    """What a one-row column holds, told apart from every other state."""
    if isinstance(column, CategoryColumn):
        return column.values[0]
    if column.status is None:
        return None if math.isnan(column.values[0]) else float(column.values[0])
    states = {Status.MISSING: None, Status.NAN: NAN, Status.ABSENT: ABSENT, Status.INVALID: INVALID}
    return states.get(Status(column.status[0]), float(column.values[0]))


def reason(value, hint="churn", timestamps_ms=None):
    """The reason is the same however the record comes in; the good records beside it stay."""
    good = event(id="good")
    found = set()
    for c, model in ((codec(), hint), (codec(), None), (codec(), "price"), (in_wide_mode(), hint)):
        stamps = [T, timestamps_ms, T] if timestamps_ms is not None else None
        block = c.decode(model, [good, value, good], stamps)
        assert [r.row for r in block.rejected] == [1], block
        assert [b.rows.tolist() for b in block.predictions] == [[0, 2]]
        assert block.unconfigured == []
        found.add((block.rejected[0].reason, block.rejected[0].detail))
    ((why, detail),) = found
    assert len(detail) < 120
    return why, detail


def in_wide_mode():
    c = codec()
    for _ in range(2):
        c.decode("churn", [raw(age='"x"')] * 20)
    assert c._decoders["churn"]._wide_blocks > 0
    return c


def test_a_prediction_becomes_a_row_of_columns():
    batch = one(event())
    assert batch.model == "churn"
    assert (list(batch.ids), list(batch.versions), batch.times_ms.tolist()) == (["ord-1"], ["7"], [T + 120])
    assert batch.times_ms.dtype == batch.rows.dtype == np.int64
    assert [cell(c) for c in batch.features] == [34.0, "DE", "true", 181.5]
    assert cell(batch.score) == 0.19
    assert cell(batch.label) == "stay"
    assert cell(batch.value) is None
    assert batch.scores == ()


def test_an_outcome_becomes_a_row_of_columns():
    batch = one(outcome(version="8", value=3))
    assert (list(batch.ids), list(batch.versions), batch.labels, batch.values.tolist()) == (
        ["ord-1"],
        ["8"],
        ["leave"],
        [3.0],
    )
    assert list(one(outcome()).versions) == [""]
    assert math.isnan(one(outcome()).values[0])
    assert one(outcome(label=None, value=1.5)).labels == [None]


def test_predictions_and_outcomes_of_a_block_keep_their_rows():
    block = codec().decode("churn", [event(), outcome(), None, b"{", event(id="b"), outcome(id="c")])
    assert block.predictions[0].rows.tolist() == [0, 4]
    assert block.outcomes[0].rows.tolist() == [1, 5]
    assert list(block.outcomes[0].ids) == ["ord-1", "c"]
    assert [r.row for r in block.rejected] == [3]


def test_empty_blocks_and_null_values_yield_nothing():
    for values in ([], [None], [None, None]):
        for hint in ("churn", None):
            block = codec().decode(hint, values)
            assert (list(block.predictions), list(block.outcomes), list(block.rejected)) == ([], [], [])


NUMERIC = {
    "1": 1.0, "1.5": 1.5, "-0": 0.0, "1e3": 1000.0, "9223372036854775808": 2.0**63, "12345678901234567890": 12345678901234567890.0,
    "1" + "0" * 300: 1e300, "null": None, "NaN": NAN, "Infinity": INVALID, "-Infinity": INVALID, "1e999": INVALID, "-1e999": INVALID,
    "1" + "0" * 320: INVALID, "9" * 5000: INVALID, "true": INVALID, "false": INVALID, '"12"': INVALID, '"NaN"': INVALID, '""': INVALID,
    "[]": INVALID, "[1]": INVALID, "{}": INVALID, '{"a":{"b":1}}': INVALID, '"\\u0000"': INVALID, '"\\ud800"': INVALID,
}  # fmt: skip
CATEGORICAL = {
    '"DE"': "DE", '""': "", "1": 1, "1.0": 1.0, "-0.5": -0.5, "9223372036854775807": 2**63 - 1, "12345678901234567890": 12345678901234567890,
    "null": None, "true": "true", "false": "false", "NaN": NAN, "Infinity": INVALID, "-Infinity": INVALID, "1e999": INVALID,
    "9" * 400: INVALID, "9" * 5000: INVALID, "[]": INVALID, "{}": INVALID, '["NaN"]': INVALID, '"\\u0000"': INVALID, '"a\\u0000b"': INVALID,
    '"\\ud800"': INVALID, '"\\ud83d\\ude00"': "\U0001f600", '"\\\\u0000"': "\\u0000", '"NaN"': "NaN", '"größer"': "größer", '"a, NaN"': "a, NaN",
}  # fmt: skip
BOOLEAN = {
    "true": "true",
    "false": "false",
    "null": None,
    "1": 1,
    "0": 0,
    '"yes"': "yes",
    "[]": INVALID,
    "NaN": NAN,
    '"\\u0000"': INVALID,
}
CELLS = [
    *[("age", text, expected) for text, expected in NUMERIC.items()],
    *[("country", text, expected) for text, expected in CATEGORICAL.items()],
    *[("member", text, expected) for text, expected in BOOLEAN.items()],
]


@pytest.mark.parametrize(("name", "text", "expected"), CELLS, ids=lambda v: str(v)[:30])
def test_a_feature_cell_is_its_value_or_the_reason_for_having_none(name, text, expected):
    index = ["age", "country", "member"].index(name)
    other = 1 if index == 0 else 0
    good = raw(age="7", country='"AT"', member="false")
    values = [good, raw(**{"age": "7", "country": '"AT"', "member": "false", name: text}), good]
    for c in (codec(), in_wide_mode()):
        (batch,) = c.decode("churn", values).predictions
        assert len(batch) == 3
        column = batch.features[index]
        middle = (
            NumericColumn(column.values[1:2], None if column.status is None else column.status[1:2])
            if isinstance(column, NumericColumn)
            else CategoryColumn(column.values[1:2])
        )
        got = cell(middle)
        assert got is expected or (got == expected and type(got) is type(expected))
        for row in (0, 2):
            assert batch.features[0].values[row] == 7.0
            assert batch.features[1].values[row] == "AT"
            assert batch.features[2].values[row] == "false"
        assert list(batch.features[other].values) == ([7.0] * 3 if other == 0 else ["AT"] * 3)


def test_absent_keys_are_absent_and_not_null():
    assert [cell(c) for c in one(raw(country="null")).features] == [ABSENT, None, ABSENT, ABSENT]
    assert [cell(c) for c in one(without("features")).features] == [ABSENT] * 4


def test_a_column_tells_all_its_states_apart():
    values = [raw(age=text) for text in ("1", "null", "NaN", '"x"')] + [raw()]
    (batch,) = codec().decode("churn", values).predictions
    age = batch.features[0]
    assert age.status.tolist() == [Status.VALUE, Status.MISSING, Status.NAN, Status.INVALID, Status.ABSENT]
    assert age.values[0] == 1.0
    assert np.isnan(age.values[1:]).all()


def test_several_wrong_values_in_one_record_leave_its_other_values():
    batch = one(raw(**{"age": '"x"', "country": "[1]", "member": "true", "größe in cm": "NaN"}))
    assert [cell(c) for c in batch.features] == [INVALID, INVALID, "true", NAN]


def test_of_duplicate_keys_the_last_wins():
    value = raw(age="1").replace(b'"age":1', b'"age":1,"age":2')
    assert cell(one(value).features[0]) == 2.0
    assert cell(one(value.replace(b'"age":1', b'"age":"x"')).features[0]) == 2.0
    assert list(one(event().replace(b'"id": "ord-1"', b'"id": "a", "id": "b"')).ids) == ["b"]
    doubled = event().replace(b'"model": "churn"', b'"model": "price", "model": "churn"')
    assert one(doubled).model == one(doubled, hint="price").model == "churn"


def test_long_categories_are_counted_by_their_hash():
    assert cell(one(event(features={"country": "x" * 1024})).features[1]) == "x" * 1024
    for c in (codec(), in_wide_mode()):
        (batch,) = c.decode("churn", [event(features={"country": "ö" * 1025}), event()]).predictions
        assert batch.features[1].values[0] == long_text_hash("ö" * 1025)
        assert batch.features[1].values[1] == "DE"


def test_a_segment_is_the_feature_of_its_name_where_features_lack_it():
    segment = {"country": "AT", "age": "old", "region": "EU"}
    assert [cell(c) for c in one(event(features={}, segment=segment)).features] == [INVALID, "AT", ABSENT, ABSENT]
    assert [cell(c) for c in one(event(segment=segment)).features] == [34.0, "DE", "true", 181.5]
    assert cell(one(event(features={"country": None}, segment=segment)).features[1]) is None


@pytest.mark.parametrize(
    ("prediction", "label", "score", "value"),
    [
        ({}, None, None, None),
        ({"label": 1}, "1", None, None),
        ({"label": 1.0}, "1", None, None),
        ({"label": "1"}, "1", None, None),
        ({"label": "1.0e0"}, "1", None, None),
        ({"label": True, "score": 1}, "leave", 1.0, None),
        ({"label": "true", "score": 0}, "leave", 0.0, None),
        ({"label": False}, "false", None, None),
        ({"label": None, "score": None, "value": None, "scores": None}, None, None, None),
        ({"value": -12.5}, None, None, -12.5),
    ],
)
def test_predictions_are_read_and_labels_normalised(prediction, label, score, value):
    batch = one(event(prediction=prediction))
    assert (cell(batch.label), cell(batch.score), cell(batch.value)) == (label, score, value)


def test_class_scores_become_columns_in_the_order_of_the_classes():
    scores = [{"stay": 0.5, "1.0": 0.2, "true": 0.3}, {"stay": 1, "leave": 0}, {"elsewhere": 0.5}, None]
    values = [event(model="steps", prediction={"scores": s}) for s in scores]
    (batch,) = codec().decode("steps", values).predictions
    assert batch.classes == STEPS.classes
    got = [column.values.tolist() for column in batch.scores]
    np.testing.assert_equal(
        got, [[0.5, 1.0, np.nan, np.nan], [0.2, np.nan, np.nan, np.nan], [0.3, 0.0, np.nan, np.nan]]
    )


def test_regression_labels_are_numbers():
    assert one(outcome(model="price", label="12.5"), hint="price").labels == [12.5]
    assert one(outcome(model="price", label=3), hint="price").labels == [3.0]
    for label in ("dear", True, "NaN", "1e999"):
        assert reason(outcome(model="price", label=label))[0] == Reason.SCHEMA_VIOLATION


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"), (1.0, "1"), ("1", "1"), ("1.0", "1"), (True, "true"), ("true", "true"), (0.5, "0.5"), ("0.50", "0.5"), ("5e-1", "0.5"),
        ("-0", "0"), (-0.0, "0"), ("01", "01"), ("+1", "+1"), (" 1", " 1"), ("1e999", "1e999"), ("NaN", "NaN"), ("True", "True"), ("", ""),
        ("9" * 400, "9" * 400), ("12345678901234567890", "12345678901234567890"), ("١", "١"),
    ],
)  # fmt: skip
def test_normalised_labels(value, text):
    assert normalise_label(value) == text


def test_label_numbers():
    assert [label_number(v) for v in (1, "1.5", None, True, "x", "1e999")] == [1.0, 1.5, None, None, None, None]


BAD = Reason
REJECTED = [
    (b"", BAD.BAD_JSON),
    (b"  ", BAD.BAD_JSON),
    (b"{", BAD.BAD_JSON),
    (event()[:-20], BAD.BAD_JSON),
    (event() + event(), BAD.BAD_JSON),
    (event() + b"x", BAD.BAD_JSON),
    (event().replace(b"34", b"034"), BAD.BAD_JSON),
    (event().replace(b"34", b"nan"), BAD.BAD_JSON),
    (event().replace(b"DE", b"a\x00b"), BAD.BAD_JSON),
    (event().replace(b"DE", b"a\nb"), BAD.BAD_JSON),
    (b'{"type":"prediction","id":"\\ud800"', BAD.BAD_JSON),
    (b"\xef\xbb\xbf" + event(), BAD.BAD_ENCODING),
    ("\ufeff{".encode(), BAD.BAD_ENCODING),
    (event().replace(b"DE", b"\xff"), BAD.BAD_ENCODING),
    (event().replace(b'"type"', b'"unknown":"\xc3", "type"'), BAD.BAD_ENCODING),
    (event().decode().encode("utf-16"), BAD.BAD_ENCODING),
    *[
        (make(**{field: text}), BAD.BAD_ENCODING)
        for text in ("a\0", "\ud800")
        for make, field in ((lambda **k: json.dumps({**BASE, **k}).encode(), "id"), (outcome, "id"), (outcome, "label"), (outcome, "version"))
    ],
    *[(json.dumps({**BASE, field: "a\0"}).encode(), BAD.BAD_ENCODING) for field in ("model", "version")],
    (json.dumps({**BASE, "model": "\udc00"}).encode(), BAD.BAD_ENCODING),
    (json.dumps({**BASE, "prediction": {"label": "\0"}}).encode(), BAD.BAD_ENCODING),
    (b"[" * 5000, BAD.TOO_DEEP),
    (b'{"a":' * 2000, BAD.TOO_DEEP),
    (event().replace(b'"type"', b'"deep":' + b"[" * 5000 + b"]" * 5000 + b',"type"'), BAD.TOO_DEEP),
    (event(id="x" * 300_000), BAD.TOO_LARGE),
    (b"\xff" * 300_000, BAD.TOO_LARGE),
    *[(text, BAD.SCHEMA_VIOLATION) for text in (b"null", b"[]", b"42", b'"x"', b"true", b"{}", b'{"type":"prediction"}', b"NaN")],
    *[(without(field), BAD.SCHEMA_VIOLATION) for field in ("type", "model", "id", "ts", "prediction")],
    *[(without(field, OUTCOME), BAD.SCHEMA_VIOLATION) for field in ("type", "model", "id", "ts", "label")],
    *[(event(type=x), BAD.SCHEMA_VIOLATION) for x in ("predictoin", "", None, 1, ["prediction"])],
    *[(event(model=x), BAD.SCHEMA_VIOLATION) for x in (None, "", 1, {"a": 1}, "m" * 257)],
    *[(event(id=x), BAD.SCHEMA_VIOLATION) for x in (None, "", 1, True, ["a"], "i" * 257)],
    *[(event(version=x), BAD.SCHEMA_VIOLATION) for x in (7, 7.5, True, ["7"], "v" * 257)],
    *[(event(features=x), BAD.SCHEMA_VIOLATION) for x in (None, [1, 2], "x", 1)],
    *[(event(segment=x), BAD.SCHEMA_VIOLATION) for x in ([1], "x", 1)],
    *[(event(weight=x), BAD.SCHEMA_VIOLATION) for x in (-1, "1", True, math.nan, math.inf, [1])],
    *[(event(prediction=x), BAD.SCHEMA_VIOLATION) for x in (None, 7, "stay", [0.5])],
    *[(event(prediction={"score": x}), BAD.SCHEMA_VIOLATION) for x in ("high", "0.5", True, -0.1, 1.01, math.nan, math.inf, [0.5])],
    *[(event(prediction={"value": x}), BAD.SCHEMA_VIOLATION) for x in ("1", True, math.nan, -math.inf, {})],
    *[(event(prediction={"label": x}), BAD.SCHEMA_VIOLATION) for x in (["stay"], {}, math.nan, 2**63, "l" * 257)],
    *[(event(prediction={"scores": x}), BAD.SCHEMA_VIOLATION) for x in ([1], 1, {"a": 2}, {"a": "1"}, {"a": math.nan})],
    (event().replace(b"0.19", b"1e999"), BAD.SCHEMA_VIOLATION),
    *[(outcome(label=x), BAD.SCHEMA_VIOLATION) for x in (None, ["a"], {}, math.nan, math.inf)],
    *[(outcome(value=x), BAD.SCHEMA_VIOLATION) for x in ("1", True, math.nan, [1])],
    *[
        (make(ts=x), BAD.BAD_TIMESTAMP)
        for make in (event, outcome)
        for x in ("yesterday", "", None, True, False, [1], {}, -1, 0, 1.5, math.nan, "1970-01-01T00:00:00Z", "1999-12-31T23:59:59.999Z", T // 1000, T * 1000)
    ],
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), REJECTED, ids=lambda v: repr(v)[:60])
def test_what_is_no_event_is_rejected_for_its_reason(value, expected):
    why, _ = reason(value)
    assert why == expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (event(id=None), "id: expected text, got null"),
        (without("id"), "id: expected text, missing"),
        (event(prediction={"score": "secret"}), "prediction.score: expected a probability from 0 to 1, got text"),
        (event(features=[1]), "features: expected an object, got array"),
        (event(ts=T // 1000), "ts: looks like seconds: send milliseconds"),
        (event(ts=T * 1000), "ts: later than year 9999: looks like micro- or nanoseconds, send milliseconds"),
        (event(ts="2026-11-23T08:00:00"), "ts: has no offset: add Z or +hh:mm"),
        (event(type="predictoin"), 'type: expected "prediction" or "outcome", got text'),
        (b"[]", "an event is an object, got array"),
        (b"{}{}", "more than one document at character 2 of 4"),
    ],
)
def test_details_name_field_and_fix(value, words):
    assert reason(value)[1] == words


def test_details_hold_no_payload():
    secret = "xyzzy"
    for field in BASE:
        for bad in ([secret], {secret: secret}, secret * 100, "\0" + secret):
            block = codec().decode("churn", [json.dumps({**BASE, field: bad}).encode()])
            assert all(secret not in rejected.detail for rejected in block.rejected)


def test_the_limits_are_the_last_values_that_pass():
    for value in (
        event(id="i" * 256),
        event(version="v" * 256),
        event(ts=946_684_800_000),
        event(prediction={"label": "l" * 256}),
    ):
        one(value)
    small = event()
    assert not codec(max_bytes=len(small)).decode("churn", [small]).rejected
    assert codec(max_bytes=len(small) - 1).decode("churn", [small]).rejected[0].reason == Reason.TOO_LARGE


def test_a_time_too_far_after_the_brokers_is_future():
    assert reason(event(ts=T + 300_001), timestamps_ms=T)[0] == Reason.FUTURE_TIMESTAMP
    assert len(one(event(ts=T + 300_000), timestamps_ms=[T])) == 1
    assert len(one(event(ts=T + 10**9), timestamps_ms=[-1])) == 1
    assert len(one(event(ts=T + 10**9))) == 1


def test_versions_may_be_absent_null_or_empty():
    assert [list(one(v).versions) for v in (without("version"), event(version=None), event(version=""))] == [[""]] * 3


def test_unknown_fields_are_ignored_even_where_deep_or_odd():
    value = event(
        extra={"a": [{"b": [1]}]}, prediction={"label": "stay", "why": [1]}, features={"age": 1, "more": {"x": []}}
    )
    assert cell(one(value).features[0]) == 1.0


def test_models_without_a_schema_are_counted_and_not_quarantined():
    values = [
        event(),
        event(model="other"),
        outcome(model="third"),
        event(model="other", ts="no"),
        event(model="other", features={"a": math.nan}),
    ]
    for hint in ("churn", "price", "other", None):
        block = codec().decode(hint, values)
        assert block.unconfigured == [(1, "other"), (2, "third"), (4, "other")]
        assert [(r.row, r.reason) for r in block.rejected] == [(3, Reason.BAD_TIMESTAMP)]
        assert block.predictions[0].rows.tolist() == [0]


def test_a_wrong_hint_changes_nothing():
    values = [
        event(),
        event(model="price"),
        outcome(model="price", label=2),
        b"{",
        event(model="price", features={"age": "x"}),
    ]
    blocks = [codec().decode(hint, values) for hint in ("churn", "price", None, "nobody")]
    for block in blocks:
        assert sorted((b.model, b.rows.tolist()) for b in block.predictions) == [("churn", [0]), ("price", [1, 4])]
        assert [(b.model, b.rows.tolist()) for b in block.outcomes] == [("price", [2])]
        assert [r.row for r in block.rejected] == [3]


def test_route_names_configured_models_only():
    c = codec()
    assert c.route(event()) == "churn"
    assert c.route(json.dumps(BASE, separators=(",", ":")).encode()) == "churn"
    assert c.route(event()) == "churn"
    assert c.route(b'{"model" : \n"price"}') == "price"
    for value in (event(model="other"), b"", b'{"model":', b'{"model":7}', b'{"model":"churn', b"\xff", b"null"):
        assert c.route(value) in (None, "churn")
    assert c.route(event(model="other")) is None


def test_schemas_refuse_names_that_cannot_be_read():
    for name in ('a"b', "a\\b", "a\nb"):
        with pytest.raises(ValueError):
            EventSchema(model="m", task="binary", features=(FeatureSchema(name, "numeric"),))
    with pytest.raises(ValueError):
        EventSchema(model="m", task="binary", features=(FeatureSchema("a", "numeric"), FeatureSchema("a", "boolean")))


def test_a_persistently_wrong_producer_is_met_by_the_wide_decoder_first_and_a_mended_one_by_the_strict():
    c = in_wide_mode()
    for _ in range(40):
        c.decode("churn", [event()])
    assert c._decoders["churn"]._wide_blocks == 0
    for _ in range(3):
        c.decode("churn", [b"{"] * 20)
    assert c._decoders["churn"]._wide_blocks == 0


MIX = [
    event(), event(id="b", features={"age": "x"}), raw(age="NaN", country="true"), raw(age="1e999"), outcome(), outcome(label=True, version=None),
    event(model="price"), outcome(model="price", label=1), event(model="other"), b"{", b"", None, event(ts=5), raw(country='"\\u0000"'), raw(),
    raw(country='"\\ud800"', age="null"), event(id="\0"), event(features={}, segment={"country": 1}), event(ts=T, features={"country": "y" * 2000}),
    event(model="steps", prediction={"scores": {"stay": 0.1}}), event(version=None), b"\xff", event(ts="2026-11-23T08:00:00+01:00"),
    raw(country="1.0", member="false"), event(ts=T + 10**8),
]  # fmt: skip


def rows_of(block):
    """Everything a block says, by row, in a form that can be compared."""
    found = {r.row: (r.reason, r.detail) for r in block.rejected} | dict(block.unconfigured)
    for batch in block.predictions:
        columns = [*batch.features, batch.score, batch.label, batch.value, *batch.scores]
        for i, row in enumerate(batch.rows.tolist()):
            cells = []
            for column in columns:
                cut = (
                    NumericColumn(column.values[i : i + 1], None if column.status is None else column.status[i : i + 1])
                    if isinstance(column, NumericColumn)
                    else CategoryColumn(column.values[i : i + 1])
                )
                cells.append(repr(cell(cut)))
            assert row not in found
            found[row] = (batch.model, batch.ids[i], batch.versions[i], int(batch.times_ms[i]), cells)
    for batch in block.outcomes:
        for i, row in enumerate(batch.rows.tolist()):
            assert row not in found
            cells = [batch.labels[i], repr(float(batch.values[i]))]
            found[row] = (batch.model, batch.ids[i], batch.versions[i], int(batch.times_ms[i]), cells)
    return found


ALONE = [rows_of(codec().decode(None, [value], [T])).get(0) for value in MIX]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(MIX) - 1), max_size=60), st.sampled_from(["churn", "price", None]), st.booleans())
def test_a_block_is_its_records_decoded_one_by_one(picked, hint, wide):
    c = in_wide_mode() if wide else codec()
    block = c.decode(hint, [MIX[i] for i in picked], [T] * len(picked))
    for batch in [*block.predictions, *block.outcomes]:
        assert (np.diff(batch.rows) > 0).all()
    expected = {row: ALONE[i] for row, i in enumerate(picked) if MIX[i] is not None}
    assert rows_of(block) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*BASE, "weight", "segment", "label"]), JSON, max_size=3), st.booleans())
def test_any_json_in_any_field_ends_in_exactly_one_place(changes, as_outcome):
    value = json.dumps({**(OUTCOME if as_outcome else BASE), **changes}).encode()
    ways = [
        rows_of(c.decode(hint, [value], [T]))
        for c, hint in ((codec(), "churn"), (codec(), None), (in_wide_mode(), "churn"))
    ]
    assert list(ways[0]) == [0]
    assert ways[0] == ways[1] == ways[2]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_random_damage_never_crashes(seed, cuts):
    rng = random.Random(seed)
    value = bytearray(rng.choice([event(), outcome(), raw(age="NaN", country='"\\ud800"')]))
    for _ in range(cuts):
        at = rng.randrange(len(value))
        value[at : at + rng.randrange(3)] = bytes(
            rng.choice(b'{}[]",:\\eE019.-NaIt\x00\xff \xef') for _ in range(rng.randrange(3))
        )
    assert rows_of(codec().decode("churn", [bytes(value)])) == rows_of(codec().decode(None, [bytes(value)]))
