"""Many full tiles through steps 8, 9 and 10: throughput, efficiency, memory over time, and that nothing is lost.

    python -m campaigns.load_run --model data --work build/load --scenes 60 --workers 2

`--model` is the DATA_DIR of a finished run: its map, scaler and labels, and its images in tiff/ that have a reference.
Each scene is a full 60 m tile (1830 x 1830 pixels) laid out with pieces of those images: turned, mirrored, a little
brighter or darker, from a seed; its reference is laid out alike. A few scenes are first run with one worker in a folder
of their own; then all of them with `--workers`. The products of the two runs are compared byte for byte, and every
scene must have its table, its mask and its row of scores. Needs 0.6 GB of disk a scene.
"""

import argparse
import contextlib
import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import SAFE_BANDS
from cloudsom.files.stores import sha256
from cloudsom.images.rasters import Grid, open_scene, read_layer, write_layer
from cloudsom.images.references import find_references

ROOT = Path(__file__).resolve().parents[1]
FULL_SIDE = 1830  # pixels of a full tile at 60 m
PIECE = 183  # pixels at most; ten by ten pieces a full tile
STEPS = ("convert_image_to_csv.py", "create_cloudmasks.py", "evaluation_metrics.py")
MODEL_FILES = ("SOM_trained.p", "scaler.p", "neuron_labels.csv")
SECONDS_BETWEEN_SAMPLES = 0.25


@dataclass(frozen=True)
class Image:
    """A real scene to take pieces of: digital numbers (rows, columns, 13), reference codes, grid and tags."""

    dn: NDArray[np.uint16]
    reference: NDArray[np.integer]
    grid: Grid
    tags: dict[str, str]


@dataclass
class Run:
    """What was measured of one step: wall and processor seconds, and memory (seconds, MB of each process) over time."""

    step: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory: list[tuple[float, list[float]]] = field(default_factory=list)

    @property
    def largest_sum(self) -> float:
        return max(sum(sizes) for _, sizes in self.memory)

    def largest_process(self, start: float = 0, end: float = 1) -> float:
        """Largest process (MB) between two shares of the run's time: whether memory grows with the scenes."""
        return max((max(sizes) for t, sizes in self.memory if start <= t / self.seconds <= end), default=0.0)


# --- scenes -----------------------------------------------------------------------------------------------------------


def read_images(model: Path) -> list[Image]:
    images = []
    for name, reference_file in find_references(model / "reference").items():
        tiff = model / "tiff" / f"{name}.tif"
        if tiff.is_file():
            with open_scene(tiff) as scene:
                dn = scene.read(0, scene.grid.height)
                wanted = ("RADIO_ADD_OFFSET", "QUANTIFICATION_VALUE")
                tags = {key: text for key, text in scene.info.tags.items() if key in wanted}
                images.append(Image(dn, read_layer(reference_file)[0], scene.grid, tags))
    return images


def write_scene(folder: Path, number: int, images: Sequence[Image], side: int) -> str:
    """One made-up tile and its reference; returns its name."""
    name = f"load_{number:05d}"
    draw = np.random.default_rng(number)
    image = images[number % len(images)]  # offset and quantification are one image's
    height, width = image.reference.shape
    piece = min(PIECE, height, width)
    dn = np.empty((side + piece, side + piece, len(SAFE_BANDS)), np.uint16)  # pieces stand out beyond two edges
    reference = np.empty(dn.shape[:2], np.uint8)
    for row in range(0, side, piece):
        for column in range(0, side, piece):
            top, left = draw.integers(0, height - piece + 1), draw.integers(0, width - piece + 1)
            turns, light = int(draw.integers(0, 4)), draw.uniform(0.97, 1.03)
            source = (slice(top, top + piece), slice(left, left + piece))
            target = (slice(row, row + piece), slice(column, column + piece))
            dn[target] = np.rint(np.rot90(image.dn[source], turns) * light)
            reference[target] = np.rot90(image.reference[source], turns)
    dn, reference = dn[:side, :side], reference[:side, :side]
    grid = Grid(side, side, (600_000.0, 60.0, 0.0, 4_900_020.0, 0.0, -60.0), image.grid.projection)
    place = folder / "reference" / name / "Classification"
    for needed in (folder / "tiff", place):
        needed.mkdir(parents=True, exist_ok=True)
    write_layer(folder / "tiff" / f"{name}.tif", dn, grid, nodata=0, descriptions=SAFE_BANDS, tags=image.tags)
    write_layer(place / "classification_map.tif", reference, grid, nodata=0, descriptions=["class"])
    return name


def fresh_folder(folder: Path, model: Path) -> Path:
    """An empty DATA_DIR with the model's files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in MODEL_FILES:
        shutil.copy(model / name, folder)
        shutil.copy(model / f"{name}.json", folder)
    return folder


# --- measuring --------------------------------------------------------------------------------------------------------


def processes_of(parent: int) -> list[int]:
    """A process and all that descend from it."""
    found = [parent]
    for process in found:
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                found += [int(word) for word in task.read_text().split()]
            except OSError:
                continue  # ended meanwhile
    return found


def resident_megabytes(process: int) -> float:
    """Memory a process holds that is its own (resident, without files it has mapped), in MB; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem"))) / 1000


def run_step(step: str, folder: Path, workers: int, products: Sequence[str]) -> Run:
    """Run one script on some products, watching its processes' memory; ends the campaign if the script fails."""
    words = [sys.executable, str(ROOT / step), "--DATA_DIR", str(folder), "--WORKERS", str(workers)]
    run, before, start = Run(step), os.times(), time.perf_counter()
    log = folder / f"{step}.log"
    with open(log, "w") as output:
        process = subprocess.Popen([*words, "--PRODUCTS", *products], stdout=output, stderr=subprocess.STDOUT)
    while process.poll() is None:
        sizes = [resident_megabytes(p) for p in processes_of(process.pid)]
        run.memory.append((time.perf_counter() - start, sizes))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_BETWEEN_SAMPLES)
    after = os.times()
    run.seconds = time.perf_counter() - start
    run.cpu_seconds = after.children_user + after.children_system - before.children_user - before.children_system
    if process.returncode:
        raise SystemExit(f"{step} ended with status {process.returncode}; see {log}")
    return run


def products_of(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Checksum of each scene's table and mask; ends the campaign if one is missing."""
    found = {}
    for name in names:
        for place in (folder / "csv" / f"{name}_converted.csv", folder / "masks" / f"{name}_mask.tif"):
            if not place.is_file():
                raise SystemExit(f"{place} is missing")
            found[place.name] = sha256(place)
    with open(folder / "results" / "metrics.csv", newline="") as table:
        scored = {row["product"] for row in csv.DictReader(table)}
    if missing := set(names) - scored:
        raise SystemExit(f"{len(missing)} scenes have no scores, {min(missing)} is the first")
    if left := list(folder.rglob("*.partial")):
        raise SystemExit(f"{left[0]} was left behind")
    return found


# --- the campaign -----------------------------------------------------------------------------------------------------


def show(runs: Sequence[Run], scenes: int, workers: int, what: str = "from nothing") -> None:
    """One row a step: time and throughput, memory in all and in the first and last third of the time."""
    print(f"\n{scenes} tiles, {workers} workers, {what}")
    heads = f"{'step':26s}{'s':>8s}{'CPU s':>8s}{'tiles/h':>9s}"
    print(heads + f"{'MB, one process':>17s}{'all':>7s}{'first/last third':>18s}")
    for run in runs:
        thirds = f"{run.largest_process(0, 1 / 3):.0f} / {run.largest_process(2 / 3, 1):.0f}"
        print(
            f"{run.step:26s}{run.seconds:8.1f}{run.cpu_seconds:8.1f}{3600 * scenes / run.seconds:9.0f}"
            f"{run.largest_process():17.0f}{run.largest_sum:7.0f}{thirds:>18s}"
        )
    total, cpu = sum(run.seconds for run in runs), sum(run.cpu_seconds for run in runs)
    print(f"{'all three':26s}{total:8.1f}{cpu:8.1f}{3600 * scenes / total:9.0f}", flush=True)


def write_memory(file: Path, runs: Sequence[Run]) -> None:
    """Memory over time as a table: step, seconds since its start, processes, MB of the largest and of all."""
    with open(file, "w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["step", "seconds", "processes", "largest_mb", "all_mb"])
        for run in runs:
            for seconds, sizes in run.memory:
                table.writerow([run.step, f"{seconds:.2f}", len(sizes), f"{max(sizes):.1f}", f"{sum(sizes):.1f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="DATA_DIR of a finished run")
    parser.add_argument("--work", type=Path, default=Path("build/load"), help="folder for the scenes and products")
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--side", type=int, default=FULL_SIDE, help="pixels a side of each scene")
    parser.add_argument("--alone", type=int, default=10, help="scenes that are run with one worker first")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    images = read_images(given.model)
    if not images:
        parser.error(f"{given.model}: has no image with a reference; run the demo first")
    all_of_them = fresh_folder(given.work / "all", given.model)
    few = fresh_folder(given.work / "few", given.model)
    names = [write_scene(all_of_them, number, images, given.side) for number in range(given.scenes)]
    for name in names[: given.alone]:
        for part in (f"tiff/{name}.tif", f"reference/{name}/Classification/classification_map.tif"):
            (few / part).parent.mkdir(parents=True, exist_ok=True)
            os.link(all_of_them / part, few / part)
    alone = [run_step(step, few, 1, names[: given.alone]) for step in STEPS]
    show(alone, given.alone, 1)
    together = [run_step(step, all_of_them, given.workers, names) for step in STEPS]
    show(together, given.scenes, given.workers)
    write_memory(given.work / "memory.csv", together)
    again = [run_step(step, all_of_them, given.workers, names) for step in STEPS]
    show(again, given.scenes, given.workers, "the same commands again: all is finished")
    made = products_of(all_of_them, names)
    same = [made[name] == checksum for name, checksum in products_of(few, names[: given.alone]).items()]
    rates = [n / sum(r.seconds for r in runs) for n, runs in ((given.alone, alone), (given.scenes, together))]
    print(f"\nefficiency: {rates[1] / rates[0] / given.workers:.2f} of {given.workers} times one worker's throughput")
    print(f"{len(made)} products of {given.scenes} scenes, none missing; {sum(same)} of {len(same)} equal one worker's")
    if not all(same):
        raise SystemExit("the number of workers changed a product")


if __name__ == "__main__":
    main()
