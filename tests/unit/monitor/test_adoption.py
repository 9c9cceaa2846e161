"""A changed table is an error until somebody adopts it; the same content elsewhere is not a change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from monitor.adoption import adopt, ensure_references, file_sha256, notes
from monitor.config import Config
from monitor.config.load import load_config
from monitor.errors import UserError
from monitor.store import FROM_THE_BEGINNING_MS, ReferenceRow, Store
from parts.world import T0, write_reference

Load = Callable[..., Config]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{tmp_path}/s.db", durable=False)
    yield store
    store.close()


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """A configuration with this text under the model `churn`."""
    write_reference(tmp_path / "reference.parquet", rows=1_500)

    def load(model: str = "task: unlabelled, reference: {path: reference.parquet}") -> Config:
        (tmp_path / "driftline.yaml").write_text(f"models:\n  churn: {{{model}, window: 1h}}\n")
        return load_config(tmp_path / "driftline.yaml")

    return load


def built(store: Store, config: Config) -> list[ReferenceRow]:
    return ensure_references(store, config, T0)


def test_what_the_store_lacks_is_built_once(store: Store, load: Load) -> None:
    (row,) = built(store, load())
    assert (row.model, row.version, row.rows) == ("churn", "", 1_500)
    assert store.references()[0].effective_from_ms == FROM_THE_BEGINNING_MS
    assert built(store, load()) == []
    assert len(store.references()) == 1


def test_a_changed_file_is_an_error_that_names_the_fix(store: Store, load: Load, tmp_path: Path) -> None:
    built(store, load())
    write_reference(tmp_path / "reference.parquet", rows=1_500, seed=2)
    with pytest.raises(UserError) as refused:
        built(store, load())
    text = str(refused.value)
    assert "\n" not in text
    assert "reference.parquet" in text
    assert "driftline reference build churn" in text
    assert len(store.references()) == 1


def test_a_build_adopts_it(store: Store, load: Load, tmp_path: Path) -> None:
    (old,) = built(store, load())
    write_reference(tmp_path / "reference.parquet", rows=1_500, seed=2)
    new = adopt(store, load().models["churn"], now_ms=T0)
    assert new.hash != old.hash
    assert built(store, load()) == []
    assert [row.hash for row in store.references()] == [old.hash, new.hash]


def test_an_old_table_put_back_is_a_change_too(store: Store, load: Load, tmp_path: Path) -> None:
    """The newest reference counts, also where all of them took force at once."""
    (old,) = built(store, load())
    write_reference(tmp_path / "reference.parquet", rows=1_500, seed=2)
    adopt(store, load().models["churn"], now_ms=T0)
    write_reference(tmp_path / "reference.parquet", rows=1_500)
    with pytest.raises(UserError, match="reference build churn"):
        built(store, load())
    assert adopt(store, load().models["churn"], now_ms=T0).hash == old.hash
    assert len(store.references()) == 3


def test_the_same_content_in_another_file_is_no_change(store: Store, load: Load, tmp_path: Path) -> None:
    built(store, load())
    table = pq.read_table(tmp_path / "reference.parquet")
    pq.write_table(table, tmp_path / "other.parquet", compression="zstd", row_group_size=100)
    (tmp_path / "reference.parquet").unlink()
    assert built(store, load("task: unlabelled, reference: {path: other.parquet}")) == []
    assert len(store.references()) == 1


def test_adopting_what_is_in_force_changes_nothing(store: Store, load: Load) -> None:
    (row,) = built(store, load())
    generation = store.reference_generation()
    assert adopt(store, load().models["churn"], now_ms=T0 + 1) == store.references()[0]
    assert store.reference_generation() == generation
    assert row.hash == store.references()[0].hash


@pytest.mark.parametrize(
    "changed",
    [
        "task: unlabelled, reference: {path: reference.parquet, ignore: [c]}",
        "task: unlabelled, reference: {path: reference.parquet}, features: {x: {range: [-9, 9]}}",
        "task: unlabelled, reference: {path: reference.parquet, columns: {timestamp: null}, ignore: [timestamp]}",
    ],
)
def test_a_setting_that_reads_the_table_otherwise_is_a_change(store: Store, load: Load, changed: str) -> None:
    built(store, load())
    with pytest.raises(UserError, match="how it is read, changed"):
        built(store, load(changed))
    adopt(store, load(changed).models["churn"], now_ms=T0)
    assert built(store, load(changed)) == []


def test_a_setting_of_the_verdict_is_none(store: Store, load: Load) -> None:
    built(store, load())
    assert (
        built(
            store,
            load(
                "task: unlabelled, reference: {path: reference.parquet}, features: {x: {tolerate_sd: 0.3}}, lateness: 5m"
            ),
        )
        == []
    )


def test_a_reference_of_a_version_stands_beside_the_configured_one(store: Store, load: Load, tmp_path: Path) -> None:
    built(store, load())
    write_reference(tmp_path / "two.parquet", rows=1_500, seed=2)
    row = adopt(store, load().models["churn"], path=tmp_path / "two.parquet", version="2", now_ms=T0)
    assert row.version == "2"
    assert built(store, load()) == []


def test_a_missing_file_is_one_line(store: Store, load: Load, tmp_path: Path) -> None:
    config = load()
    built(store, config)
    (tmp_path / "reference.parquet").unlink()
    for known in (store, Store.open(f"sqlite:///{tmp_path}/empty.db")):
        with pytest.raises(UserError) as refused:
            built(known, config)
        assert "reference.parquet" in str(refused.value)
        assert "\n" not in str(refused.value)


def test_notes_are_kept_with_the_reference(store: Store, load: Load) -> None:
    built(store, load())
    assert any("1500 rows" in note for note in notes(store.references()[0]))


# -- another table than the configured one


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write_reference(tmp_path / "other.parquet", rows=1_500, seed=2)


def test_a_table_chosen_by_name_is_in_force_and_no_change(store: Store, load: Load, other: Path) -> None:
    (configured,) = built(store, load())
    chosen = adopt(store, load().models["churn"], path=other, now_ms=T0)
    assert chosen.hash != configured.hash
    assert (chosen.source_path, chosen.source_sha256) == (str(other), file_sha256(other))
    assert built(store, load()) == []
    assert [row.hash for row in store.references()] == [configured.hash, chosen.hash]


def test_it_may_be_the_first_one(store: Store, load: Load, other: Path) -> None:
    chosen = adopt(store, load().models["churn"], path=other, now_ms=T0)
    assert built(store, load()) == []
    assert [row.hash for row in store.references()] == [chosen.hash]


def test_the_configured_table_may_be_missing_then(store: Store, load: Load, other: Path, tmp_path: Path) -> None:
    config = load()
    (tmp_path / "reference.parquet").unlink()
    adopt(store, config.models["churn"], path=other, now_ms=T0)
    assert built(store, config) == []
    write_reference(tmp_path / "reference.parquet", rows=1_500)
    with pytest.raises(UserError, match="reference build churn"):
        built(store, config)


def test_the_configured_table_changed_meanwhile_is_an_error_with_two_ways_out(
    store: Store, load: Load, other: Path, tmp_path: Path
) -> None:
    for way_out in (None, other):
        chosen = adopt(store, load().models["churn"], path=other, now_ms=T0)
        seed = 3 if way_out is None else 4
        write_reference(tmp_path / "reference.parquet", rows=1_500, seed=seed)
        with pytest.raises(UserError) as refused:
            built(store, load())
        text = str(refused.value)
        assert "\n" not in text
        assert text.startswith(str(tmp_path / "reference.parquet"))
        assert "`driftline reference build churn`" in text
        assert f"`driftline reference build churn {other}`" in text
        row = adopt(store, load().models["churn"], path=way_out, now_ms=T0)
        assert (row.hash == chosen.hash) == (way_out is not None)
        assert built(store, load()) == []


def test_the_configured_table_may_be_built_again(store: Store, load: Load, other: Path) -> None:
    (configured,) = built(store, load())
    adopt(store, load().models["churn"], path=other, now_ms=T0)
    assert adopt(store, load().models["churn"], now_ms=T0).hash == configured.hash
    assert built(store, load()) == []
    assert store.references()[-1].hash == configured.hash


def test_another_configured_path_is_a_change_also_then(store: Store, load: Load, other: Path, tmp_path: Path) -> None:
    adopt(store, load().models["churn"], path=other, now_ms=T0)
    write_reference(tmp_path / "third.parquet", rows=1_500, seed=3)
    with pytest.raises(UserError, match=r"third\.parquet"):
        built(store, load("task: unlabelled, reference: {path: third.parquet}"))
    assert built(store, load("task: unlabelled, reference: {path: other.parquet}")) == [], "the chosen one, configured"


def test_a_chosen_table_that_is_read_otherwise_is_a_change(store: Store, load: Load, other: Path) -> None:
    adopt(store, load().models["churn"], path=other, now_ms=T0)
    changed = "task: unlabelled, reference: {path: reference.parquet, ignore: [c]}"
    with pytest.raises(UserError, match="how the table is read") as refused:
        built(store, load(changed))
    assert f"`driftline reference build churn {other}`" in str(refused.value)
    adopt(store, load(changed).models["churn"], path=other, now_ms=T0)
    assert built(store, load(changed)) == []


def test_the_configured_table_by_its_name_is_the_configured_one(store: Store, load: Load, tmp_path: Path) -> None:
    built(store, load())
    write_reference(tmp_path / "reference.parquet", rows=1_500, seed=2)
    adopt(store, load().models["churn"], path=tmp_path / "reference.parquet", now_ms=T0)
    write_reference(tmp_path / "reference.parquet", rows=1_500, seed=3)
    with pytest.raises(UserError, match="changed since the reference"):
        built(store, load())
