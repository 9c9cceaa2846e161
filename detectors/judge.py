"""Judging a window: the tests that a closed window goes through, by monitor.

    data, prediction   judge_distributions  has the distribution moved?            detectors.drift.distribution, detectors.drift.resemblance
    quality            judge_quality        missing, absent, invalid, out of range, unseen            detectors.drift.quality
    volume             judge_silence        no row at all, where there always are some                 detectors.drift.volume

`sentence` (detectors.sentences) says a finding in words.
"""

from __future__ import annotations

from detectors.drift.distribution import judge_distribution, judge_distributions
from detectors.drift.quality import judge_quality
from detectors.drift.volume import judge_silence
from detectors.policy import Policy
from detectors.sentences import sentence

__all__ = ["Policy", "judge_distribution", "judge_distributions", "judge_quality", "judge_silence", "sentence"]
