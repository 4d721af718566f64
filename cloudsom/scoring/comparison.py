"""Masks of several processors side by side on the same pixels: ours before and after fine-tuning, and other ones."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloudsom.bands import CLOUD, MASK_NODATA
from cloudsom.brightness import brightness
from cloudsom.images.pixels import spectra_of
from cloudsom.images.rasters import Grid, open_raster, open_scene, read_layer, read_mask
from cloudsom.images.references import REFERENCE_CODES, check_cover, open_reference
from cloudsom.scoring import bootstrap, classes, other_masks
from cloudsom.scoring.bootstrap import ALL_MEASURES, Estimate
from cloudsom.scoring.other_masks import OtherMask
from cloudsom.scoring.scores import COUNTS, surfaces, tally

SOM1, UNFILTERED, SOM2 = "SOM1", "SOM2 unfiltered", "SOM2"
OURS = (SOM1, UNFILTERED, SOM2)

#: What fine-tuning knew of a scene, by the tags of its final mask; empty where there is none, or it does not say.
HELD_OUT, TUNED_ON, NOT_FOR_SCORING = "held out", "tuned on", "not for scoring"

LAND = next(code for code, name in REFERENCE_CODES.items() if name == "land")

#: Side of the blocks that are drawn again where scenes are few, in pixels: 6 km at 60 m.
BLOCK = 100


@dataclass(frozen=True)
class ComparedScene:
    """The files of one product: reference, masks by processor in the order of the tables, image and class map."""

    name: str
    reference: Path
    ours: dict[str, Path]
    others: dict[str, OtherMask]
    tiff: Path
    classes: Path | None = None

    def inputs(self) -> dict[str, Path]:
        """Everything that is read, by role."""
        files = {"reference": self.reference, **self.ours}
        if self.tiff.is_file():
            files["image"] = self.tiff
        if self.classes:
            files["classes"] = self.classes
        for processor, mask in self.others.items():
            files |= {f"{processor} {i}".removesuffix(" 0"): file for i, file in enumerate(mask.inputs())}
        return {f"{kind} {self.name}": file for kind, file in files.items()}

    def role(self) -> str:
        """Whether fine-tuning took samples from it, by the tags of its final mask: "tuned on", "held out", "not for
        scoring"; empty without such a mask, and for one that does not say."""
        tags = open_raster(self.ours[SOM2]).GetMetadata() if SOM2 in self.ours else {}
        if "TUNED_ON" not in tags:
            return ""
        if tags["TUNED_ON"] == "yes":
            return TUNED_ON
        return HELD_OUT if tags.get("TEST", "yes") == "yes" else NOT_FOR_SCORING


@dataclass(frozen=True)
class ScoringRules:
    """How masks are scored; see the constants of step 10."""

    cloud_codes: tuple[int, ...]
    left_out_codes: tuple[int, ...]
    least_brightness: float
    cloud_share: float


@dataclass(frozen=True)
class Compared:
    """What the masks of one product are worth on the pixels that all of them have.

    role      what fine-tuning knew of the product
    counts    of each processor, in each block: (blocks, 6) as `bootstrap.COUNTED` says
    excluded  pixels that are not scored
    surfaces  of each processor, by surface: pixels, and how many of them are called cloud
    classes   pixels by class of the reference and of step 9's class map, where there is one: (6, 7)
    """

    product: str
    role: str
    counts: dict[str, NDArray[np.int64]]
    excluded: int
    surfaces: dict[str, dict[str, tuple[int, int]]]
    classes: NDArray[np.int64] | None = None


def final_masks(folder: Path, name: str) -> dict[str, Path]:
    """The masks of fine-tuning that are there for a product."""
    files = {UNFILTERED: folder / f"{name}_unfiltered.tif", SOM2: folder / f"{name}_mask.tif"}
    return {kind: file for kind, file in files.items() if file.is_file()}


def read_masks(
    scene: ComparedScene, cloud_share: float
) -> tuple[NDArray[np.integer], Grid, dict[str, NDArray[np.uint8]]]:
    """A product's reference, its grid, and every processor's mask on it; UserError for one that cannot be placed."""
    reference, grid = open_reference(scene.reference)
    masks = {}
    for processor, file in scene.ours.items():
        masks[processor], own_grid = read_mask(file)
        check_cover(scene.reference, grid, file, own_grid)
        grid = grid if grid.projection else own_grid
    for processor, mask in scene.others.items():
        masks[processor] = other_masks.read(mask, grid, cloud_share)
    return reference, grid, masks


def compare(scene: ComparedScene, rules: ScoringRules) -> Compared:
    """Count one product's pixels for every processor. Raises UserError, as `read_masks`."""
    reference, grid, masks = read_masks(scene, rules.cloud_share)
    left_out = np.isin(reference, rules.left_out_codes)
    nodata = np.logical_or.reduce([mask == MASK_NODATA for mask in masks.values()])
    scored = ~nodata & ~left_out
    bright = bright_pixels(scene.tiff, grid, rules.least_brightness) if scene.tiff.is_file() else None
    truth = np.isin(reference, rules.cloud_codes)
    is_bright_land = scored & bright & (reference == LAND) if bright is not None else np.zeros_like(scored)
    found = None
    if scene.classes:
        layer, own_grid = read_layer(scene.classes)
        check_cover(scene.reference, grid, scene.classes, own_grid)
        found = classes.confusion(layer, reference, (masks[SOM1] != MASK_NODATA) & ~left_out)
    return Compared(
        scene.name,
        scene.role(),
        {name: count_blocks(mask == CLOUD, truth, scored, is_bright_land) for name, mask in masks.items()},
        int(scored.size - scored.sum()),
        {
            name: surfaces(np.where(nodata, np.uint8(MASK_NODATA), mask), reference, bright)
            for name, mask in masks.items()
        },
        found,
    )


def count_blocks(
    cloud: NDArray[np.bool_], truth: NDArray[np.bool_], scored: NDArray[np.bool_], bright_land: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """What is counted in each block of a scene (height, width): (blocks, 6); blocks without a scored pixel left out."""
    found = []
    for top, left in itertools.product(range(0, scored.shape[0], BLOCK), range(0, scored.shape[1], BLOCK)):
        block = slice(top, top + BLOCK), slice(left, left + BLOCK)
        c, t, s, b = (layer[block] for layer in (cloud, truth, scored, bright_land))
        found.append([*tally(c, t, s), int(b.sum()), int((b & c).sum())])
    counts = np.array(found, np.int64).reshape(-1, bootstrap.COUNTED)
    return counts[counts[:, : len(COUNTS)].any(axis=1)]


def bright_pixels(tiff: Path, grid: Grid, least: float) -> NDArray[np.bool_] | None:
    """Which pixels of an image have a mean reflectance of at least `least` in B2, B3, B4; None on another grid."""
    with open_scene(tiff) as scene:
        if scene.grid.difference(grid):
            return None
        parts = [brightness(spectra) >= least for spectra in spectra_of(scene)]
    return np.concatenate(parts).reshape(grid.height, grid.width)


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Scenes of one role that have masks of all its processors, which summary rows are made of."""

    role: str
    processors: list[str]
    scenes: list[Compared]

    def counted(self, processor: str) -> NDArray[np.int64]:
        """What a processor's masks count over all scenes (6,), as `bootstrap.COUNTED` says."""
        return np.concatenate([scene.counts[processor] for scene in self.scenes]).sum(axis=0)


def groups(compared: list[Compared]) -> list[Group]:
    """The scenes to sum up, those held out first, or all where none has a role; only those with every mask."""
    roles = [role for role in (HELD_OUT, TUNED_ON) if any(scene.role == role for scene in compared)] or [""]
    found = []
    for role in roles:
        own = [scene for scene in compared if scene.role == role]
        every = dict.fromkeys(name for scene in own for name in scene.counts)
        processors = [name for name in OURS if name in every] + [name for name in every if name not in OURS]
        complete = [scene for scene in own if set(scene.counts) == set(processors)]
        if complete:
            found.append(Group(role, processors, complete))
    return found


def processors_table(compared: list[Compared]) -> pd.DataFrame:
    """processors.csv: a row a processor and product, then `mean` and `pooled` of each role.

    Measures, pixels and counts, and the ends of the measures' 95 % intervals.
    """
    table = []
    for scene in compared:
        estimate, _ = bootstrap.pooled_and_mean([np.stack(list(scene.counts.values()))])
        counted = {name: _pixels(counts.sum(axis=0), scene.excluded) for name, counts in scene.counts.items()}
        table += _rows(scene.product, scene.role, estimate, counted)
    for group in groups(compared):
        pooled, mean = _estimates(group)
        excluded = sum(scene.excluded for scene in group.scenes)
        counted = {name: _pixels(group.counted(name), excluded) for name in group.processors}
        sizes = {name: {"pixels": own["pixels"]} for name, own in counted.items()}
        table += _rows("mean", group.role, mean, sizes) + _rows("pooled", group.role, pooled, counted)
    return pd.DataFrame(table).astype(dict.fromkeys(("pixels", *COUNTS, "excluded"), "Int64"))


def _estimates(group: Group) -> tuple[Estimate, Estimate]:
    """Pooled and mean measures of a group, by the order of its processors."""
    return bootstrap.pooled_and_mean([np.stack([s.counts[name] for name in group.processors]) for s in group.scenes])


def _pixels(sums: NDArray[np.int64], excluded: int) -> dict[str, int]:
    counts = dict(zip(COUNTS, sums[: len(COUNTS)].tolist(), strict=True))
    return {"pixels": sum(counts.values()), **counts, "excluded": excluded}


def _rows(product: str, role: str, estimate: Estimate, counted: dict[str, dict[str, int]]) -> list[dict[str, object]]:
    """A row a processor, from an estimate and pixels by processor in its order."""
    ends = dict(zip(("low", "high"), estimate.interval(), strict=True))
    rows: list[dict[str, object]] = []
    for i, (name, pixels) in enumerate(counted.items()):
        values = dict(zip(ALL_MEASURES, estimate.values[i].tolist(), strict=True))
        own = {f"{m}_{end}": float(at[i, j]) for j, m in enumerate(ALL_MEASURES) for end, at in ends.items()}
        rows.append({"processor": name, "product": product, "role": role, **values, **pixels, **own})
    return rows


def classes_table(compared: list[Compared]) -> pd.DataFrame:
    """classes.csv of the products with a class map; see `classes.classes_table`."""
    return classes.classes_table({scene.product: scene.classes for scene in compared if scene.classes is not None})


def differences_table(compared: list[Compared]) -> pd.DataFrame:
    """differences.csv: our final mask minus each other processor, a row a role, summary, processor and measure.

    `beyond_chance` is yes where the 95 % interval of the difference does not hold zero.
    """
    table = []
    for group in groups(compared):
        final = next((name for name in (SOM2, SOM1) if name in group.processors), group.processors[0])
        for kind, estimate in zip(("pooled", "mean"), _estimates(group), strict=True):
            values, ends = estimate.differences(group.processors.index(final))
            for i, name in enumerate(group.processors):
                each = zip(ALL_MEASURES, values[i].tolist(), *ends[:, i].tolist(), strict=True)
                for measure, difference, low, high in each if name != final else ():
                    sure = "" if np.isnan(low) else "yes" if low > 0 or high < 0 else "no"
                    table.append((final, name, kind, group.role, measure, difference, low, high, sure))
    columns = ["of", "minus", "product", "role", "measure", "difference", "low", "high", "beyond_chance"]
    return pd.DataFrame(table, columns=columns)


def surfaces_table(compared: list[Compared]) -> pd.DataFrame:
    """surfaces.csv: pixels and share called cloud, a row a product, masks and surface, then `pooled` of each role."""
    rows = [(scene.product, scene.role, name, found) for scene in compared for name, found in scene.surfaces.items()]
    for group in groups(compared):
        for name in group.processors:
            sums: dict[str, tuple[int, int]] = {}
            for surface, (pixels, cloud) in (pair for scene in group.scenes for pair in scene.surfaces[name].items()):
                before = sums.get(surface, (0, 0))
                sums[surface] = before[0] + pixels, before[1] + cloud
            rows.append(("pooled", group.role, name, sums))
    lines = [
        (product, role, name, surface, pixels, cloud, cloud / pixels)
        for product, role, name, found in rows
        for surface, (pixels, cloud) in found.items()
    ]
    columns = ["product", "role", "masks", "surface", "pixels", "called_cloud", "share"]
    return pd.DataFrame(lines, columns=columns)


#: What the summary line says of the scenes it is about.
OF = {HELD_OUT: "scenes held out from fine-tuning", TUNED_ON: "scenes fine-tuned on, as in the paper", "": "scenes"}


def summary(compared: list[Compared]) -> str:
    """One line: recall, false alarms and those on bright land of every processor, pooled, and over what."""
    found = groups(compared)
    if not found:
        return "no scene has a mask of every processor, so nothing is summed up"
    group = found[0]
    sums = {name: group.counted(name) for name in group.processors}
    pixels = int(next(iter(sums.values()))[:4].sum())
    values = {name: dict(zip(ALL_MEASURES, bootstrap.rates(total), strict=True)) for name, total in sums.items()}
    wanted = {
        "recall": "recall",
        "false_alarm_rate": "false alarms",
        "bright_land_false_alarms": "false alarms on bright land",
    }
    parts = [
        f"{words} {' -> '.join(f'{own[measure]:.4f}' for own in values.values())}"
        for measure, words in wanted.items()
        if not any(np.isnan(own[measure]) for own in values.values())
    ]
    what = f"{len(group.scenes)} {OF[group.role]}, {pixels:,} pixels that all have"
    return f"{what}; {' -> '.join(group.processors)}: {', '.join(parts)}"
