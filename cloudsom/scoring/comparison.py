"""Masks before and after fine-tuning side by side: in all, and by surface."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloudsom.brightness import brightness
from cloudsom.images.pixels import spectra_of
from cloudsom.images.rasters import Grid, open_raster, open_scene, read_mask
from cloudsom.images.references import read_reference
from cloudsom.scoring.scores import MEASURES, Counts, count, false_alarm_rate, measures, surfaces

SOM1, UNFILTERED, SOM2 = "SOM1", "SOM2 unfiltered", "SOM2"


@dataclass(frozen=True)
class ComparedScene:
    """The files of one product: its SOM1 mask, reference and image, and the folder of final masks if there is one."""

    name: str
    mask: Path
    reference: Path
    finals_dir: Path | None
    tiff: Path

    @property
    def finals(self) -> dict[str, Path]:
        """The masks of fine-tuning that are there."""
        if self.finals_dir is None:
            return {}
        ends = {UNFILTERED: "unfiltered", SOM2: "mask"}
        files = {kind: self.finals_dir / f"{self.name}_{end}.tif" for kind, end in ends.items()}
        return {kind: file for kind, file in files.items() if file.is_file()}

    def inputs(self) -> dict[str, Path]:
        """Everything that is read, by role."""
        files = {SOM1: self.mask, "reference": self.reference, **self.finals}
        if self.tiff.is_file():
            files["image"] = self.tiff
        return {f"{kind} {self.name}": file for kind, file in files.items()}


@dataclass(frozen=True)
class Row:
    """What one product's masks of one kind are worth; `role` says what fine-tuning knew of the product.

    surfaces  pixels of each surface, and how many of them are called cloud
    """

    product: str
    role: str
    masks: str
    counts: Counts
    surfaces: dict[str, tuple[int, int]] = field(default_factory=dict)


def compare(
    scene: ComparedScene, cloud_codes: tuple[int, ...], left_out: tuple[int, ...], least_brightness: float
) -> list[Row]:
    """One product's rows: SOM1, and where fine-tuning has run SOM2 before and after the filters."""
    _, grid = read_mask(scene.mask)
    reference = read_reference(scene.reference, scene.mask, grid)
    bright = bright_pixels(scene.tiff, grid, least_brightness) if scene.tiff.is_file() else None
    role = role_of(scene.finals[SOM2]) if SOM2 in scene.finals else ""
    rows = []
    for kind, file in {SOM1: scene.mask, **scene.finals}.items():
        mask, own_grid = read_mask(file)
        if own_grid.difference(grid):
            read_reference(scene.reference, file, own_grid)  # raises the error that says what differs
        counts = count(mask, reference, cloud_codes, left_out)
        rows.append(Row(scene.name, role, kind, counts, surfaces(mask, reference, bright)))
    return rows


def role_of(final_mask: Path) -> str:
    """Whether fine-tuning took samples from the product of a final mask: "tuned on", "held out", "not for scoring"."""
    tags = open_raster(final_mask).GetMetadata()
    if tags.get("TUNED_ON") == "yes":
        return "tuned on"
    return "held out" if tags.get("TEST", "yes") == "yes" else "not for scoring"


def bright_pixels(tiff: Path, grid: Grid, least: float) -> NDArray[np.bool_] | None:
    """Which pixels of an image have a mean reflectance of at least `least` in B2, B3, B4; None on another grid."""
    with open_scene(tiff) as scene:
        if scene.info.grid.difference(grid):
            return None
        parts = [brightness(spectra) >= least for spectra in spectra_of(scene)]
    return np.concatenate(parts).reshape(grid.height, grid.width)


# --- tables -----------------------------------------------------------------------------------------------------------


def scored(rows: Iterable[Row]) -> list[Row]:
    """The rows to pool: the products held out from fine-tuning, or all where none is."""
    rows = list(rows)
    held_out = [row for row in rows if row.role == "held out"]
    return held_out or [row for row in rows if row.role != "not for scoring"]


def pooled(rows: Iterable[Row]) -> list[Row]:
    """One row a kind of masks over all pixels of the products that are scored and have masks of every kind."""
    chosen = scored(rows)
    complete = {row.product for row in chosen if row.masks == SOM2} or {row.product for row in chosen}
    found = []
    for kind in (SOM1, UNFILTERED, SOM2):
        own = [row for row in chosen if row.masks == kind and row.product in complete]
        if own:
            names = dict.fromkeys(name for row in own for name in row.surfaces)
            pairs = {name: [row.surfaces.get(name, (0, 0)) for row in own] for name in names}
            sums = {name: (sum(p for p, _ in pair), sum(c for _, c in pair)) for name, pair in pairs.items()}
            found.append(Row("pooled", own[0].role, kind, sum((row.counts for row in own), Counts(0, 0, 0, 0)), sums))
    return found


def measures_table(rows: list[Row]) -> pd.DataFrame:
    """comparison.csv: counts and measures, one row a product and masks."""
    table = []
    for row in rows + pooled(rows):
        counts = {("excluded" if key == "excluded" else key.upper()): n for key, n in asdict(row.counts).items()}
        values = {name: measures(row.counts)[name] for name in MEASURES}
        rate = {"false_alarm_rate": false_alarm_rate(row.counts)}
        table.append({"product": row.product, "role": row.role, "masks": row.masks, **counts, **values, **rate})
    return pd.DataFrame(table)


def surfaces_table(rows: list[Row]) -> pd.DataFrame:
    """surfaces.csv: pixels and share called cloud, one row a product, masks and surface."""
    return pd.DataFrame(
        [
            {"product": row.product, "role": row.role, "masks": row.masks, "surface": name, "pixels": pixels,
             "called_cloud": cloud, "share": cloud / pixels}
            for row in rows + pooled(rows)
            for name, (pixels, cloud) in row.surfaces.items()
        ],
        columns=["product", "role", "masks", "surface", "pixels", "called_cloud", "share"],
    )  # fmt: skip


def summary(rows: list[Row]) -> str:
    """One line: recall, false alarms and those on bright land, SOM1 -> SOM2 unfiltered -> SOM2, and of which scenes."""
    totals = pooled(rows)
    recall = [measures(row.counts)["recall"] for row in totals]
    alarms = [false_alarm_rate(row.counts) for row in totals]
    bright = [row.surfaces["bright land"] for row in totals if "bright land" in row.surfaces]
    parts = [
        f"{name} {' -> '.join(f'{value:.4f}' for value in values)}"
        for name, values in (
            ("recall", recall),
            ("false alarms", alarms),
            ("false alarms on bright land", [cloud / pixels for pixels, cloud in bright]),
        )
        if values and not np.isnan(values[0])
    ]
    products = {row.product for row in scored(rows)}
    of = {"held out": "scenes held out from fine-tuning", "tuned on": "scenes fine-tuned on, as in the paper"}
    which = of.get(totals[0].role, "scenes")
    return f"{len(products)} {which}; {' -> '.join(row.masks for row in totals)}: {', '.join(parts)}"
