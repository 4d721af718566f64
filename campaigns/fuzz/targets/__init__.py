"""The readers that are tried: how good files of each come about, and how each is read."""

from campaigns.fuzz.engine import Target
from campaigns.fuzz.targets import hdf5, models, other_masks, products, rasters, records, tables, vectors

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        hdf5.HDF5,
        tables.CSV,
        rasters.GEOTIFF,
        rasters.JP2,
        products.XML,
        products.ZIP,
        models.PICKLE,
        models.NPZ,
        records.JSON,
        vectors.VECTOR,
        other_masks.OTHER_MASK,
    )
}
