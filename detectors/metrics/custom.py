"""A metric of one's own is one file in this folder, custom_NAME.py, with a `METRIC`: the registry finds it, and it is judged like any other.

# custom_cost.py: a missed positive costs ten times a false alarm
from detectors.metrics.custom import CustomMetric
from detectors.metrics.intervals import positive
from detectors.metrics.measured import ClassCounts, Measured, effective, measured, unknown
...
METRIC = CustomMetric(name="cost", task="binary", better="low", unit="loss", measure=cost)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal, get_args

from detectors.metrics.measured import Measured
from detectors.performance.slots import Task

Better = Literal["high", "low", "zero"]
Unit = Literal["share", "score", "loss", "units"]
PREFIX = "custom_"
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomMetric:
    """`measure` takes the counts of a window (ClassCounts, of a regression NumberCounts) and gives its value with a 95 % interval, without
    which it is shown and never judged. `better`: the side on which it is; `zero` is worse to either side. `tolerance`: how much worse than in
    the reference is nobody's concern, in its own unit (None: as of metrics of that side). ValueError for what is none of these.
    """

    name: str
    task: Task
    better: Better
    unit: Unit
    measure: Callable[[Any], Measured]
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ValueError(f"a metric is called by small letters, digits and _, not {self.name!r}")
        for value, kind in ((self.task, Task), (self.better, Better), (self.unit, Unit)):
            if value not in get_args(kind):
                raise ValueError(f"{self.name}: {value!r} is none of {', '.join(get_args(kind))}")
        if self.tolerance is not None and not self.tolerance >= 0.0:
            raise ValueError(f"{self.name}: a tolerance is 0 or more")


def found_in(package: str, path: Sequence[str]) -> Iterator[CustomMetric]:
    """The metrics of all files custom_NAME.py in `path`, the folders of `package`, by name of file. TypeError for a file without one."""
    for name in sorted(module.name for module in iter_modules(path) if module.name.startswith(PREFIX)):
        metric = getattr(import_module(f"{package}.{name}"), "METRIC", None)
        if not isinstance(metric, CustomMetric):
            raise TypeError(f"{name}.py has no METRIC of detectors.metrics.custom.CustomMetric")
        yield metric
