"""Whole files or none, and settings files."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.stores import Snapshot

SETTINGS = Snapshot("script.py", {"SEED": 1})


def make(path: Path, text: str, settings: Snapshot = SETTINGS, **inputs: Path) -> None:
    with stores.product(path, stores.recipe(settings, inputs)) as product:
        product.partial.write_text(text)


def test_a_product_appears_whole_with_its_settings(tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out" / "x.csv"
    source.write_text("1")
    make(target, "2", INPUT=source)
    record = stores.read_record(target)
    assert record is not None and target.read_text() == "2"
    assert record["constants"] == {"SEED": 1} and record["inputs"]["INPUT"]["name"] == "in.csv"
    assert record["product"] == {"bytes": 1, "sha256": stores.sha256(target)}
    assert sorted(p.name for p in target.parent.iterdir()) == ["x.csv", "x.csv.json"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    make(target, "old")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ZeroDivisionError), stores.product(target, stores.recipe(SETTINGS, {})) as product:
        product.partial.write_text("half")
        raise ZeroDivisionError
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_finished_means_same_settings_and_same_inputs(tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "x.csv"
    source.write_text("1")
    make(target, "2", INPUT=source)
    same = stores.recipe(SETTINGS, {"INPUT": source})
    assert stores.finished(target, same) is not None
    assert stores.finished(target, same, overwrite=True) is None
    assert stores.finished(target, stores.recipe(Snapshot("script.py", {"SEED": 2}), {"INPUT": source})) is None
    source.write_text("other")
    assert stores.finished(target, stores.recipe(SETTINGS, {"INPUT": source})) is None


def test_what_somebody_else_made_or_changed_is_not_overwritten_unasked(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    target.write_text("mine")
    made_by = stores.recipe(SETTINGS, {})
    with pytest.raises(UserError, match="not made by this script"):
        stores.finished(target, made_by)
    assert stores.finished(target, made_by, overwrite=True) is None
    make(target, "2")
    target.write_text("edited")
    with pytest.raises(UserError, match="was changed"):
        stores.finished(target, made_by)


def test_a_run_ended_between_settings_file_and_product_is_completed(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    make(target, "2")
    os.replace(target, stores.partial_path(target))
    assert stores.finished(target, stores.recipe(SETTINGS, {})) is not None
    assert target.read_text() == "2"


def test_a_product_whose_last_rename_fails_is_completed_later(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    make(target, "old")
    made_by = stores.recipe(Snapshot("script.py", {"SEED": 2}), {})
    with pytest.raises(IsADirectoryError), stores.product(target, made_by) as product:
        product.partial.write_text("new")
        target.unlink()
        target.mkdir()  # the last rename fails
    target.rmdir()
    assert stores.finished(target, stores.recipe(Snapshot("script.py", {"SEED": 2}), {})) is not None
    assert target.read_text() == "new", "the settings file was in place, so the whole partial file was kept"


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    make(target, "2")
    for left in (stores.partial_path(target), stores.partial_path(stores.record_path(target))):
        left.write_text("half")
    assert stores.finished(target, stores.recipe(SETTINGS, {})) is not None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.csv", "x.csv.json"]


def appended(source: Path) -> None:
    with open(source, "a") as handle:
        handle.write("more")


def replaced_with_the_same_size_and_time(source: Path) -> None:
    before, other = source.stat(), source.with_name("other")
    other.write_text("9")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, source)


@pytest.mark.parametrize("change", [appended, replaced_with_the_same_size_and_time, Path.unlink])
def test_an_input_changed_under_way_makes_nothing(tmp_path: Path, change: Callable[[Path], None]) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "x.csv"
    source.write_text("1")
    made_by = stores.recipe(SETTINGS, {"INPUT": source})
    said = pytest.raises(UserError, match=r"in\.csv: was changed while it was read")
    with said, stores.product(target, made_by) as product:
        product.partial.write_text("half old, half new")
        change(source)
    assert not [p.name for p in tmp_path.iterdir() if p != source]


def test_an_input_written_again_with_the_same_bytes_is_the_same(tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "x.csv"
    source.write_text("1")
    with stores.product(target, stores.recipe(SETTINGS, {"INPUT": source})) as product:
        product.partial.write_text("2")
        source.unlink()
        source.write_text("1")
    assert target.read_text() == "2"


def test_inputs_of_different_runs_are_told_apart(tmp_path: Path) -> None:
    scaler, other, som = tmp_path / "scaler.p", tmp_path / "other.p", tmp_path / "som.p"
    scaler.write_text("a")
    other.write_text("b")
    make(som, "map", SCALER_FILE=scaler)
    assert stores.recipe(SETTINGS, {"SOM_FILE": som, "SCALER_FILE": scaler}).lineage["SCALER_FILE"]
    with pytest.raises(UserError, match="another SCALER_FILE"):
        stores.recipe(SETTINGS, {"SOM_FILE": som, "SCALER_FILE": other})
    labels = tmp_path / "labels.csv"
    make(labels, "labels", SOM_FILE=som)
    with pytest.raises(UserError, match="another SCALER_FILE"):
        stores.recipe(SETTINGS, {"LABELS": labels, "SCALER_FILE": other})


# --- what is never replaced -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
def test_inputs_and_other_scripts_files_are_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    source, theirs = tmp_path / "in.csv", tmp_path / "theirs.csv"
    source.write_text("1")
    make(theirs, "2", Snapshot("other.py", {}))
    made_by = stores.recipe(SETTINGS, {"INPUT": source})
    with pytest.raises(UserError, match="is read and would be written too"):
        stores.finished(tmp_path / ".." / tmp_path.name / "in.csv", made_by, overwrite)
    with pytest.raises(UserError, match=r"was made by other\.py, which alone replaces it"):
        stores.finished(theirs, made_by, overwrite)
    theirs.write_text("changed since")
    with pytest.raises(UserError, match=r"was made by other\.py"):
        stores.finished(theirs, made_by, overwrite)


@pytest.mark.parametrize("plant", [Path.mkdir, os.mkfifo, lambda place: place.symlink_to("/dev/null")])
def test_only_plain_files_are_replaced(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    target, made_by = tmp_path / "x.csv", stores.recipe(SETTINGS, {})
    plant(target)
    before = target.lstat()
    with pytest.raises(UserError, match="is no plain file"):
        stores.finished(target, made_by, overwrite=True)
    with pytest.raises(UserError, match="is no plain file"), stores.product(target, made_by):
        pass
    with pytest.raises(UserError, match="is no plain file"), stores.atomic(target):
        pass
    assert os.path.samestat(before, target.lstat()) and [p.name for p in tmp_path.iterdir()] == ["x.csv"]
    stores.remove(target)
    plant(stores.record_path(target))
    with pytest.raises(UserError, match="is no plain file"):
        make(target, "2")


def test_partial_folders_hold_nothing_that_leads_elsewhere(tmp_path: Path) -> None:
    elsewhere, partial = tmp_path / "elsewhere", tmp_path / ".x.SAFE.partial"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("all I have")
    partial.symlink_to(elsewhere)
    stores.own_folder(partial)
    assert not partial.is_symlink() and list(partial.iterdir()) == []
    (partial / "GRANULE" / "A").mkdir(parents=True)
    (partial / "GRANULE" / "A" / "B01.jp2").write_text("half")
    (partial / "GRANULE" / "B").symlink_to(elsewhere)
    (partial / "MTD.xml").symlink_to(elsewhere / "precious")
    os.mkfifo(partial / "GRANULE" / "A" / "B02.jp2")
    stores.own_folder(partial)
    left = sorted(p.relative_to(partial).as_posix() for p in partial.rglob("*"))
    assert left == ["GRANULE", "GRANULE/A", "GRANULE/A/B01.jp2"] and (elsewhere / "precious").exists()


@pytest.mark.parametrize("value", [None, [], "text", 5, [1], {"a": None}, {"a": [2]}])
@pytest.mark.parametrize("part", ["constants", "results", "versions", "inputs", "lineage", "scenes", "size", "script"])
def test_records_of_others_have_no_parts_of_another_kind(tmp_path: Path, part: str, value: object) -> None:
    place = stores.record_path(tmp_path / "x")
    place.write_text(json.dumps({part: value, "product": {"sha256": "0"}, "note": value}))
    record = stores.read_record(tmp_path / "x")
    assert record is not None and record["note"] == value and record["product"] == {"sha256": "0"}
    if part == "size" or part == "script":
        assert isinstance(record.get(part, 0), int | str)
        return
    found = record.get(part, {})
    assert isinstance(found, dict)
    for entry in found.values():
        assert isinstance(entry, {"inputs": dict, "lineage": str, "scenes": dict}.get(part, object))


def test_what_readers_calculate_with_is_a_number_or_not_there(tmp_path: Path) -> None:
    codes = {"CLOUD_CODES": [2, "3"], "LEFT_OUT_CODES": [0]}
    constants = {"N_ITER": "many", "RADIUS_START": None, **codes, "CLOUD_SHARE": 1}
    stores.record_path(tmp_path / "x").write_text(json.dumps({"constants": constants, "results": {"title": 5}}))
    record = stores.read_record(tmp_path / "x")
    assert record == {"constants": {"RADIUS_START": None, "LEFT_OUT_CODES": [0], "CLOUD_SHARE": 1}, "results": {}}
