"""Masks of ours against references, each by itself: step 10's confusion_matrix.csv and metrics.csv."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloudsom.images.rasters import read_mask
from cloudsom.images.references import read_reference
from cloudsom.scoring.comparison import HELD_OUT, SOM1, SOM2, ComparedScene, ScoringRules
from cloudsom.scoring.scores import COUNTS, MEASURES, count, measures


@dataclass(frozen=True)
class Scored:
    """What `count` finds in one product's masks, step 9's and where there is one the final mask.

    role  what fine-tuning knew of the product
    """

    product: str
    role: str
    counts: dict[str, NDArray[np.int64]]


def score(scene: ComparedScene, rules: ScoringRules) -> Scored:
    """Count one product's pixels; UserError if the files do not cover the same pixels or hold unknown codes."""
    counts = {}
    for kind in (kind for kind in (SOM1, SOM2) if kind in scene.ours):
        mask, grid = read_mask(scene.ours[kind])
        reference = read_reference(scene.reference, scene.ours[kind], grid)
        counts[kind] = count(mask, reference, rules.cloud_codes, rules.left_out_codes)
    return Scored(scene.name, scene.role(), counts)


def confusion_table(scored: list[Scored]) -> pd.DataFrame:
    """One row of counts a product, of step 9's masks."""
    names = (*COUNTS, "excluded")
    return pd.DataFrame([{"product": s.product, **dict(zip(names, s.counts[SOM1], strict=True))} for s in scored])


def metrics_table(scored: list[Scored]) -> pd.DataFrame:
    """One row of measures a product, then their mean (undefined values left out), then those of all pixels pooled.

    Where there are final masks, their measures stand beside; where some of their scenes are held out and others are
    not, mean and pooled of those held out come last.
    """
    table = pd.DataFrame([{"product": s.product, **_measures(s.counts), "role": s.role} for s in scored])
    parts = [table, _totals(table, scored, "")]
    held_out = [s for s in scored if s.role == HELD_OUT]
    if held_out and len(held_out) < len(scored):
        parts.append(_totals(table[table["role"] == HELD_OUT], held_out, HELD_OUT))
    whole = pd.concat(parts, ignore_index=True)
    return whole if any(SOM2 in s.counts for s in scored) else whole.drop(columns="role")


def _measures(counts: dict[str, NDArray[np.int64]]) -> dict[str, float]:
    prefix = {SOM1: "", SOM2: f"{SOM2}_"}
    return {prefix[kind] + name: value for kind, own in counts.items() for name, value in measures(own).items()}


def _totals(table: pd.DataFrame, scored: list[Scored], role: str) -> pd.DataFrame:
    """The lines `mean` and `pooled` of some products."""
    each = {kind: [s.counts[kind] for s in scored if kind in s.counts] for kind in (SOM1, SOM2)}
    pooled = {kind: np.sum(found, axis=0) for kind, found in each.items() if found}
    lines = {"mean": table.drop(columns=["product", "role"]).mean().to_dict(), "pooled": _measures(pooled)}
    return pd.DataFrame([{"product": f"{kind} {role}".strip(), **v, "role": role} for kind, v in lines.items()])


def summary(table: pd.DataFrame) -> str:
    """One line: products scored, and the pooled measures of step 9's masks."""
    n = table["product"].tolist().index("mean")  # products come first
    pooled = table.iloc[n + 1]
    values = ", ".join(f"{name} {pooled[name]:.4f}" for name in MEASURES if pd.notna(pooled[name]))
    return f"{n} products scored; {SOM1}, pooled: {values}"
