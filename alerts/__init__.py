"""Alert state, delivery and retraining requests. Knows nothing of drift: it is told subjects, states and reasons.

Never imports `detectors` or `monitor`.
"""
