"""`python -m benchmarks [--json] [--quick] [--only NAME]`: every figure is of this machine and this run; compare ratios, not runs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import glue, growth, pipeline, stages
from benchmarks.measure import Figure

if TYPE_CHECKING:
    from parts.broker import Broker

LOCAL: dict[str, Callable[..., list[Figure]]] = {
    "decode": stages.decode_and_fold,  # also fold
    "tests": stages.verdicts,
    "memory": pipeline.from_memory,
    "growth": growth.growth,
}
ON_KAFKA: dict[str, Callable[..., list[Figure]]] = {"kafka": pipeline.from_kafka, "glue": glue.by_hand}


def main() -> None:
    options = _options()
    wanted = options.only or [*LOCAL, *ON_KAFKA]
    figures: list[Figure] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="driftline-bench-")))
        for name, made in _run(wanted, folder, stack, quick=options.quick):
            figures += made
            if not options.json:
                print(f"{name} done", file=sys.stderr)
    figures = list(_compared(figures))
    for line in map(_line, figures) if options.json else _table(figures):
        print(line)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument("--quick", action="store_true", help="less than a minute; figures are rougher")
    parser.add_argument("--only", action="append", metavar="NAME", choices=[*LOCAL, *ON_KAFKA], help="may be repeated")
    return parser.parse_args()


def _run(wanted: Iterable[str], folder: Path, stack: ExitStack, *, quick: bool) -> Iterator[tuple[str, list[Figure]]]:
    wanted = list(wanted)
    for name in wanted:
        if name in LOCAL:
            yield name, LOCAL[name](_room(folder, name), quick=quick)
    on_kafka = [name for name in wanted if name in ON_KAFKA]
    broker = _broker(folder, stack) if on_kafka else None
    for name in on_kafka if broker is not None else ():
        yield name, ON_KAFKA[name](_room(folder, name), broker, quick=quick)


def _room(folder: Path, name: str) -> Path:
    room = folder / name
    room.mkdir()
    return room


def _broker(folder: Path, stack: ExitStack) -> Broker | None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from parts.broker import Broker, UnavailableError

    try:
        broker = Broker(folder / "broker")
    except UnavailableError as error:
        print(f"kafka and glue are left out: {error}", file=sys.stderr)
        return None
    stack.callback(broker.close)
    return broker


def _compared(figures: Iterable[Figure]) -> Iterator[Figure]:
    """Ratios across benchmarks of the same run."""
    figures = list(figures)
    known = {figure.name: figure for figure in figures}
    for figure in figures:
        against = {"memory.500": "memory.1", "kafka.1": "memory.1", "kafka.500": "kafka.1"}.get(figure.name)
        other = known.get(against or "")
        if other is None or not other.cpu_us or figure.cpu_us is None:
            yield figure
        else:
            yield dataclasses.replace(figure, ratio=figure.cpu_us / other.cpu_us, against=against)


def _line(figure: Figure) -> str:
    given: dict[str, Any] = dataclasses.asdict(figure)
    return json.dumps({key: round(value, 3) if isinstance(value, float) else value for key, value in given.items()})


def _table(figures: list[Figure]) -> Iterator[str]:
    yield f"{platform.machine()}, CPython {platform.python_version()}; CPU time of the whole process, medians of this run"
    yield f"{'figure':<16}{'per second':>12}  {'CPU':>20}  {'':<28}  what"
    for figure in figures:
        cost = "" if figure.cpu_us is None else f"{figure.cpu_us:,.2f} us/{figure.unit}"
        rate = "" if figure.per_second is None else f"{figure.per_second:,.0f}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f} x {figure.against}"
        yield f"{figure.name:<16}{rate:>12}  {cost:>20}  {ratio:<28}  {figure.what}"
        if figure.name == "growth":
            yield "".join(f"\n{'':<18}{key} {value}" for key, value in figure.more.items())[1:]


if __name__ == "__main__":
    main()
