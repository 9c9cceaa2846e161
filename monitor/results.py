"""Results as they are stored and as machines read them: findings in one compressed block, and the objects that every JSON output shares."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import msgspec

from detectors.assembly import Findings
from detectors.finding import Finding, Severity, State
from detectors.sentences import sentence
from monitor.store.records import AlertRow, QuarantineRow, RetrainingRow, WindowRow

_MAGIC = b"DLF1"  # the last byte is the version of the format
_BODY_LIMIT = 1 << 28
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_PLAIN = ("subject", "check", "state", "severity", "value", "baseline", "threshold", "unit", "p_value", "q_value", "rows",
          "smallest_visible", "since_ms")  # fmt: skip

_CELLS = attrgetter(*_PLAIN)

Object = dict[str, Any]
T = TypeVar("T")


def encode_findings(findings: Sequence[Finding], *, digits: int = 6) -> bytes:
    """Bytes that `decode_findings` reads. Floats keep `digits` significant digits, NaN and infinities become None.

    A column a field, so that names, states and equal numbers pack to almost nothing; columns without any value are left out.
    """
    columns, intervals, found = _columns(findings)
    columns["low"] = [interval and interval[0] for interval in intervals]
    columns["high"] = [interval and interval[1] for interval in intervals]
    keys = {key: None for detail in found for key in detail}
    # Which findings have a key is kept too: None is a value ("there is no such figure"), not the same as no key.
    details = {key: _sparse(key, found, digits) for key in keys}
    kept = {
        name: _rounded(column, digits) for name, column in columns.items() if any(value is not None for value in column)
    }
    body = msgspec.json.encode({"count": len(findings), "columns": kept, "details": details})
    return _MAGIC + zlib.compress(body, 5)


def decode_findings(data: bytes) -> list[Finding]:
    """What was encoded. ValueError when `data` is damaged or of another version."""
    block = _read(data, msgspec.json.decode)
    try:
        details = _unsparse(block["details"], block["count"])
        return [_finding(block["columns"], details[i], i) for i in range(block["count"])]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"damaged block of findings: {error}") from None


class Brief(NamedTuple):
    """What a scrape asks of a finding; `state` and `severity` as they are written."""

    subject: str
    check: str
    state: str
    severity: str | None
    value: float | None
    threshold: float | None


class _BriefColumns(msgspec.Struct):
    subject: Sequence[str] = ()
    check: Sequence[str] = ()
    state: Sequence[str] = ()
    severity: Sequence[str | None] | None = None
    value: Sequence[float | None] | None = None
    threshold: Sequence[float | None] | None = None


class _BriefBlock(msgspec.Struct):
    count: int
    columns: _BriefColumns


_BRIEF = msgspec.json.Decoder(_BriefBlock)


def brief_findings(data: bytes) -> Iterator[Brief]:
    """As `decode_findings`, for those who read many blocks and little of each. Raises ValueError, some of it while it is read."""
    block = _read(data, _BRIEF.decode)
    told = block.columns
    if not len(told.subject) == len(told.check) == len(told.state) == block.count:
        raise ValueError("damaged block of findings: columns of several lengths")
    nothing: Sequence[None] = (None,) * block.count
    return map(
        Brief._make,
        zip(
            told.subject, told.check, told.state, told.severity or nothing, told.value or nothing, told.threshold or nothing,
            strict=True,
        ),
    )  # fmt: skip


def _read(data: bytes, parse: Callable[[bytes], T]) -> T:
    if data[: len(_MAGIC)] != _MAGIC:
        raise ValueError("not a block of findings of this version")
    try:
        inflate = zlib.decompressobj()
        body = inflate.decompress(data[len(_MAGIC) :], _BODY_LIMIT)
        if not inflate.eof:
            raise ValueError("damaged block of findings: cut off")
        return parse(body)
    except (zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"damaged block of findings: {error}") from None


def window_object(row: WindowRow) -> Object:
    """A window with its findings in words. A stored run of no_data windows is one object: expanding it is the caller's."""
    return {
        "type": "window",
        "id": row.id,
        "model": row.model,
        "version": row.version or None,
        "monitor": row.monitor,
        "segment": _segment(row.segment),
        "start": rfc3339(row.start_ms),
        "end": rfc3339(row.end_ms),
        "reference": row.reference or None,
        "inherited": row.inherited,
        "state": row.state,
        "status": row.status,
        "revision": row.revision,
        "rows": row.rows,
        "digest": row.digest or None,
        "findings": [finding_object(finding) for finding in decode_findings(row.findings)] if row.findings else [],
    }


def finding_object(finding: Finding) -> Object:
    return {
        "subject": finding.subject,
        "check": finding.check,
        "state": str(finding.state),
        "severity": None if finding.severity is None else str(finding.severity),
        "value": finding.value,
        "interval": None if finding.interval is None else list(finding.interval),
        "baseline": finding.baseline,
        "threshold": finding.threshold,
        "unit": finding.unit,
        "evidence": {"p_value": finding.p_value, "q_value": finding.q_value},
        "rows": finding.rows,
        "smallest_visible": finding.smallest_visible,
        "since": None if finding.since_ms is None else rfc3339(finding.since_ms),
        "detail": dict(finding.detail),
        "text": sentence(finding),
    }


def alert_object(row: AlertRow) -> Object:
    """One transition of an alert."""
    return {
        "type": "alert",
        "id": row.id,
        "fingerprint": row.fingerprint,
        "incident": row.incident,
        "model": row.model,
        "version": row.version or None,
        "segment": _segment(row.segment),
        "monitor": row.monitor,
        "subject": row.subject,
        "severity": row.severity,
        "status": row.status,
        "corrected": row.corrected,
        "at": rfc3339(row.at_ms),
        "starts_at": rfc3339(row.starts_at_ms),
        "ends_at": None if row.ends_at_ms is None else rfc3339(row.ends_at_ms),
        "window": row.window,
        "reason": row.reason,
        "text": row.text,
    }


def retraining_object(row: RetrainingRow) -> Object:
    return {
        "type": "retraining",
        "id": row.id,
        "model": row.model,
        "status": row.status,
        "at": rfc3339(row.at_ms),
        "reason": row.reason,
    }


def quarantined_object(row: QuarantineRow) -> Object:
    return {
        "type": "quarantined",
        "source": row.source,
        "topic": row.topic,
        "partition": row.partition,
        "offset": row.offset,
        "reason": row.reason,
        "recorded_at": rfc3339(row.recorded_at_ms),
    }


def rfc3339(time_ms: int) -> str:
    """A time in UTC, with milliseconds only where there are some. Exact for every time of the years 1 to 9999."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.isoformat(timespec="milliseconds" if time_ms % 1000 else "seconds").replace("+00:00", "Z")


def _segment(segment: str | None) -> Object | None:
    """Stored as JSON text."""
    return None if not segment else msgspec.json.decode(segment, type=dict[str, Any])


@lru_cache(maxsize=256)
def _pattern(count: int, digits: int) -> str:
    return f"%#.{digits}g," * count


def _rounded(column: Sequence[Any], digits: int) -> msgspec.Raw | list[Any]:
    """The column as JSON with `digits` significant digits: in one go where all are floats, which most columns are and most of the time is spent on."""
    kinds = set(map(type, column))
    if float not in kinds:
        return column if isinstance(column, list) else list(column)
    if len(kinds) == 1:
        text = _pattern(len(column), digits) % tuple(column)
        if "n" not in text:  # no nan, no inf
            return msgspec.Raw(f"[{text[:-1]}]".replace(".,", ".0,").replace(".]", ".0]").encode())
    return [float("%.*g" % (digits, value)) if isinstance(value, float) else value for value in column]  # noqa: UP031 - twice as fast


def _columns(
    findings: Sequence[Finding],
) -> tuple[dict[str, Sequence[Any]], Sequence[Any], Sequence[Mapping[str, Any]]]:
    """Field -> column, the intervals, and the details; straight from the columns where findings have not been made of them yet."""
    if isinstance(findings, Findings):
        made = findings.columns
        plain: dict[str, Sequence[Any]] = {name: getattr(made, name) for name in _PLAIN if name != "since_ms"}
        return {**plain, "since_ms": ()}, made.interval, made.detail
    cells = zip(*map(_CELLS, findings), strict=True)
    intervals, details = [finding.interval for finding in findings], [finding.detail for finding in findings]
    return dict(zip(_PLAIN, cells, strict=False)), intervals, details


def _sparse(key: str, details: Sequence[Mapping[str, Any]], digits: int) -> list[Any]:
    """[places, values] of the findings that have `key`; places None when all have it."""
    places = [i for i, detail in enumerate(details) if key in detail]
    values = _rounded([details[i][key] for i in places], digits)
    return [None if len(places) == len(details) else places, values]


def _unsparse(details: Mapping[str, Sequence[Any]], count: int) -> list[Object]:
    found: list[Object] = [{} for _ in range(count)]
    for key, (places, values) in details.items():
        for i, value in zip(range(count) if places is None else places, values, strict=True):
            found[i][key] = value
    return found


def _finding(columns: Mapping[str, Sequence[Any]], detail: Object, i: int) -> Finding:
    def at(name: str, make: Callable[[Any], Any] | None = None) -> Any:
        value = columns[name][i] if name in columns else None
        return value if value is None or make is None else make(value)

    low = at("low")
    return Finding(
        subject=at("subject"),
        check=at("check"),
        state=at("state", State),
        severity=at("severity", Severity),
        value=at("value"),
        interval=None if low is None else (low, at("high")),
        baseline=at("baseline"),
        threshold=at("threshold"),
        unit=at("unit"),
        p_value=at("p_value"),
        q_value=at("q_value"),
        rows=at("rows"),
        smallest_visible=at("smallest_visible"),
        since_ms=at("since_ms"),
        detail=detail,
    )
