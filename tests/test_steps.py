"""The steps as a user runs them, on small made data: what they write, and what they say of bad input."""

import json
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, make_spectra, run_script, write_h5, write_reference, write_scene
from minisom import MiniSom
from sklearn.preprocessing import MinMaxScaler

import BMUs_detection
from cloudsom.bands import BANDS, MASK_NODATA, SAFE_BANDS
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.images.rasters import open_raster, read_layer, read_mask
from cloudsom.som import labelled_map
from cloudsom.tables import csv_tables

Ok = Callable[..., str]
STEP1 = ("read_h5file.py", "--H5_FILES", "spectra.h5", "--SPECTRA_CSVS", "spectra.csv")
STEP2 = ("data_preprocessing.py", "--SPECTRA_CSVS", "spectra.csv")


def step(ok: Ok, folder: Path, script: str, *words: object) -> str:
    return ok(script, "--DATA_DIR", folder, *words)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file but the locks, with its bytes."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.endswith(".lock")
    }


# --- steps 1 and 2 ----------------------------------------------------------------------------------------------------


def test_step_1_maps_unsorted_class_ids_by_position(ok: Ok, tmp_path: Path) -> None:
    spectra, _ = make_spectra(6)
    ids = np.array([1, 2, 3, 4, 5, 6])  # ids of the file's own, in its own order
    write_h5(tmp_path / "spectra.h5", spectra, ids, class_ids=np.array([3, 1, 2, 6, 5, 4], np.int32))
    said = step(ok, tmp_path, *STEP1)
    got, labels = csv_tables.read_all_spectra(tmp_path / "spectra.csv", dtype=np.float32)
    # The names are Clear, Water, Snow, Cirrus, Cloud, Shadow for the ids 3, 1, 2, 6, 5, 4.
    assert labels.tolist() == [20, 60, 10, 30, 50, 40]
    assert np.array_equal(got, spectra)
    assert "6 rows read (land 1, water 1, shadow 1, cirrus 1, opaque cloud 1, snow 1); 0 rows not finite" in said


def test_step_1_drops_non_finite_rows_when_told(ok: Ok, refused: Ok, tmp_path: Path) -> None:
    spectra, labels = make_spectra(50)
    spectra[7, 3], spectra[9, 0] = np.nan, np.inf
    write_h5(tmp_path / "spectra.h5", spectra, labels)
    assert "row 7 holds a NaN" in refused(*STEP1, "--DATA_DIR", tmp_path)
    assert not (tmp_path / "spectra.csv").exists()
    assert "48 rows read" in step(ok, tmp_path, *STEP1, "--NON_FINITE", "drop")


def test_step_2_scales_by_all_rows_and_draws_from_all_rows(ok: Ok, tmp_path: Path) -> None:
    for i, name in enumerate(("spectra.h5", "more.h5")):
        write_h5(tmp_path / name, *make_spectra(400, seed=i))
    both = ["--SPECTRA_CSVS", "spectra.csv", "more.csv"]
    step(ok, tmp_path, "read_h5file.py", "--H5_FILES", "spectra.h5", "more.h5", *both)
    step(ok, tmp_path, "data_preprocessing.py", *both)
    everything, _ = csv_tables.read_all_spectra(tmp_path / "training_spectra.csv", dtype=np.float64)
    assert len(everything) == 800
    scaler = pickle.loads((tmp_path / "scaler.p").read_bytes())
    expected = MinMaxScaler().fit(everything)
    assert np.array_equal(scaler.scale_, expected.scale_) and np.array_equal(scaler.min_, expected.min_)

    step(ok, tmp_path, "data_preprocessing.py", *both, "--SAMPLE_SIZE", 100)
    sample, _ = csv_tables.read_all_spectra(tmp_path / "training_spectra.csv", dtype=np.float64)
    rows = {row.tobytes(): i for i, row in enumerate(everything)}
    drawn = [rows[row.tobytes()] for row in sample]
    assert len(set(drawn)) == 100 and drawn == sorted(drawn) and min(drawn) < 100 and max(drawn) > 700
    assert np.array_equal(pickle.loads((tmp_path / "scaler.p").read_bytes()).scale_, expected.scale_)


def test_step_2_counts_and_drops_duplicates(ok: Ok, tmp_path: Path) -> None:
    spectra, labels = make_spectra(20)
    write_h5(
        tmp_path / "spectra.h5",
        np.concatenate([spectra, spectra[:5], spectra[:2]]),
        np.concatenate([labels, labels[:5], np.where(labels[:2] == 10, 20, 10)]),
    )
    step(ok, tmp_path, *STEP1)
    said = step(ok, tmp_path, *STEP2)
    assert "27 written; 5 repeat an earlier row exactly, 2 spectra stand there again with another label" in said
    assert "22 written" in step(ok, tmp_path, *STEP2, "--DROP_DUPLICATES")


H5_FAULTS: dict[str, tuple[dict[str, object], str]] = {
    "no spectra": ({"spectra": None}, "no dataset 'spectra'"),
    "12 bands": ({"spectra": np.ones((6, 12), np.float32)}, "13 bands a row are needed"),
    "no rows": ({"spectra": np.ones((0, 13), np.float32), "classes": np.ones(0, np.int32)}, "holds no spectra"),
    "label outside the six": ({"classes": np.array([10, 20, 70, 10, 10, 10])}, "row 2 has the label 70"),
    "unknown class name": (
        {"class_names": np.array([b"Clear", b"Haze", b"Shadow", b"Cirrus", b"Cloud", b"Snow"])},
        "'Haze' is not one of",
    ),
    "B8a last": (
        {"band": np.array([b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9", b"10", b"11", b"12", b"8a"])},
        "needed, in this order",
    ),
    "digital numbers": ({"spectra": np.full((6, 13), 1234, np.float32)}, "reflectance is needed as a fraction"),
    "fewer classes than spectra": ({"classes": np.array([10, 20])}, "'classes' has the shape"),
    "text for numbers": ({"spectra": np.full((6, 13), b"x")}, "not values of the kind needed"),
}


@pytest.mark.parametrize("fault", H5_FAULTS)
def test_step_1_refuses(refused: Ok, tmp_path: Path, fault: str) -> None:
    changes, said = H5_FAULTS[fault]
    write_h5(tmp_path / "spectra.h5", *make_spectra(6), **changes)
    line = refused(*STEP1, "--DATA_DIR", tmp_path)
    assert said in line and "spectra.h5" in line
    assert set(files_of(tmp_path)) == {"spectra.h5"}


def test_step_1_refuses_damaged_and_missing_files(refused: Ok, spectra_h5: Path) -> None:
    folder = spectra_h5.parent
    whole = spectra_h5.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not HDF5"):
        spectra_h5.write_bytes(damaged)
        assert "spectra.h5: cannot be read as HDF5" in refused(*STEP1, "--DATA_DIR", folder)
    spectra_h5.unlink()
    assert "spectra.h5: no such file" in refused(*STEP1, "--DATA_DIR", folder)
    assert files_of(folder) == {}


def test_step_1_refuses_a_file_damaged_in_the_middle(refused: Ok, tmp_path: Path) -> None:
    place = tmp_path / "spectra.h5"
    spectra, labels = make_spectra(5000)
    write_h5(place, spectra, labels, spectra=None)
    with h5py.File(place, "a") as handle:
        data = handle.create_dataset("spectra", data=spectra, chunks=(500, 13), compression="gzip")
        offset, size = data.id.get_chunk_info(7).byte_offset, data.id.get_chunk_info(7).size
    with open(place, "r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * size)
    assert "cannot be read as HDF5" in refused(*STEP1, "--DATA_DIR", tmp_path)
    assert set(files_of(tmp_path)) == {"spectra.h5"}


CSV_FAULTS = {
    "empty": ("", "is empty"),
    "only a header": (",".join(BANDS) + ",label\n", ""),
    "other columns": ("a,b,c\n1,2,3\n", "has other columns"),
    "other order": (",".join([*BANDS[:7], "B8a", "B8", *BANDS[9:]]) + ",label\n" + "0.1," * 13 + "10\n", "B8a where"),
    "no label": (",".join(BANDS) + "\n" + ",".join(["0.1"] * 13) + "\n", "label"),
    "NaN": (",".join(BANDS) + ",label\n" + "nan," + "0.1," * 12 + "10\n", "finite"),
    "label outside the six": (",".join(BANDS) + ",label\n" + "0.1," * 13 + "15\n", "15"),
    "a word": (",".join(BANDS) + ",label\n" + "0.1," * 12 + "x,10\n", "line 2"),
}


@pytest.mark.parametrize("fault", CSV_FAULTS)
def test_step_2_refuses(refused: Ok, tmp_path: Path, fault: str) -> None:
    text, said = CSV_FAULTS[fault]
    (tmp_path / "spectra.csv").write_text(text)
    line = refused(*STEP2, "--DATA_DIR", tmp_path)
    assert "spectra.csv" in line and said in line
    assert set(files_of(tmp_path)) == {"spectra.csv"}


# --- steps 3 to 5 -----------------------------------------------------------------------------------------------------


def test_the_map_loads_with_minisom_alone(trained: Path) -> None:
    code = (
        "import pickle, sys; som = pickle.load(open(sys.argv[1], 'rb')); "
        "assert not any(m.split('.')[0] == 'cloudsom' for m in sys.modules); "
        "print(type(som).__module__, som.get_weights().shape, som.winner([0.1] * 13))"
    )
    command = [sys.executable, "-I", "-c", code, str(trained / "SOM_trained.p")]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.stdout.startswith("minisom (6, 5, 13)"), done.stderr


def test_bmus_equal_minisoms_winner_and_hit_maps_their_count(trained: Path) -> None:
    som = pickle.loads((trained / "SOM_trained.p").read_bytes())
    scaler = pickle.loads((trained / "scaler.p").read_bytes())
    spectra, labels = csv_tables.read_all_spectra(trained / "training_spectra.csv", dtype=np.float64)
    winners = [som.winner(row) for row in scaler.transform(spectra)]
    assert csv_tables.read_bmus(trained / "BMUs.csv").tolist() == [list(map(int, w)) for w in winners]
    hits = pd.read_csv(trained / "hit_maps.csv").set_index(["row", "column"])
    for (neuron, label), n in pd.Series(list(zip(winners, labels, strict=True))).value_counts().items():
        name = {10: "land", 20: "water", 30: "shadow", 40: "cirrus", 50: "opaque_cloud", 60: "snow"}[label]
        assert hits.loc[neuron, name] == n
    assert hits.to_numpy().sum() == len(spectra)


def test_a_seed_fixes_the_map_and_another_changes_it(ok: Ok, trained: Path, tmp_path: Path) -> None:
    for name in ("training_spectra.csv", "scaler.p"):
        shutil.copy(trained / name, tmp_path)
    words = ("--N_ROWS", 6, "--N_COLUMNS", 5, "--N_ITER", 3000)
    made = {}
    for name, more in {"a": (), "b": ("--SEED", 1), "c": ("--TRAINER", "minisom")}.items():
        step(ok, tmp_path, "SOM_training.py", *words, "--SOM_FILE", f"{name}.p", *more)
        made[name] = (tmp_path / f"{name}.p").read_bytes()
    assert made["a"] == (trained / "SOM_trained.p").read_bytes() == made["c"] != made["b"]


def test_the_authors_bmu_table_is_read(ok: Ok, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    bmus = csv_tables.read_bmus(tmp_path / "BMUs.csv")
    ours = (tmp_path / "hit_maps.csv").read_bytes()
    header = "position1, #position2"
    np.savetxt(tmp_path / "BMUs.csv", bmus, fmt="%10.5f", delimiter=",", header=header)
    step(ok, tmp_path, "labeling.py")
    assert (tmp_path / "hit_maps.csv").read_bytes() == ours


def test_bad_models_are_refused(refused: Ok, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    (tmp_path / "SOM_trained.p.json").unlink()
    stores.dump_pickle(MiniSom(6, 5, 12, random_seed=0), tmp_path / "SOM_trained.p")
    assert "trained on 12 bands" in refused("BMUs_detection.py", "--DATA_DIR", tmp_path)
    stores.dump_pickle(MinMaxScaler().fit(np.ones((2, 13))), tmp_path / "SOM_trained.p")
    assert "holds a MinMaxScaler, not a MiniSom" in refused("BMUs_detection.py", "--DATA_DIR", tmp_path)
    (tmp_path / "SOM_trained.p").write_bytes(pickle.dumps(print))
    assert "builtins.print is refused" in refused("BMUs_detection.py", "--DATA_DIR", tmp_path)


def test_scaler_and_map_of_different_runs_are_refused(ok: Ok, refused: Ok, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    write_h5(tmp_path / "spectra.h5", *make_spectra(500, seed=9))
    step(ok, tmp_path, *STEP1)
    step(ok, tmp_path, *STEP2)  # another training table and scaler; the map is still the old one
    line = refused("BMUs_detection.py", "--DATA_DIR", tmp_path)
    assert "SOM_trained.p: was made with another" in line and "different runs" in line


def test_bmus_of_another_table_or_map_are_refused(refused: Ok, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    (tmp_path / "BMUs.csv").write_text("position1,position2\n0,0\n1,1\n")
    assert "holds 2 BMUs" in refused("labeling.py", "--DATA_DIR", tmp_path)
    (tmp_path / "BMUs.csv").write_text("position1,position2\n0,0\n6,1\n")
    assert "row 1 names the neuron (6, 1), the map has 6 x 5" in refused("labeling.py", "--DATA_DIR", tmp_path)


def test_settings_without_sense_are_refused(refused: Ok, trained: Path) -> None:
    for words, said in (
        (("--N_ITER", 0), "N_ITER is 0; it is a number in [1, 1e12]"),
        (("--RADIUS_END", 0), "RADIUS_END"),
        (("--SEED", -1), "SEED"),
        (("--N_ITERS", 5), "nearest setting is --N_ITER"),
    ):
        assert said in refused("SOM_training.py", "--DATA_DIR", trained, *words)
    assert "TIE_ORDER" in refused("labeling.py", "--DATA_DIR", trained, "--TIE_ORDER", 10, 20)


def test_the_weights_of_a_susi_map_are_a_trained_map(ok: Ok, refused: Ok, trained: Path, tmp_path: Path) -> None:
    import susi

    for name in ("training_spectra.csv", "scaler.p"):
        shutil.copy(trained / name, tmp_path)
    spectra, _ = csv_tables.read_all_spectra(tmp_path / "training_spectra.csv", dtype=np.float64)
    scaled = pickle.loads((tmp_path / "scaler.p").read_bytes()).transform(spectra)
    theirs = susi.SOMClustering(n_rows=6, n_columns=5, n_iter_unsupervised=300, random_state=0, n_jobs=1).fit(scaled)
    (tmp_path / "theirs.p").write_bytes(pickle.dumps(theirs, 2))
    words = ("SOM_training.py", "--IMPORT_SUSI", "theirs.p")
    assert "6 x 5 neurons, weights of the susi map theirs.p; not trained" in step(ok, tmp_path, *words)
    written = (tmp_path / "SOM_trained.p").read_bytes()
    ours = pickle.loads(written)
    assert type(ours) is MiniSom and np.array_equal(ours.get_weights(), theirs.unsuper_som_)
    assert vars(ours).keys() == vars(pickle.loads((trained / "SOM_trained.p").read_bytes())).keys()
    record = json.loads((tmp_path / "SOM_trained.p.json").read_text())
    assert record["inputs"].keys() == {"IMPORT_SUSI"} and record["constants"] == {}
    assert "is up to date" in step(ok, tmp_path, *words)
    step(ok, tmp_path, *words, "--OVERWRITE")
    assert (tmp_path / "SOM_trained.p").read_bytes() == written
    step(ok, tmp_path, "BMUs_detection.py")
    assert np.array_equal(csv_tables.read_bmus(tmp_path / "BMUs.csv"), theirs.bmus_)
    step(ok, tmp_path, "labeling.py")
    assert "holds a MiniSom, not a map of susi" in refused(
        "SOM_training.py", "--DATA_DIR", tmp_path, "--IMPORT_SUSI", trained / "SOM_trained.p"
    )


# --- steps 8 to 10 ----------------------------------------------------------------------------------------------------


def make_scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """DN (40, 30, 13) with a corner without data, and reference codes (40, 30) of the same pixels."""
    spectra, labels = make_spectra(1200, seed)
    dn = np.round(spectra * 10000).astype(np.uint16).reshape(40, 30, 13)
    codes = np.select([labels == c for c in (10, 20, 30, 40, 50, 60)], [5, 6, 4, 3, 2, 7]).reshape(40, 30)
    dn[:5, :5] = 0
    return dn, codes


@pytest.fixture
def scenes(trained: Path, tmp_path: Path) -> Path:
    """A data folder with a trained map and two scenes, A and B, with references."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    for i, name in enumerate("AB"):
        dn, codes = make_scene(i)
        codes[-1, :3] = 1
        write_scene(tmp_path / "tiff" / f"{name}.tif", dn)
        write_reference(tmp_path, name, codes)
    return tmp_path


def test_from_image_to_scores(ok: Ok, scenes: Path) -> None:
    said = step(ok, scenes, "convert_image_to_csv.py")
    assert "1,200 pixels; 2.08% without data; offset 0, quantification 10000" in said
    table = (scenes / "csv" / "A_converted.csv").read_text().splitlines()
    dn, codes = make_scene(0)
    assert table[0].startswith("#  #B1,  #B2,") and len(table) == 1201
    assert table[1] == ",".join(["       nan"] * 13)
    assert table[6] == ",".join(f"{value / 10000:10.4f}" for value in dn[0, 5])

    step(ok, scenes, "create_cloudmasks.py", "--CLASS_MAPS", "--CONFIDENCE")
    mask, grid = read_mask(scenes / "masks" / "A_mask.tif")
    classes, _ = read_layer(scenes / "masks" / "A_classes.tif")
    assert (mask[:5, :5] == MASK_NODATA).all() and (mask == MASK_NODATA).sum() == 25
    assert grid.transform == (600000.0, 60.0, 0.0, 4900020.0, 0.0, -60.0)
    known = classes != 0  # a neuron never hit has no class
    layers = open_raster(scenes / "masks" / "A_confidence.tif")
    share = layers.ReadAsArray()[0]
    assert "no probability" in layers.GetRasterBand(1).GetDescription()
    assert np.array_equal(np.isnan(share), ~known) and (share[(mask == 255) & known] >= 1 / 3).all()
    assert ((mask == 255) == np.isin(classes, (40, 50)))[known].all() and known.sum() > 1000
    som = pickle.loads((scenes / "SOM_trained.p").read_bytes())
    scaler = pickle.loads((scenes / "scaler.p").read_bytes())
    labels, hits = (pd.read_csv(scenes / f).set_index(["row", "column"]) for f in ("neuron_labels.csv", "hit_maps.csv"))
    for row, column in ((0, 5), (20, 7), (39, 29)):
        winner = som.winner(scaler.transform(dn[row, column][None] / 10000)[0])
        assert mask[row, column] == labels.loc[winner, "cloud"]
        votes = hits.loc[winner]
        assert np.isclose(share[row, column], (votes["cirrus"] + votes["opaque_cloud"]) / votes.sum())

    step(ok, scenes, "evaluation_metrics.py")
    matrix = pd.read_csv(scenes / "results" / "confusion_matrix.csv").set_index("product")
    truth = np.isin(codes, (2, 3))
    scored = mask != MASK_NODATA
    scored[-1, :3] = False
    assert matrix.loc["A"].tolist() == [
        (truth & (mask == 255) & scored).sum(),
        (truth & (mask == 0) & scored).sum(),
        (~truth & (mask == 255) & scored).sum(),
        (~truth & (mask == 0) & scored).sum(),
        28,
    ]
    metrics = pd.read_csv(scenes / "results" / "metrics.csv").set_index("product")
    assert list(metrics.index) == ["A", "B", "mean", "pooled"]
    assert np.isclose(metrics.loc["mean", "recall"], metrics.loc[["A", "B"], "recall"].mean(), atol=1e-6)
    total = matrix.sum()
    assert np.isclose(metrics.loc["pooled", "recall"], total["TP"] / (total["TP"] + total["FN"]), atol=1e-6)


def test_the_masks_are_the_same_from_the_plain_file(ok: Ok, refused: Ok, scenes: Path) -> None:
    step(ok, scenes, "convert_image_to_csv.py")
    words = ("create_cloudmasks.py", "--CLASS_MAPS", "--CONFIDENCE")
    step(ok, scenes, *words)
    with_pickles = files_of(scenes / "masks")
    for name in ("scaler.p", "SOM_trained.p", "neuron_labels.csv"):
        (scenes / name).unlink()
    step(ok, scenes, *words, "--MODEL_NPZ", "SOM_model.npz", "--MASK_DIR", "plain")
    for name in (name for name in with_pickles if name.endswith(".tif")):
        ours, theirs = (open_raster(scenes / folder / name).ReadAsArray() for folder in ("masks", "plain"))
        assert np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f"), name
    method = open_raster(scenes / "plain" / "A_mask.tif").GetMetadataItem("METHOD")
    assert method == "map of SOM_model.npz (0 sub-maps), unfiltered"
    assert "run step 5" in refused("create_cloudmasks.py", "--DATA_DIR", scenes, "--MODEL_NPZ", "none.npz")
    old = replace(labelled_map.load(scenes / "SOM_model.npz"), votes=None)
    labelled_map.save(scenes / "old.npz", old)
    assert "does not tell its neurons' votes" in refused(*words, "--DATA_DIR", scenes, "--MODEL_NPZ", "old.npz")
    (scenes / "other.npz").write_bytes(b"PK")
    assert "not a labelled map" in refused("create_cloudmasks.py", "--DATA_DIR", scenes, "--MODEL_NPZ", "other.npz")


def test_the_masks_are_the_same_from_tables_and_images_and_any_number_of_workers(ok: Ok, scenes: Path) -> None:
    step(ok, scenes, "convert_image_to_csv.py")
    made = {}
    for name, words in {"one": ("--WORKERS", 1), "two": ("--WORKERS", 2), "tiff": ("--PIXELS", "tiff")}.items():
        step(ok, scenes, "create_cloudmasks.py", "--CONFIDENCE", "--MASK_DIR", name, *words)
        made[name] = files_of(scenes / name)
    assert made["one"] == made["two"] and len(made["one"]) == 10
    tiffs = {name for name in made["one"] if name.endswith(".tif")}
    assert all(made["tiff"][name] == made["one"][name] for name in tiffs)


def test_a_second_run_redoes_nothing_and_other_settings_do(ok: Ok, scenes: Path) -> None:
    step(ok, scenes, "convert_image_to_csv.py")
    step(ok, scenes, "create_cloudmasks.py")
    mask = scenes / "masks" / "A_mask.tif"
    before = mask.stat().st_mtime_ns
    assert "is up to date; 1,200 pixels" in step(ok, scenes, "create_cloudmasks.py")
    assert mask.stat().st_mtime_ns == before
    step(ok, scenes, "create_cloudmasks.py", "--OVERWRITE")
    assert mask.stat().st_mtime_ns != before


def test_offset_and_quantification_are_applied(ok: Ok, scenes: Path) -> None:
    dn, _ = make_scene(0)
    write_scene(scenes / "tiff" / "C.tif", np.where(dn > 0, dn + 1000, 0).astype(np.uint16), offset="-1000")
    step(ok, scenes, "convert_image_to_csv.py")
    assert (scenes / "csv" / "C_converted.csv").read_bytes() == (scenes / "csv" / "A_converted.csv").read_bytes()


def test_a_bad_image_does_not_stop_the_others(scenes: Path) -> None:
    dn, _ = make_scene(0)
    shuffled = (*SAFE_BANDS[:8], *SAFE_BANDS[9:], "B8A")
    write_scene(scenes / "tiff" / "sorted.tif", dn, names=shuffled)
    write_scene(scenes / "tiff" / "unnamed.tif", dn, names=())
    write_scene(scenes / "tiff" / "twelve.tif", dn[..., :12], names=SAFE_BANDS[:12])
    (scenes / "tiff" / "text.tif").write_text("not a tif")
    done = run_script("convert_image_to_csv.py", "--DATA_DIR", scenes)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "band 9 is B09 instead of B8A" in done.stderr and "unnamed" in done.stderr
    assert "has 12 bands, 13 are needed" in done.stderr and "text.tif" in done.stderr
    assert "4 of 6 products failed (sorted, text, twelve, unnamed)" in done.stderr
    assert sorted(p.name for p in (scenes / "csv").glob("*.csv")) == ["A_converted.csv", "B_converted.csv"]


def test_masks_need_matching_files(ok: Ok, refused: Ok, scenes: Path) -> None:
    assert "csv: holds no products" in refused("create_cloudmasks.py", "--DATA_DIR", scenes)
    step(ok, scenes, "convert_image_to_csv.py")
    assert "has no product AA; the nearest name there is A" in refused(
        "create_cloudmasks.py", "--DATA_DIR", scenes, "--PRODUCTS", "AA"
    )
    lines = (scenes / "csv" / "A_converted.csv").read_text().splitlines(keepends=True)
    (scenes / "csv" / "A_converted.csv").write_text("".join(lines[:-1]))
    (scenes / "tiff" / "B.tif").unlink()
    done = run_script("create_cloudmasks.py", "--DATA_DIR", scenes)
    assert "A_converted.csv: holds 1,199 pixels" in done.stderr and "B.tif: no such file" in done.stderr
    assert not list((scenes / "masks").glob("*.tif"))


def test_scoring_pairs_by_name(ok: Ok, refused: Ok, scenes: Path) -> None:
    step(ok, scenes, "convert_image_to_csv.py")
    step(ok, scenes, "create_cloudmasks.py")
    (scenes / "reference" / "B").rename(scenes / "reference" / "Z")
    done = run_script("evaluation_metrics.py", "--DATA_DIR", scenes)
    assert done.returncode == 0 and done.stderr.count("unpaired: ") == 2, done.stderr
    assert pd.read_csv(scenes / "results" / "metrics.csv")["product"].tolist() == ["A", "mean", "pooled"]
    line = refused("evaluation_metrics.py", "--DATA_DIR", scenes, "--UNPAIRED", "refuse")
    assert "2 masks or references stand alone" in line
    step(ok, scenes, "evaluation_metrics.py", "--PRODUCTS", "A")
    (scenes / "reference" / "A").rename(scenes / "reference" / "Y")
    assert "no pair found" in refused("evaluation_metrics.py", "--DATA_DIR", scenes)


def test_mask_and_reference_of_different_size_are_refused(ok: Ok, scenes: Path) -> None:
    step(ok, scenes, "convert_image_to_csv.py")
    step(ok, scenes, "create_cloudmasks.py")
    write_reference(scenes, "B", np.full((40, 29), 5))
    done = run_script("evaluation_metrics.py", "--DATA_DIR", scenes)
    assert done.returncode == 1 and "30 x 40 pixels against 29 x 40" in done.stderr and "Traceback" not in done.stderr
    assert pd.read_csv(scenes / "results" / "metrics.csv")["product"].tolist() == ["A", "mean", "pooled"]


def test_undefined_measures_are_empty(ok: Ok, scenes: Path) -> None:
    step(ok, scenes, "convert_image_to_csv.py")
    step(ok, scenes, "create_cloudmasks.py")
    write_reference(scenes, "B", np.full((40, 30), 5))
    step(ok, scenes, "evaluation_metrics.py")
    rows = (scenes / "results" / "metrics.csv").read_text().splitlines()
    assert rows[2].startswith("B,0.") and rows[2].endswith(",,,,,")
    assert not rows[3].endswith(",")


# --- the disk ---------------------------------------------------------------------------------------------------------


def limited(bytes_: int) -> Callable[[], None]:
    """A process that can write no file larger than this, as on a full disk."""

    def limit() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))

    return limit


def test_a_full_disk_leaves_nothing_half_written(scenes: Path) -> None:
    before = files_of(scenes)
    words = {
        "read_h5file.py": STEP1[1:] + ("--OVERWRITE",),
        "data_preprocessing.py": STEP2[1:] + ("--OVERWRITE",),
        "convert_image_to_csv.py": (),
        "BMUs_detection.py": ("--OVERWRITE",),
    }
    for script, more in words.items():
        command = [sys.executable, str(ROOT / script), "--DATA_DIR", str(scenes), *more]
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited(5000))
        assert done.returncode == 1 and "Traceback" not in done.stderr, (script, done.stderr)
        assert "File too large" in done.stderr or "larger file" in done.stderr, done.stderr
        assert files_of(scenes) == before, script


def test_parts_of_the_training_table_give_the_same_bmus(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(BMUs_detection, "DATA_DIR", str(tmp_path))
    monkeypatch.setattr(BMUs_detection, "OVERWRITE", True)
    monkeypatch.setattr(BMUs_detection, "WORKERS", 2)
    monkeypatch.setattr(BMUs_detection, "PART_BYTES", 20_000)
    BMUs_detection.main()
    assert "3,000 rows" in capsys.readouterr().out
    for name in ("BMUs.csv", "BMUs.csv.json"):
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes()
    table = (tmp_path / "training_spectra.csv").read_text().splitlines()
    broken = tmp_path / "broken.csv"
    broken.write_text("\n".join([*table[:1000], "no," + table[1000], *table[1001:]]))
    with pytest.raises(UserError, match=r"broken.csv: line 1001: B1 is 'no'"):
        BMUs_detection.find_bmus(broken, trained / "scaler.p", trained / "SOM_trained.p")
