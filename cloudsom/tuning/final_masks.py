"""Final masks: the corrected map's labels, then the median filter and the dilation (paper, section 2.2, stage 3)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cloudsom.bands import CLOUD, MASK_NODATA
from cloudsom.files import stores
from cloudsom.files.stores import Snapshot
from cloudsom.images.filters import final_mask
from cloudsom.images.pixels import grid_of_scene
from cloudsom.images.rasters import write_mask
from cloudsom.masking.labelling import mask_of_scene
from cloudsom.masking.layers import MASK_LEGEND, write_legend
from cloudsom.running.job import Job
from cloudsom.som import labelled_map
from cloudsom.tuning.scenes import Scenes, Split


@dataclass(frozen=True)
class FinalMaskJob:
    """All that one product's final mask takes; fit to send to a worker.

    map_role  FINETUNED_MAP_NPZ, or for the map of a fold a name of another form, so that masks by the maps of several
              folds are of one run
    tags      what the mask's tags say of it
    filters   size of the median filter, radius and shape of the dilation, in pixels
    """

    settings: Snapshot
    source: Path
    tiff: Path
    map_role: str
    tuned_npz: Path
    mask_dir: Path
    tags: dict[str, str]
    filters: tuple[int, int, str]
    overwrite: bool

    def file(self, kind: str) -> Path:
        """The product's mask of a kind: mask (final), or unfiltered."""
        return self.mask_dir / f"{self.tiff.stem}_{kind}.tif"


def jobs_of(
    chosen: dict[str, Path],
    scenes: Scenes,
    split: Split,
    method: str,
    filters: tuple[int, int, str],
    tuned_npz: Sequence[Path],
    mask_dir: Path,
    settings: Snapshot,
    overwrite: bool,
) -> list[Job]:
    """The jobs of the products `chosen` (spectra by name), with tags that say what each was to fine-tuning.

    tuned_npz  the map of all samples, then the maps of the folds
    """
    jobs = []
    for name, source in chosen.items():
        fold = split.fold_of(name)
        role = f"FINETUNED_MAP_NPZ of fold {fold}" if fold else "FINETUNED_MAP_NPZ"
        tags = {
            "PRODUCT": name,
            "METHOD": f"SOM2 ({method})",
            "FILTERS": "median {}, dilation {} {}".format(*filters),
            "TUNED_ON": "yes" if split.tuned_on(name) else "no",
            "TEST": "yes" if name in split.test else "no",
        } | ({"FOLD": str(fold)} if fold else {})
        files = settings, source, scenes.tiff(name), role, tuned_npz[fold], mask_dir
        jobs.append(Job(name, (FinalMaskJob(*files, tags, filters, overwrite),)))
    return jobs


def create_final_mask(job: FinalMaskJob) -> str:
    """Write one product's final mask, and the mask before the filters; returns a line of summary."""
    grid = grid_of_scene(job.source, job.tiff)
    of_this = replace(job.settings, constants=job.settings.constants | job.tags)
    inputs = {job.source.name: job.source, job.tiff.name: job.tiff, job.map_role: job.tuned_npz}
    made_by = stores.recipe(of_this, inputs)
    if done := stores.up_to_date([job.file("mask"), job.file("unfiltered")], made_by, job.overwrite):
        return done
    unfiltered = mask_of_scene(job.source, job.tiff, labelled_map.load(job.tuned_npz))
    mask = final_mask(unfiltered, *job.filters)
    for kind in ("unfiltered", "mask"):
        write_legend(job.file(kind), MASK_LEGEND)
    with stores.product(job.file("unfiltered"), made_by) as product:
        write_mask(product.partial, unfiltered, grid, tags=job.tags | {"FILTERS": "none"})
    with stores.product(job.file("mask"), made_by) as product:
        write_mask(product.partial, mask, grid, tags=job.tags)
        valid = max(int((mask != MASK_NODATA).sum()), 1)
        shares = [int((layer == CLOUD).sum()) / valid for layer in (mask, unfiltered)]
        product.results |= {"cloud_share": shares[0], "cloud_share_unfiltered": shares[1]}
        text = f"cloud {shares[0]:.2%} of the pixels with data ({shares[1]:.2%} before the filters)"
        product.results["summary"] = text
    return f"{job.file('mask')}: {product.results['summary']}"
