"""fine_tuning.py and what follows it, on two small made scenes: a cloud-free coast, and the same land under clouds."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import mask_scenes, run_script, square, write_reference, write_scene, write_vectors

import fine_tuning
from cloudsom.bands import BANDS, CLEAR, CLOUD, MASK_NODATA
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.images.rasters import open_raster, read_mask
from cloudsom.masking.labelling import mask_of_scene
from cloudsom.som import labelled_map, model, neurons

Ok = Callable[..., str]
COAST, CLOUDY = "COAST", "CLOUDY"
HEIGHT, WIDTH = 24, 20
#: The made spectra are bright in every band, B10 among them, and no band tells weather from ground.
MADE = (
    "--MOST_CIRRUS",
    1,
    "--BANDS_LEFT_OUT",
    "--BANDS_LEFT_OUT_IF_OPAQUE",
    "--SUBMAP_STEPS",
    4000,
    "--CLEAR_SHARE",
    0.5,
)
SAND = np.s_[4:16, 3:9]  # rows, columns
CLOUDS = np.s_[4:16, 12:18]


def make_scene(clouds: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """DN (rows, columns, 13) and reference codes of a made scene: land, clouds, sand like them but in B11 and B12."""
    draw = np.random.default_rng(seed)
    spectra = np.tile(0.2 * np.linspace(1, 0.8, 13), (HEIGHT, WIDTH, 1))
    codes = np.full((HEIGHT, WIDTH), 5)
    spectra[SAND] = 0.65 * np.linspace(1, 0.8, 13)
    spectra[SAND][..., 11:] *= 1.3
    if clouds:
        spectra[CLOUDS] = 0.7 * np.linspace(1, 0.8, 13)
        spectra[18:22, 12:18] = 0.35 * np.linspace(1, 0.8, 13)
        codes[CLOUDS], codes[18:22, 12:18] = 2, 3
    dn = np.round(spectra * draw.normal(1, 0.03, spectra.shape) * 10000).astype(np.uint16)
    dn[:, 0] = 0  # a column without data
    codes[:, 0] = 0
    return dn, codes


@pytest.fixture(scope="module")
def masked(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which the two scenes have been masked (SOM1), and not yet fine-tuned."""
    folder = tmp_path_factory.mktemp("fine_tuning") / "data"
    shutil.copytree(trained, folder)
    for name, clouds, seed in ((COAST, False, 1), (CLOUDY, True, 2)):
        dn, codes = make_scene(clouds, seed)
        write_scene(folder / "tiff" / f"{name}.tif", dn)
        write_reference(folder, name, codes)
    mask_scenes(folder)
    return folder


@pytest.fixture(scope="module")
def tuned(masked: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A copy of it after fine_tuning.py and step 10, and what fine_tuning.py said."""
    folder = tmp_path_factory.mktemp("tuned") / "data"
    shutil.copytree(masked, folder)
    done = run_script("fine_tuning.py", "--DATA_DIR", folder, *MADE)
    assert done.returncode == 0, done.stderr
    scored = run_script("evaluation_metrics.py", "--DATA_DIR", folder, "--WORKERS", 1)
    assert scored.returncode == 0, scored.stderr
    return folder, done.stdout


@pytest.fixture
def data(masked: Path, tmp_path: Path) -> Path:
    """A copy of the masked folder for one test."""
    shutil.copytree(masked, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def here(masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Run fine_tuning.py in this process on the masked folder, some constants changed; its products go elsewhere."""

    def run(**constants: object) -> None:
        outputs = ("BRIGHT_SAMPLES_CSV", "NEURON_LABELS_FINETUNED_CSV", "FINETUNED_MAP_NPZ", "FLIP_TABLE_CSV")
        made: dict[str, object] = {name: str(tmp_path / getattr(fine_tuning, name)) for name in outputs}
        made |= {"MASK_FINETUNED_DIR": str(tmp_path / "masks"), "DATA_DIR": str(masked), "WORKERS": 1}
        made |= {"MOST_CIRRUS": 1.0, "SUBMAP_STEPS": 500, "BANDS_LEFT_OUT": [], "BANDS_LEFT_OUT_IF_OPAQUE": []}
        for name, value in (made | constants).items():
            assert hasattr(fine_tuning, name)
            monkeypatch.setattr(fine_tuning, name, value)
        fine_tuning.main()

    yield run


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def mask_in(folder: Path, kind: str, name: str, end: str = "mask") -> np.ndarray:
    return read_mask(folder / kind / f"{name}_{end}.tif")[0]


# --- the default run --------------------------------------------------------------------------------------------------


def test_step_9_masks_alike_with_the_corrected_map(ok: Ok, tuned: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = tuned
    words = ("--MODEL_NPZ", "neuron_labels_finetuned.npz", "--MASK_DIR", tmp_path / "masks")
    ok("create_cloudmasks.py", "--DATA_DIR", folder, *words)
    for name in (COAST, CLOUDY):
        assert np.array_equal(mask_in(tmp_path, "masks", name), mask_in(folder, "masks_finetuned", name, "unfiltered"))
    method = open_raster(tmp_path / "masks" / f"{COAST}_mask.tif").GetMetadataItem("METHOD")
    assert re.fullmatch(r"map of neuron_labels_finetuned.npz \([1-9]\d* sub-maps\), unfiltered", method)


def test_samples_are_the_bright_false_alarms_of_the_cloud_free_scene(tuned: tuple[Path, str]) -> None:
    folder, said = tuned
    assert f"fine-tuned on 1 products ({COAST}); held out for scoring: 1 ({CLOUDY})" in said
    samples = pd.read_csv(folder / "bright_samples.csv")
    assert list(samples.columns) == ["product", "row", "column", *BANDS, "source"]
    assert set(samples["product"]) == {COAST} and set(samples["source"]) == {"reference"}
    alarms = np.argwhere(mask_in(folder, "masks", COAST) == CLOUD)
    assert len(alarms) >= 60 and np.array_equal(samples[["row", "column"]].to_numpy(), alarms)
    dn, _ = make_scene(False, 1)
    assert np.array_equal(samples[list(BANDS)].to_numpy(), dn[alarms[:, 0], alarms[:, 1]] / 10000)


def test_sand_becomes_clear_and_clouds_stay_where_tuning_never_looked(tuned: tuple[Path, str]) -> None:
    folder, _ = tuned
    before, after = mask_in(folder, "masks", CLOUDY), mask_in(folder, "masks_finetuned", CLOUDY)
    assert (before[SAND] == CLOUD).mean() > 0.8 and (after[SAND] == CLOUD).mean() < 0.02
    assert (after[CLOUDS] == CLOUD).mean() > 0.98
    assert (after[:, 0] == MASK_NODATA).all() and (after[:, 1:] != MASK_NODATA).all()
    assert (mask_in(folder, "masks_finetuned", COAST) == CLOUD).sum() == 0
    tags = {
        name: open_raster(folder / "masks_finetuned" / f"{name}_mask.tif").GetMetadata() for name in (COAST, CLOUDY)
    }
    unfiltered, _ = read_mask(folder / "masks_finetuned" / f"{CLOUDY}_unfiltered.tif")
    record = stores.read_record(folder / "masks_finetuned" / f"{CLOUDY}_mask.tif")
    assert record
    shares = [(layer == CLOUD).sum() / (after != MASK_NODATA).sum() for layer in (after, unfiltered)]
    assert 0 < shares[1] < shares[0] < 1
    assert [record["results"][name] for name in ("cloud_share", "cloud_share_unfiltered")] == shares
    assert (tags[COAST]["TUNED_ON"], tags[COAST]["TEST"]) == ("yes", "no")
    assert (tags[CLOUDY]["TUNED_ON"], tags[CLOUDY]["TEST"]) == ("no", "yes")
    assert tags[CLOUDY]["METHOD"] == "SOM2 (submaps)" and tags[CLOUDY]["FILTERS"] == "median 3, dilation 1 disk"


def test_som1_stays_and_everything_is_written_down(tuned: tuple[Path, str], masked: Path) -> None:
    folder, said = tuned
    before, after = files_of(masked), files_of(folder)
    assert all(after[name] == content for name, content in before.items() if not name.endswith(".lock"))
    labels = model.read_neuron_labels(folder / "neuron_labels_finetuned.csv")
    table = pd.read_csv(folder / "neuron_labels_finetuned.csv")
    first = model.read_neuron_labels(folder / "neuron_labels.csv")
    assert np.array_equal(table["cloud_before"], first.cloud) and np.array_equal(table["class_before"], first.classes)
    changed = table[table["action"] != "kept"]
    assert len(changed) and changed["reason"].str.contains("bright samples fall on it").all()
    npz = labelled_map.load(folder / "neuron_labels_finetuned.npz")
    assert sorted(npz.submaps) == np.flatnonzero(table["action"] == "split").tolist()
    assert np.array_equal(npz.labels.cloud, labels.cloud)
    record = json.loads((folder / "neuron_labels_finetuned.csv.json").read_text())
    assert record["results"]["held_out"] is True and record["results"]["fine_tune_products"] == [COAST]
    flips = pd.read_csv(folder / "flip_table.csv")
    assert (flips["samples"].sum(), set(flips["action"]) >= {"split"}) == (
        len(pd.read_csv(folder / "bright_samples.csv")),
        True,
    )
    votes = flips[list(model.HIT_COLUMNS)].to_numpy()
    hits, *size = model.read_hit_maps(folder / "hit_maps.csv")
    assert np.array_equal(votes, hits[neurons.parse("neuron", flips["neuron"], *size)])
    assert (flips["flip_cloud_lost"] == flips["cirrus"] + flips["opaque_cloud"]).all()
    assert "training clouds found" in said and "bright samples called cloud" in said


def test_step_10_sets_both_side_by_side(tuned: tuple[Path, str]) -> None:
    folder, _ = tuned
    table = pd.read_csv(folder / "results" / "processors.csv")
    assert table["processor"].tolist() == ["SOM1", "SOM2 unfiltered", "SOM2"] * 6
    roles = table.iloc[::3][["product", "role"]].to_numpy().tolist()
    totals = [[kind, role] for role in ("held out", "tuned on") for kind in ("mean", "pooled")]
    assert sorted(roles[:2]) == sorted([[CLOUDY, "held out"], [COAST, "tuned on"]]) and roles[2:] == totals
    held_out = table[table["role"] == "held out"]
    by_masks = held_out[held_out["product"] == "pooled"].set_index("processor")
    assert np.allclose(by_masks["false_alarm_rate"], held_out[held_out["product"] == CLOUDY]["false_alarm_rate"])
    alarms = by_masks["false_alarm_rate"]
    assert alarms["SOM1"] > 0.1 and alarms["SOM2 unfiltered"] < 0.01 and by_masks["recall"]["SOM2 unfiltered"] > 0.98
    scene = held_out[held_out["product"] == CLOUDY].set_index("processor")["recall"]
    step_10 = pd.read_csv(folder / "results" / "metrics.csv")
    assert step_10["product"].tolist() == [
        *sorted((COAST, CLOUDY)),
        "mean",
        "pooled",
        "mean held out",
        "pooled held out",
    ]
    mine = step_10.set_index("product").loc[CLOUDY]
    assert np.isclose(scene["SOM1"], mine["recall"]) and np.isclose(scene["SOM2"], mine["SOM2_recall"])
    assert np.isclose(step_10["SOM2_recall"].iloc[-1], mine["SOM2_recall"]) and step_10["role"].iloc[-1] == "held out"
    differences = pd.read_csv(folder / "results" / "differences.csv").set_index(["minus", "product", "role", "measure"])
    row = differences.loc[("SOM1", "pooled", "held out", "false_alarm_rate")]
    assert np.isclose(row["difference"], alarms["SOM2"] - alarms["SOM1"], atol=2e-6)
    assert row["low"] <= row["difference"] <= row["high"] < 0 and row["beyond_chance"] == "yes"
    surfaces = pd.read_csv(folder / "results" / "surfaces.csv").set_index(["product", "masks", "surface"])["share"]
    assert surfaces[CLOUDY, "SOM1", "bright land"] > 0.1 and surfaces[CLOUDY, "SOM2 unfiltered", "bright land"] < 0.01
    assert surfaces[CLOUDY, "SOM2", "low clouds"] > 0.98


def test_a_second_run_makes_nothing_again(tuned: tuple[Path, str], ok: Ok) -> None:
    folder, _ = tuned
    before = files_of(folder)
    said = ok("fine_tuning.py", "--DATA_DIR", folder, *MADE)
    assert said.count("is up to date") == 4 and files_of(folder) == before


# --- flips ------------------------------------------------------------------------------------------------------------


def test_the_papers_flip_and_step_9_with_its_labels(data: Path, ok: Ok) -> None:
    words = ("--METHOD", "flip", "--MAX_CLOUD_LOSS", 1, "--MEDIAN_SIZE", 0, "--DILATION_RADIUS", 0)
    for name in ("training_spectra.csv", "BMUs.csv"):
        (data / name).unlink()  # flips need the votes alone
    ok("fine_tuning.py", "--DATA_DIR", data, *MADE, *words)
    table = pd.read_csv(data / "neuron_labels_finetuned.csv")
    flipped = table["action"] == "flipped"
    assert flipped.any() and (table.loc[flipped, "cloud"] == CLEAR).all() and (table.loc[flipped, "class"] == 10).all()
    assert np.array_equal(table["cloud"] != table["cloud_before"], flipped)
    ok(
        "create_cloudmasks.py",
        "--DATA_DIR",
        data,
        "--NEURON_LABELS_CSV",
        "neuron_labels_finetuned.csv",
        "--MASK_DIR",
        "again",
    )
    for name in (COAST, CLOUDY):
        assert np.array_equal(mask_in(data, "again", name), mask_in(data, "masks_finetuned", name))
        assert np.array_equal(mask_in(data, "again", name), mask_in(data, "masks_finetuned", name, "unfiltered"))


def test_dear_flips_are_refused(here: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here(METHOD="flip", MAX_CLOUD_LOSS=0.0)
    table = pd.read_csv(tmp_path / "neuron_labels_finetuned.csv")
    assert (table["action"] == "refused").any() and np.array_equal(table["cloud"], table["cloud_before"])
    assert "no label changed" in capsys.readouterr().out
    priced = pd.read_csv(tmp_path / "flip_table.csv")
    assert priced["reason"].str.contains("would lose").any()


def test_neurons_named_by_hand_are_flipped(here: Callable[..., None], masked: Path, tmp_path: Path) -> None:
    labels = model.read_neuron_labels(masked / "neuron_labels.csv")
    row, column = (int(v) for v in divmod(int(np.flatnonzero(labels.cloud == CLOUD)[-1]), labels.columns))
    here(METHOD="flip", MAX_CLOUD_LOSS=0.0, FLIP_NEURONS=[f"{row + 1},{column + 1}"])  # from 1, as in the pictures
    table = pd.read_csv(tmp_path / "neuron_labels_finetuned.csv").set_index(["row", "column"])
    assert table.loc[(row, column), ["cloud", "action", "reason"]].tolist() == [CLEAR, "flipped", "named by hand"]


# --- folds ------------------------------------------------------------------------------------------------------------


def test_every_scene_is_masked_and_scored_by_a_map_that_never_saw_it(data: Path, ok: Ok) -> None:
    words = ("--FOLDS", 2, "--METHOD", "flip", "--MAX_CLOUD_LOSS", 1)
    said = ok("fine_tuning.py", "--DATA_DIR", data, *MADE, *words)
    assert f"in 2 folds, each masked by a map tuned on the others (fold 1: {CLOUDY}; fold 2: {COAST})" in said
    record = stores.read_record(data / "neuron_labels_finetuned_fold1.csv") or {}
    assert record["results"]["fine_tune_products"] == [COAST] and record["constants"]["LEFT_OUT"] == [CLOUDY]
    samples = pd.read_csv(data / "bright_samples.csv")["product"].value_counts()
    for fold, out in ((1, CLOUDY), (2, COAST), ("", "none")):
        file = data / f"neuron_labels_finetuned{fold and f'_fold{fold}'}.csv"
        assert pd.read_csv(file)["samples"].sum() == samples.drop(out, errors="ignore").sum(), "the others' samples"
    # The mask is that of the fold's map, and its tags say so.
    for name, fold in ((CLOUDY, "1"), (COAST, "2")):
        tuned = labelled_map.load(data / f"neuron_labels_finetuned_fold{fold}.npz")
        found = mask_of_scene(data / "csv" / f"{name}_converted.csv", data / "tiff" / f"{name}.tif", tuned)
        assert np.array_equal(found, mask_in(data, "masks_finetuned", name, "unfiltered"))
        tags = open_raster(data / "masks_finetuned" / f"{name}_mask.tif").GetMetadata()
        assert (tags["TUNED_ON"], tags["TEST"], tags["FOLD"]) == ("no", "yes", fold)
    ok("evaluation_metrics.py", "--DATA_DIR", data, "--WORKERS", 1)
    table = pd.read_csv(data / "results" / "processors.csv")
    final = table[table["processor"] == "SOM2"].set_index("product")
    assert set(table["role"]) == {"held out"}
    for count in ("TP", "FN", "FP", "TN"):
        assert final.loc["pooled", count] == final.loc[[COAST, CLOUDY], count].sum(), "pooled over the folds"
    again = ok("fine_tuning.py", "--DATA_DIR", data, *MADE, *words)
    assert again.count("is up to date") == 6


def test_all_scenes_tuned_on_and_scored_as_in_the_paper(
    here: Callable[..., None], capsys: pytest.CaptureFixture
) -> None:
    here(METHOD="flip", FINE_TUNE_PRODUCTS=["all"], TEST_PRODUCTS=["all"])
    assert f"scored on what was tuned on, as in the paper: {CLOUDY}, {COAST}" in capsys.readouterr().out


# --- samples ----------------------------------------------------------------------------------------------------------


def test_samples_from_polygons_points_and_tables(here: Callable[..., None], tmp_path: Path) -> None:
    sand = write_vectors(tmp_path / "sand.geojson", "GeoJSON", [square(3, 4, 9, 16)], "4326", product=COAST)
    points = write_vectors(tmp_path / "p.gpkg", "GPKG", [f"POINT ({600000 + 60 * 0.5} {4900020 - 60 * 0.5})"], "32631")
    mine = tmp_path / "mine.csv"
    mine.write_text(f"product,row,column\n{COAST},4,3\n{COAST}.SAFE,20,15\n")
    here(FROM_REFERENCE=False, POLYGONS=[str(sand), str(points)], SAMPLE_CSVS=[str(mine)], FINE_TUNE_PRODUCTS=[COAST])
    samples = pd.read_csv(tmp_path / "bright_samples.csv")
    # The point lies in the column without data; the first pixel of the table lies in the polygon too.
    assert samples["source"].value_counts().to_dict() == {"polygons": 12 * 6, "csv": 1}
    assert samples[samples["source"] == "csv"][["row", "column"]].to_numpy().tolist() == [[20, 15]]


def test_only_products_with_polygons_in_them_are_tuned_on(
    here: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tied = write_vectors(tmp_path / "tied.geojson", "GeoJSON", [square(3, 4, 9, 16)], "4326", product=COAST)
    free = write_vectors(tmp_path / "free.geojson", "GeoJSON", [square(3, 4, 9, 16)], "4326")
    other = write_vectors(tmp_path / "other.geojson", "GeoJSON", [square(3, 4, 9, 16)], "4326", product="OTHER")
    for file, said in (
        (tied, f"fine-tuned on 1 products ({COAST}); held out for scoring: 1 ({CLOUDY})"),
        (free, f"fine-tuned on 2 products ({CLOUDY}, {COAST}); none is left to score on"),
    ):
        here(FROM_REFERENCE=False, POLYGONS=[str(file)], METHOD="flip", OVERWRITE=True)
        assert said in capsys.readouterr().out
    with pytest.raises(UserError, match=r"has none of the products that samples are marked in \(OTHER\)"):
        here(POLYGONS=[str(other)])


def test_the_table_alone_names_the_products(
    here: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("product,row,column\n" + "".join(f"{CLOUDY},{row},5\n" for row in range(4, 16)))
    here(FROM_REFERENCE=False, SAMPLE_CSVS=[str(mine)], TEST_PRODUCTS=[CLOUDY], METHOD="flip")
    said = capsys.readouterr().out
    assert f"fine-tuned on 1 products ({CLOUDY}); scored on what was tuned on, as in the paper: {CLOUDY}" in said
    record = stores.read_record(tmp_path / "neuron_labels_finetuned.csv")
    assert record and record["results"]["held_out"] is False


def test_suggesting_changes_nothing(data: Path, ok: Ok) -> None:
    before = files_of(data)
    said = ok("fine_tuning.py", "--DATA_DIR", data, "--SUGGEST", "--N_SUGGESTIONS", 4)
    assert "nothing is changed" in said and f"cloud-free scenes {COAST}" in said
    after = files_of(data)
    new = {name for name in after.keys() - before if not name.endswith(".lock")}
    assert new == {
        f"{n}{end}" for n in ("suggested_neurons.csv", "figures/suggested_neurons.png") for end in ("", ".json")
    }
    assert all(after[name] == content for name, content in before.items())
    table = pd.read_csv(data / "suggested_neurons.csv")
    labels = model.read_neuron_labels(data / "neuron_labels.csv")
    assert len(table) == (labels.cloud == CLOUD).sum() and table["score"].is_monotonic_decreasing
    assert (data / "figures" / "suggested_neurons.png").read_bytes()[:4] == b"\x89PNG"


def test_a_bad_scene_does_not_stop_the_suggestions(data: Path) -> None:
    (data / "csv" / f"{CLOUDY}_converted.csv").write_text("no table\n")
    words = ("--DATA_DIR", data, "--SUGGEST", "--FINE_TUNE_PRODUCTS", COAST, CLOUDY)
    done = run_script("fine_tuning.py", *words)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"with the cloud-free scenes {COAST};" in done.stdout and f"1 of 2 products failed ({CLOUDY})" in done.stderr
    record = stores.read_record(data / "suggested_neurons.csv")
    assert record and not [role for role in record["inputs"] if CLOUDY in role]


# --- mistakes ---------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "no samples": ({"LEAST_BRIGHTNESS": 1.0}, "no bright samples"),
    "no such product": ({"FINE_TUNE_PRODUCTS": ["COST"]}, "has no product COST; the nearest name there is COAST"),
    "no such test product": ({"TEST_PRODUCTS": ["X"]}, "has no product X"),
    "no such test product, by hand": (
        {"TEST_PRODUCTS": ["X"], "FROM_REFERENCE": False, "FLIP_NEURONS": ["1,1"]},
        "has no product X",
    ),
    "no source": ({"FROM_REFERENCE": False}, "no source of samples"),
    "no such table": ({"SAMPLE_CSVS": ["none.csv"]}, "none.csv: no such file"),
    "no such polygons": ({"POLYGONS": ["none.gpkg"]}, "none.gpkg: no such file"),
    "no masks": ({"MASK_DIR": "elsewhere"}, "run step 9"),
    "no references": ({"REFERENCE_DIR": "elsewhere"}, "has no reference of any product"),
    "an even window": ({"MEDIAN_SIZE": 4}, "MEDIAN_SIZE: 4 is even"),
    "no band left": ({"BANDS_LEFT_OUT": list(BANDS)}, "nothing is left"),
    "no such band": ({"BANDS_LEFT_OUT": ["B8A"]}, "BANDS_LEFT_OUT: B8A"),
    "no neuron": ({"FLIP_NEURONS": ["7;3"]}, "FLIP_NEURONS: '7;3' is not row,column"),
    "a neuron counted from 0": ({"FLIP_NEURONS": ["6,0"]}, "FLIP_NEURONS: 6,0 is not on the map, which has rows 1"),
    "one fold": ({"FOLDS": 1}, "FOLDS: 1 leaves nothing to tune on"),
    "no training table": ({"TRAINING_CSV": "none.csv"}, "use --METHOD flip"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_mistakes_end_in_one_line_and_leave_nothing(here: Callable[..., None], tmp_path: Path, mistake: str) -> None:
    constants, said = REFUSED[mistake]
    with pytest.raises(UserError) as problem:
        here(**constants)
    assert said in str(problem.value) and "\n" not in str(problem.value)
    assert not list(tmp_path.rglob("*finetuned*")) and not list(tmp_path.rglob("*.partial"))


def test_polygons_that_mark_nothing_are_refused(here: Callable[..., None], tmp_path: Path) -> None:
    far = write_vectors(tmp_path / "far.gpkg", "GPKG", [square(500, 500, 510, 510)], "4326")
    with pytest.raises(UserError, match=r"far\.gpkg: mark no pixel with data"):
        here(POLYGONS=[str(far)])
    assert not (tmp_path / "bright_samples.csv").exists()


def test_a_table_of_other_products_is_refused(here: Callable[..., None], tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    for name, said in ((CLOUDY, "which is not among FINE_TUNE_PRODUCTS"), ("OTHER", "which is not there")):
        mine.write_text(f"product,row,column\n{name},4,5\n")
        with pytest.raises(UserError, match=said):
            here(SAMPLE_CSVS=[str(mine)], FINE_TUNE_PRODUCTS=[COAST])


def test_files_of_different_runs_are_refused(data: Path, refused: Ok) -> None:
    labels = data / "neuron_labels.csv"
    table = pd.read_csv(labels)
    table.loc[0, "share"] = 0.123  # labels that are not those of the masks
    table.to_csv(labels, index=False)
    line = refused("fine_tuning.py", "--DATA_DIR", data, *MADE)
    assert "was made with another NEURON_LABELS_CSV" in line and "different runs" in line
    assert not (data / "masks_finetuned").exists()


def test_step_10_goes_on_without_stale_final_masks(tuned: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(tuned[0], folder)
    record = folder / "masks_finetuned" / f"{CLOUDY}_mask.tif.json"
    text = json.loads(record.read_text())
    text["lineage"]["SOM_FILE"] = "0" * 64  # a map of an earlier training
    record.write_text(json.dumps(text))
    done = run_script("evaluation_metrics.py", "--DATA_DIR", folder, "--WORKERS", 1)
    assert done.returncode == 0 and "not compared" in done.stderr and "run fine_tuning.py again" in done.stderr


def test_the_figure_of_the_sub_maps(tuned: tuple[Path, str], tmp_path: Path, ok: Ok) -> None:
    folder, _ = tuned
    ok("visualization/sub_maps.py", "--DATA_DIR", folder, "--FIGURES_DIR", tmp_path)
    assert (tmp_path / "sub_maps.png").read_bytes()[:4] == b"\x89PNG"
    record = stores.read_record(tmp_path / "sub_maps.png")
    splits = (pd.read_csv(folder / "neuron_labels_finetuned.csv")["action"] == "split").sum()
    assert record and record["results"]["alt"].startswith(f"{splits} sub-maps")
