"""How sure the measures are: intervals from resampling what was scored (percentile bootstrap, Efron & Tibshirani 1993).

Neighbouring pixels are alike, so what is drawn again with replacement is never pixels: with many scenes it is whole
scenes; with few it is square blocks within each scene, and the intervals then speak of other days of the same scenes,
not of other places. Scenes are taken as independent: where many are of one place, intervals are too narrow. All
processors are drawn together, so that their differences have intervals too.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloudsom.scoring.scores import MEASURES, measure_arrays, ratio

#: Measures in the order of processors.csv.
ALL_MEASURES = (*MEASURES, "false_alarm_rate", "bright_land_false_alarms")

#: What is counted in each block: TP, FN, FP, TN, pixels of bright land, and those of them called cloud.
COUNTED = 6

#: From this many scenes on, scenes are drawn; with fewer, blocks within each.
FEWEST_SCENES = 10

#: Draws, the seed of their random numbers, and the percentiles of 95 % intervals.
DRAWS, SEED, PERCENTILES = 2000, 0, (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """Measures of some processors over some scenes (processors, 8), and of each draw (draws, processors, 8)."""

    values: NDArray[np.float64]
    draws: NDArray[np.float64]

    def interval(self) -> NDArray[np.float64]:
        """Ends of the 95 % intervals: (2, processors, 8)."""
        return percentiles(self.draws)

    def differences(self, one: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Measures of processor `one` minus those of every processor (processors, 8), and the intervals (2, ...)."""
        return self.values[one] - self.values, percentiles(self.draws[:, [one]] - self.draws)


def percentiles(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """95 % intervals along the first axis; NaN for a measure that most draws do not define."""
    ends = np.full((2, *draws.shape[1:]), np.nan)
    enough = np.isfinite(draws).mean(axis=0) > 0.5
    ends[:, enough] = np.nanpercentile(draws[:, enough], PERCENTILES, axis=0)
    return ends


def rates(counts: NDArray[np.number]) -> NDArray[np.float64]:
    """The measures of counts (..., 6) by `ALL_MEASURES`: (..., 8)."""
    numbers = np.asarray(counts, np.float64)
    fp, tn, bright, called = (numbers[..., i] for i in (2, 3, 4, 5))
    more = np.stack([ratio(fp, fp + tn), ratio(called, bright)], axis=-1)
    return np.concatenate([measure_arrays(numbers[..., :4]), more], axis=-1)


def pooled_and_mean(scenes: list[NDArray[np.int64]]) -> tuple[Estimate, Estimate]:
    """Measures over all pixels of some scenes, and their mean over the scenes (undefined ones left out).

    scenes  what was counted in each: (processors, blocks, 6)
    """
    sums = np.stack([scene.sum(axis=1) for scene in scenes])  # (scenes, processors, 6)
    generator = np.random.default_rng(SEED)
    if len(scenes) >= FEWEST_SCENES:
        drawn = _times_drawn(generator, len(scenes))
        pooled, mean = rates(np.tensordot(drawn, sums, 1)), _weighted_mean(drawn, rates(sums))
    else:
        parts = [np.tensordot(_times_drawn(generator, s.shape[1]), s, (1, 1)) for s in scenes]
        again = np.stack(parts, axis=1)  # (draws, scenes, processors, 6)
        pooled, mean = rates(again.sum(axis=1)), nanmean(rates(again), axis=1)
    return Estimate(rates(sums.sum(axis=0)), pooled), Estimate(nanmean(rates(sums), axis=0), mean)


def _times_drawn(generator: np.random.Generator, n: int) -> NDArray[np.float64]:
    """How often each of `n` is drawn when n are drawn with replacement: (draws, n)."""
    if not n:
        return np.zeros((DRAWS, 0))
    return generator.multinomial(n, np.full(n, 1 / n), DRAWS).astype(np.float64)


def _weighted_mean(weights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over the first axis of `values` (n, ...), NaN left out, by weights (draws, n): (draws, ...)."""
    known = np.isfinite(values)
    return ratio(np.tensordot(weights, np.where(known, values, 0), 1), np.tensordot(weights, known.astype(float), 1))


def nanmean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean of what is defined, NaN where nothing is."""
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0).sum(axis=axis), known.sum(axis=axis).astype(np.float64))
