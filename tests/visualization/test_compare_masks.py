"""Masks of all processors side by side: the figures, and that they show what step 10 has scored."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from osgeo import gdal
from runs import call, fine_tune, make_run

import evaluation_metrics
from cloudsom.bands import CLOUD
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.images.rasters import read_mask, write_layer
from visualization import compare_masks


def test_figures_show_what_step_10_has_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fine_tune(make_run(tmp_path / "data", ("SCENE_A", "SCENE_B")))
    mask, grid = read_mask(folder / "masks" / "SCENE_A_mask.tif")
    write_layer(
        folder / "masks" / "SCENE_A_classes.tif", np.where(mask == CLOUD, 50, 10).astype(np.uint8), grid, nodata=0
    )
    codes = np.where(mask == CLOUD, np.uint8(2), np.uint8(1))
    codes[:12] = 0
    options = ["COMPRESS=DEFLATE"]
    for name in ("SCENE_A", "SCENE_B"):
        path = str(folder / f"{name}.tif")
        dataset = gdal.GetDriverByName("GTiff").Create(path, grid.width, grid.height, 1, gdal.GDT_Byte, options)
        dataset.SetGeoTransform(grid.transform)
        dataset.SetProjection(grid.projection)
        dataset.GetRasterBand(1).WriteArray(codes)
        del dataset
    call(evaluation_metrics, folder, OTHER_MASKS=["Theirs=fmask:{product}.tif"])
    call(compare_masks, folder)
    for name in ("processors", "class_confusion", "compared/SCENE_A", "compared/SCENE_B"):
        assert (folder / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    table = pd.read_csv(folder / "results" / "processors.csv").set_index(["product", "processor"])
    record = stores.read_record(folder / "figures" / "compared" / "SCENE_A.png")
    assert record
    for processor in ("SOM1", "SOM2", "Theirs"):
        row = table.loc[("SCENE_A", processor)]
        said = f"{processor} recall {row['recall']:.1%}, false alarms {row['false_alarm_rate']:.2%}"
        assert said in record["results"]["alt"]
    capsys.readouterr()
    call(compare_masks, folder)
    assert capsys.readouterr().out.count("is up to date") == 4


def test_a_panel_is_drawn_for_every_mask() -> None:
    image, codes = np.zeros((20, 30, 3), np.uint8), np.full((20, 30), 1, np.uint8)
    figure = compare_masks.compared(image, {"A": codes, "B": codes, "C": codes}, "SCENE")
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == ["true colour", "A", "B", "C"]
    assert (np.asarray(shown[1].images[0].get_array())[0, 0] == (0, 102, 102, 255)).all()


def test_dots_and_lines_are_the_tables() -> None:
    rows = pd.DataFrame({"processor": ["SOM1", "Fmask"]})
    for i, measure in enumerate(compare_masks.ALL_MEASURES):
        rows[measure] = [0.5 + i / 100, np.nan if measure == "iou" else 0.6]
        rows[f"{measure}_low"], rows[f"{measure}_high"] = rows[measure] - 0.1, rows[measure] + 0.1
    figure = compare_masks.measures_figure(rows, "title")
    assert len(figure.axes) == 8
    line, *dots = figure.axes[2].collections
    assert [np.asarray(dot.get_offsets()).tolist() for dot in dots] == [[[0.52, 0.0]], [[0.6, 1.0]]]
    assert np.allclose(line.get_paths()[0].vertices, [[0.42, 0], [0.62, 0]])


def test_without_step_10_there_is_nothing_to_draw(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "data", ("SCENE_A",))
    with pytest.raises(UserError, match=r"processors\.csv: no such file; run step 10"):
        call(compare_masks, folder)
