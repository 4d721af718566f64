"""Small runs on disk, as the steps leave them, for the figures and pages; and scripts called in this process."""

from pathlib import Path
from types import ModuleType

import numpy as np
from conftest import make_spectra, write_reference, write_scene
from minisom import MiniSom
from osgeo import gdal
from sklearn.preprocessing import MinMaxScaler

from cloudsom.bands import CLOUD, MASK_NODATA
from cloudsom.files import stores
from cloudsom.images.rasters import Grid, read_mask, write_mask
from cloudsom.som import labelled_map, labels, model, submaps
from cloudsom.som.bmu import BMUSearch
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.tables import csv_tables


def make_run(folder: Path, scenes: tuple[str, ...] = ("SCENE_A", "SCENE_B")) -> Path:
    """A data folder as steps 1 to 9 leave it: 2,000 made spectra, a map of 6 x 5 neurons, small scenes with masks."""
    spectra, codes = make_spectra(2000)
    folder.mkdir(parents=True, exist_ok=True)
    csv_tables.write_spectra(folder / "training_spectra.csv", [(spectra, codes)])
    scaler = MinMaxScaler().fit(spectra.astype(np.float64))
    stores.dump_pickle(scaler, folder / "scaler.p")
    scaled = model.scale(spectra.astype(np.float64), scaler)
    som = MiniSom(6, 5, 13, random_seed=1)
    som._weights = scaled[np.argsort(scaled[:, 7])[::66][:30]].reshape(6, 5, 13)
    stores.dump_pickle(som, folder / "SOM_trained.p")
    counts = labels.hit_maps(BMUSearch(som.get_weights())(scaled).index, codes, 30)
    voted = labels.majority_vote(counts, som.get_weights(), (50, 40, 10, 20, 30, 60), "nearest")
    model.hit_maps_table(counts, 6, 5).to_csv(folder / "hit_maps.csv", index=False)
    model.neuron_labels_table(voted).to_csv(folder / "neuron_labels.csv", index=False)
    for i, name in enumerate(scenes):
        make_scene(folder, name, i)
    return folder


def make_scene(folder: Path, name: str, seed: int) -> None:
    """A scene of 40 x 30 pixels with a bright square, its mask and its reference; the left column is nodata."""
    dn = np.random.default_rng(seed).integers(300, 900, (40, 30, 13)).astype(np.uint16)
    dn[8 : 20 + seed, 10:20] = 7000
    dn[:, 0] = 0
    tiff = write_scene(folder / "tiff" / f"{name}.tif", dn)
    cloud = np.where(dn[:, :, 0] == 0, MASK_NODATA, np.where(dn[:, :, 0] > 5000, CLOUD, 0)).astype(np.uint8)
    (folder / "masks").mkdir(exist_ok=True)
    write_mask(folder / "masks" / f"{name}_mask.tif", cloud, grid_of(tiff))
    reference = np.where(cloud == CLOUD, 2, 5)
    reference[6:9, 10:20], reference[30:, :] = 3, 1
    write_reference(folder, name, reference)


def fine_tune(folder: Path) -> Path:
    """Corrected labels, one cloud neuron turned to clear, and masks that are larger by one row."""
    table = model.read_table(folder / "neuron_labels.csv", model.LABEL_COLUMNS)
    table.loc[table.index[table["cloud"] == CLOUD][0], "cloud"] = 0
    table.to_csv(folder / "neuron_labels_finetuned.csv", index=False)
    (folder / "masks_finetuned").mkdir(exist_ok=True)
    for mask_file in sorted((folder / "masks").glob("*_mask.tif")):
        mask, grid = read_mask(mask_file)
        mask[7, 10:20] = CLOUD
        write_mask(folder / "masks_finetuned" / mask_file.name, mask, grid, tags={"TUNED_ON": "no"})
    return folder


def tuned_map(inner: dict[int, submaps.SubMap], rows: int = 6, columns: int = 5) -> LabelledMap:
    """A corrected map of equal neurons, all cloud, with these sub-maps by flat position."""
    n = rows * columns
    labelled = labels.NeuronLabels(rows, columns, np.full(n, 50, np.uint8), np.full(n, CLOUD, np.uint8), np.ones(n))
    return LabelledMap(np.zeros((rows, columns, 13)), np.ones(13), np.zeros(13), labelled, submaps=inner)


def made_submap(cloud: np.ndarray, size: int = 4) -> submaps.SubMap:
    """A sub-map with these labels (size * size,), its sub-neurons at random places."""
    weights = np.random.default_rng(2).random((size, size, 13))
    return submaps.SubMap(np.zeros(13), np.eye(13), weights, cloud.astype(np.uint8))


def split_neurons(folder: Path, neurons: tuple[int, ...]) -> Path:
    """fine_tuning.py's map, with a sub-map in each of `neurons`, and its table, in a data folder."""
    cloud = np.where(np.arange(16) < 5, 0, CLOUD)
    tuned = tuned_map({neuron: made_submap(cloud) for neuron in neurons})
    labelled_map.save(folder / "neuron_labels_finetuned.npz", tuned)
    (folder / "flip_table.csv").write_text('neuron,cirrus,opaque_cloud,samples_and_copies\n"2,3",30,400,1234\n')
    return folder


def grid_of(tiff: Path) -> Grid:
    dataset = gdal.Open(str(tiff))
    return Grid(dataset.RasterXSize, dataset.RasterYSize, dataset.GetGeoTransform(), dataset.GetProjection())


def call(script: ModuleType, data_dir: Path, **constants: object) -> None:
    """Run a script's main() in this process with its constants set, and set them back."""
    chosen = {"DATA_DIR": str(data_dir), "WORKERS": 1, **constants}
    before = {name: vars(script)[name] for name in chosen if name in vars(script)}
    vars(script).update({name: chosen[name] for name in before})
    try:
        script.main()
    finally:
        vars(script).update(before)
