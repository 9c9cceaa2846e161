"""Judging a window: the tests that a closed window goes through, by monitor.

    data, prediction   judge_distributions  has the distribution moved?            detectors.distribution, detectors.resemblance
    quality            judge_quality        missing, absent, invalid, out of range, unseen            detectors.quality
    volume             judge_silence        no row at all, where there always are some                 detectors.volume

`sentence` (detectors.sentences) says a finding in words.
"""

from __future__ import annotations

from detectors.distribution import judge_distribution, judge_distributions
from detectors.policy import Policy
from detectors.quality import judge_quality
from detectors.sentences import sentence
from detectors.volume import judge_silence

__all__ = ["Policy", "judge_distribution", "judge_distributions", "judge_quality", "judge_silence", "sentence"]
