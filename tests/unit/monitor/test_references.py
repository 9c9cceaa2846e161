"""Which reference is in force for which pane, and what is decoded for all of them."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.columns import CategoryColumn, NumericColumn
from detectors.reference.build import Reference, ReferenceSettings, ReferenceTable, build_reference, encode_reference
from monitor.config.types import Model
from monitor.decoding.event_schema import FeatureSchema
from monitor.errors import UserError
from monitor.references import ReferenceBook
from monitor.store import FROM_THE_BEGINNING_MS, ReferenceRow

MODEL = Model().named("churn")


def reference(seed: int = 1, classes: tuple[str, ...] = (), **features: NumericColumn | CategoryColumn) -> Reference:
    rng = np.random.default_rng(seed)
    table = ReferenceTable(
        rows=300,
        features={"x": NumericColumn(rng.normal(size=300)), **features},
        scores={name: NumericColumn(rng.random(300)) for name in classes},
    )
    settings = ReferenceSettings(task="multiclass" if classes else "unlabelled", classes=classes or None)
    return build_reference(table, settings)


def row(
    one: Reference, *, version: str = "", since: int = FROM_THE_BEGINNING_MS, model: str = "churn", recorded: int = 0
) -> ReferenceRow:
    return ReferenceRow(
        hash=one.hash, model=model, version=version, effective_from_ms=since, payload=encode_reference(one), source_path="r",
        source_sha256="s", settings="{}", rows=one.rows, warnings="[]", recorded_at_ms=recorded,
    )  # fmt: skip


A, B, C = reference(1), reference(2), reference(3)


def in_force(book: ReferenceBook, version: str, start_ms: int) -> str | None:
    adopted = book.in_force("churn", version, start_ms)
    return adopted.reference.hash if adopted else None


def test_a_reference_is_in_force_from_its_boundary_on() -> None:
    book = ReferenceBook.of([row(A), row(B, since=1_000)], 2)
    assert [in_force(book, "7", at) for at in (-5, 999, 1_000, 9_999)] == [A.hash, A.hash, B.hash, B.hash]


def test_a_version_takes_its_own_as_soon_as_it_has_one() -> None:
    book = ReferenceBook.of([row(A), row(C, version="7", since=500), row(B, since=1_000)], 3)
    assert [in_force(book, "7", at) for at in (499, 500, 1_000)] == [A.hash, C.hash, C.hash]
    assert [in_force(book, "8", at) for at in (500, 1_000)] == [A.hash, B.hash]
    assert in_force(book, "", 500) == A.hash


def test_of_two_that_take_force_together_the_one_added_last_counts() -> None:
    """Whatever the clocks of the machines that built them say."""
    assert in_force(ReferenceBook.of([row(A, recorded=9), row(B, recorded=3)], 2), "7", 0) == B.hash


def test_a_model_without_any_has_none() -> None:
    book = ReferenceBook.of([row(A, model="other"), row(B, version="7")], 2)
    assert in_force(book, "8", 0) is None
    assert in_force(book, "7", 0) == B.hash
    assert book.by_hash(A.hash) is not None
    assert book.by_hash("nothing") is None


def test_the_schema_holds_the_features_of_all_references() -> None:
    more = reference(4, y=CategoryColumn(["u", "v", "w"] * 100), z=CategoryColumn(["true", "false", "true"] * 100))
    schema = ReferenceBook.of([row(A), row(more, version="2", since=5)], 2).schema(MODEL)
    assert schema.features == (
        FeatureSchema("x", "numeric"),
        FeatureSchema("y", "categorical"),
        FeatureSchema("z", "boolean"),
    )
    assert schema.task == "unlabelled"


def test_the_schema_holds_the_classes_of_all_references() -> None:
    book = ReferenceBook.of([row(reference(1, ("a", "b"))), row(reference(1, ("b", "c")), since=9)], 2)
    assert book.schema(MODEL).classes == ("a", "b", "c")


def test_one_feature_of_two_kinds_is_an_error_that_names_the_fix() -> None:
    table = ReferenceTable(rows=300, features={"x": CategoryColumn(["u", "v", "w"] * 100)})
    other = build_reference(table, ReferenceSettings(task="unlabelled"))
    with pytest.raises(
        UserError, match=r"feature x is numeric in one reference and categorical .*models\.churn\.features\.x\.kind"
    ):
        ReferenceBook.of([row(A), row(other, since=5)], 2).schema(MODEL)


def test_a_name_that_cannot_be_decoded_is_an_error_that_names_the_fix() -> None:
    odd = reference(1, **{'a"b': NumericColumn(np.arange(300.0) % 7)})
    with pytest.raises(UserError, match="ignore"):
        ReferenceBook.of([row(odd)], 1).schema(MODEL)
