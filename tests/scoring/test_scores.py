"""Counts and measures against hand-made masks, and against scikit-learn."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import write_scene
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from cloudsom.bands import MASK_NODATA
from cloudsom.images.rasters import open_scene
from cloudsom.scoring import comparison
from cloudsom.scoring import metrics as tables
from cloudsom.scoring.classes import classes_table, confusion
from cloudsom.scoring.scores import MEASURES, count, measures, surfaces


def test_counts_by_hand() -> None:
    mask = np.array([[255, 255, 0, 0], [255, 0, MASK_NODATA, 255]], np.uint8)
    reference = np.array([[2, 5, 3, 6], [3, 7, 2, 0]], np.uint8)
    #                     TP FP FN TN   TP TN  -  -
    assert count(mask, reference, (2, 3), (0, 1)).tolist() == [2, 1, 1, 2, 2]


def test_measures_by_hand() -> None:
    found = measures(np.array([6, 2, 1, 11]))
    expected = {
        "accuracy": 17 / 20,
        "precision": 6 / 7,
        "recall": 6 / 8,
        "f_score": 12 / 15,
        "balanced_accuracy": (6 / 8 + 11 / 12) / 2,
        "iou": 6 / 9,
    }
    assert tuple(found) == MEASURES
    assert all(math.isclose(found[name], expected[name]) for name in MEASURES)


def test_a_scene_without_cloud_has_an_accuracy_and_nothing_else() -> None:
    found = measures(np.array([0, 0, 1, 3]))
    assert found["accuracy"] == 0.75
    assert all(math.isnan(found[name]) for name in MEASURES if name != "accuracy")


def test_undefined_values_are_nan() -> None:
    assert all(math.isnan(value) for value in measures(np.zeros(4)).values())
    overcast = measures(np.array([0, 4, 0, 0]))
    assert overcast["recall"] == 0 and math.isnan(overcast["precision"]) and math.isnan(overcast["balanced_accuracy"])


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_measures_equal_scikit_learn(pixels: list[tuple[bool, bool]]) -> None:
    truth, found = [t for t, _ in pixels], [f for _, f in pixels]
    mask = np.where(found, 255, 0).astype(np.uint8)
    got = measures(count(mask, np.where(truth, 2, 5), (2, 3), (0, 1)))
    assert math.isclose(got["accuracy"], metrics.accuracy_score(truth, found))
    if any(truth):
        assert math.isclose(got["recall"], metrics.recall_score(truth, found))
        assert math.isclose(got["f_score"], metrics.f1_score(truth, found))
        assert math.isclose(got["iou"], metrics.jaccard_score(truth, found))
        if any(found):
            assert math.isclose(got["precision"], metrics.precision_score(truth, found))
        if not all(truth):
            assert math.isclose(got["balanced_accuracy"], metrics.balanced_accuracy_score(truth, found))


def test_classes_by_hand() -> None:
    reference = np.array([[5, 5, 6, 4, 3, 2, 7, 0, 1, 5, 2]], np.uint8)
    found = np.array([[10, 20, 20, 0, 40, 40, 60, 10, 10, 50, 50]], np.uint8)
    pixels = confusion(found, reference, np.array([[True] * 10 + [False]]))
    assert pixels.tolist() == [
        [1, 1, 0, 0, 1, 0, 0],  # land: found, water, opaque
        [0, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1],  # shadow: no class
        [0, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 0],  # low clouds: cirrus
        [0, 0, 0, 0, 0, 1, 0],
    ]
    table = classes_table({"A": pixels, "B": pixels}).set_index(["product", "reference"])
    assert table.loc[("pooled", "land")].tolist() == [2, 2, 0, 0, 2, 0, 0, 6, 0.333333]
    own = table.loc[("A", "user's accuracy")].tolist()
    assert own[:2] == [1, 0.5] and math.isnan(own[2]) and own[3:6] == [0.5, 0, 1] and own[7:] == [8, 0.5]


def test_surfaces_by_hand() -> None:
    mask, reference = np.array([[255, 255, 0, 1], [255, 255, 0, 0]], np.uint8), np.array([[5, 5, 5, 5], [2, 7, 3, 0]])
    bright = np.array([[True, False, False, True], [True, True, False, False]])
    assert surfaces(mask, reference, bright) == {
        "low clouds": (1, 1),
        "high clouds": (1, 0),
        "land": (3, 2),
        "snow": (1, 1),
        "bright land": (1, 1),
    }
    assert "bright land" not in surfaces(mask, reference, None)


def row(product: str, role: str, **false_alarms: int) -> comparison.Compared:
    """A product with a hit, a miss and eight clear pixels, in two blocks, and some false alarms of each processor."""
    counts = {name: np.array([[1, 1, fp, 4, 6, fp], [0, 0, 0, 4, 4, 0]]) for name, fp in false_alarms.items()}
    surfaces = {name: {"land": (10, fp)} for name, fp in false_alarms.items()}
    return comparison.Compared(product, role, counts, 0, surfaces)


def test_held_out_scenes_and_those_tuned_on_are_summed_up_apart() -> None:
    rows = [row("A", "tuned on", SOM1=9, SOM2=0), row("B", "held out", SOM1=2, SOM2=1)]
    rows.append(row("C", "held out", SOM1=4, SOM2=1))
    table = comparison.processors_table(rows)
    pooled = table[table["product"] == "pooled"].reset_index(drop=True)
    assert pooled["processor"].tolist() == ["SOM1", "SOM2"] * 2 and pooled["FP"].tolist() == [6, 2, 9, 0]
    assert pooled["role"].tolist() == ["held out"] * 2 + ["tuned on"] * 2 and pooled["pixels"][0] == 26
    assert np.allclose(pooled["false_alarm_rate"][:2], [6 / 22, 2 / 18])
    assert np.allclose(pooled["bright_land_false_alarms"][:2], [6 / 20, 2 / 20])
    mean = table[(table["product"] == "mean") & (table["role"] == "held out")]
    assert np.allclose(mean["false_alarm_rate"], [(2 / 10 + 4 / 12) / 2, 1 / 9])
    by_surface = comparison.surfaces_table(rows)
    pooled_surfaces = by_surface[by_surface["product"] == "pooled"]
    assert pooled_surfaces["called_cloud"].tolist() == [6, 2, 9, 0]
    assert pooled_surfaces["share"].tolist() == [0.3, 0.1, 0.9, 0]
    said = comparison.summary(rows)
    assert said.startswith("2 scenes held out from fine-tuning, 26 pixels that all have; SOM1 -> SOM2: recall 0.5000")
    assert "as in the paper" in comparison.summary(rows[:1])


def test_pooling_asks_for_every_kind_of_masks() -> None:
    rows = [row("A", "held out", SOM1=1, SOM2=1), row("B", "", SOM1=5), row("C", "held out", SOM1=5)]
    found = comparison.groups(rows)
    assert [(g.role, g.processors, [s.product for s in g.scenes]) for g in found] == [
        ("held out", ["SOM1", "SOM2"], ["A"])
    ]


def test_blocks_cover_every_pixel_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "BLOCK", 3)
    ones, cloud = np.ones((7, 8), bool), np.zeros((7, 8), bool)
    cloud[6, 7] = True  # in the last block, which is 1 x 2
    counts = comparison.count_blocks(cloud, cloud, ones, ~cloud)
    assert counts[:, :4].sum(axis=1).tolist() == [9, 9, 6, 9, 9, 6, 3, 3, 2]
    assert counts[-1].tolist() == [1, 0, 0, 1, 1, 0] and counts.sum(axis=0).tolist() == [1, 0, 0, 55, 55, 0]
    ones[:3, :3] = False
    assert len(comparison.count_blocks(cloud, cloud, ones, ~cloud)) == 8


def test_bright_pixels_are_those_of_the_visible_bands_from_the_least_on(tmp_path: Path) -> None:
    dn = np.full((2, 3, 13), 9000, np.uint16)
    dn[..., 1:4] = 1000  # B02, B03, B04 alone decide
    dn[0, 1, 1:4] = (1000, 2000, 3000)  # 0.2 in the mean
    dn[1, 2, 1:4] = (1000, 2000, 2900)
    tiff = write_scene(tmp_path / "A.tif", dn)
    with open_scene(tiff) as scene:
        grid = scene.grid
    bright = comparison.bright_pixels(tiff, grid, 0.2)
    assert bright is not None and bright.tolist() == [[False, True, False], [False] * 3]
    assert comparison.bright_pixels(tiff, replace(grid, width=4), 0.2) is None


def test_the_summary_names_the_pooled_measures_of_all_products() -> None:
    counts = {name: np.array([tp, 1, 1, 7, 0]) for name, tp in (("A", 1), ("B", 1), ("C", 4))}
    table = tables.metrics_table([tables.Scored(name, "", {"SOM1": found}) for name, found in counts.items()])
    said = tables.summary(table)
    assert said.startswith("3 products scored; SOM1, pooled: ")
    assert "accuracy 0.8182" in said  # TP 6 and TN 21 of 33
