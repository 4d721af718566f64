"""Final masks: the corrected map's labels, then the median filter and the dilation (paper, section 2.2, stage 3)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cloudsom.files import stores
from cloudsom.files.stores import Snapshot
from cloudsom.images.filters import final_mask
from cloudsom.images.pixels import grid_of_scene
from cloudsom.images.rasters import write_mask
from cloudsom.masking.labelling import mask_of_scene, shares
from cloudsom.masking.layers import MASK_LEGEND, write_legend
from cloudsom.som import labelled_map
from cloudsom.tuning.scenes import Split


@dataclass(frozen=True)
class FinalMasks:
    """What the final masks of all products are made by; fit to send to a worker.

    tuned_npz  the map of all samples, then the maps of the folds
    filters    size of the median filter, radius and shape of the dilation, in pixels
    """

    settings: Snapshot
    split: Split
    tuned_npz: Sequence[Path]
    mask_dir: Path
    method: str
    filters: tuple[int, int, str]
    overwrite: bool


def create_final_mask(name: str, source: Path, tiff: Path, how: FinalMasks) -> str:
    """Write one product's final mask, and the mask before the filters; returns a line of summary.

    Their tags say what the product was to fine-tuning.
    """
    grid = grid_of_scene(source, tiff)
    fold = how.split.fold_of(name)
    tags = {
        "PRODUCT": name,
        "METHOD": f"SOM2 ({how.method})",
        "FILTERS": "median {}, dilation {} {}".format(*how.filters),
        "TUNED_ON": "yes" if how.split.tuned_on(name) else "no",
        "TEST": "yes" if name in how.split.test else "no",
    } | ({"FOLD": str(fold)} if fold else {})
    tuned_npz = how.tuned_npz[fold]
    # No role in capitals for a fold's map: masks by the maps of several folds are of one run.
    role = f"FINETUNED_MAP_NPZ of fold {fold}" if fold else "FINETUNED_MAP_NPZ"
    of_this = replace(how.settings, constants=how.settings.constants | tags)
    made_by = stores.recipe(of_this, {source.name: source, tiff.name: tiff, role: tuned_npz})
    files = {kind: how.mask_dir / f"{name}_{kind}.tif" for kind in ("mask", "unfiltered")}
    if done := stores.up_to_date(list(files.values()), made_by, how.overwrite):
        return done
    unfiltered = mask_of_scene(source, tiff, labelled_map.load(tuned_npz))
    mask = final_mask(unfiltered, *how.filters)
    for file in files.values():
        write_legend(file, MASK_LEGEND)
    with stores.product(files["unfiltered"], made_by) as product:
        write_mask(product.partial, unfiltered, grid, tags=tags | {"FILTERS": "none"})
    with stores.product(files["mask"], made_by) as product:
        write_mask(product.partial, mask, grid, tags=tags)
        share, before = (shares(layer)["cloud_share"] for layer in (mask, unfiltered))
        product.results |= {"cloud_share": share, "cloud_share_unfiltered": before}
        product.results["summary"] = f"cloud {share:.2%} of the pixels with data ({before:.2%} before the filters)"
    return f"{files['mask']}: {product.results['summary']}"
