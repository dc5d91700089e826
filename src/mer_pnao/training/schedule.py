"""The learning-rate schedule, as a pure function, so that rewinding it is calling it from step 0 again."""

import math


def learning_rate(step: int, steps: int, peak: float, warmup: float, floor: float) -> float:
    """Linear warm-up, then a half cosine from the peak to the floor.

    `step` counts from 0 to steps - 1; `warmup` is the share of the steps that warm up, `floor` the share of the
    peak that the last step has. Steps beyond the last keep the floor.
    """
    rising = round(warmup * steps)
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    progress = min(1.0, (step - rising) / max(1, steps - 1 - rising))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
