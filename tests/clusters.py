"""A Dask cluster on loopback, and what is run on it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from conftest import make_spectra, run_script, write_reference, write_scene

START_SECONDS = 60


@dataclass
class Cluster:
    """A scheduler and its workers: processes of their own, in a folder that has nothing to do with the project."""

    folder: Path
    address: str = ""
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(self, kind: str, *words: object, **variables: object) -> "subprocess.Popen[bytes]":
        env = {**os.environ, "PYTHONPATH": "", **{name: str(value) for name, value in variables.items()}}
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *map(str, words)]
        with open(self.folder / f"{kind}.log", "ab") as log:
            process = subprocess.Popen(command, cwd=self.folder, env=env, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def start_scheduler(self) -> "subprocess.Popen[bytes]":
        place = self.folder / "scheduler.json"
        place.unlink(missing_ok=True)
        words = ("--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", place)
        process = self.start("scheduler", *words)
        wait_for(place.exists)
        wait_for(lambda: place.read_text().endswith("}"))
        self.address = json.loads(place.read_text())["address"]
        return process

    def start_worker(self, n_threads: int = 1, **variables: object) -> "subprocess.Popen[bytes]":
        words = ("--no-nanny", "--no-dashboard", "--host", "127.0.0.1", "--local-directory", self.folder / "scratch")
        return self.start("worker", self.address, "--nthreads", n_threads, *words, **variables)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def write_scenes(data: Path, n: int, height: int = 24, width: int = 20) -> list[str]:
    """n made scenes with references in a data folder; their names. Half of them have no cloud."""
    names = [f"SCENE_{i:03}" for i in range(n)]
    for i, name in enumerate(names):
        spectra, labels = make_spectra(height * width, i)
        codes = np.select([labels == c for c in (10, 20, 30, 40, 50, 60)], [5, 6, 4, 3, 2, 7])
        if i % 2:
            codes[np.isin(codes, (2, 3))] = 5
        dn = np.round(spectra * 10000).astype(np.uint16).reshape(height, width, 13)
        dn[:3, :3] = 0
        write_scene(data / "tiff" / f"{name}.tif", dn)
        write_reference(data, name, codes.reshape(height, width))
    return names


def files_of(data: Path) -> dict[str, bytes]:
    """All products and settings files below a folder; locks are none."""
    files = [p for p in sorted(data.rglob("*")) if p.is_file() and p.suffix != ".lock"]
    return {str(p.relative_to(data)): p.read_bytes() for p in files}


def succeed(script: str, *words: object, cwd: Path | None = None) -> None:
    done = run_script(script, *words, cwd=cwd)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"


STEPS: list[tuple[object, ...]] = [
    ("BMUs_detection.py", "--OVERWRITE"),
    ("convert_image_to_csv.py",),
    ("create_cloudmasks.py", "--CLASS_MAPS", "--CONFIDENCE"),
    ("fine_tuning.py", "--MOST_CIRRUS", 1, "--MIN_CLOUD_FOR_COPIES", 1),
    # another processor's masks, for which the references themselves will do
    ("evaluation_metrics.py", "--OTHER_MASKS", "Perfect=codes(cloud=2,3;out=0):reference/{product}/*/*_map.tif"),
    ("mask_products.py", "tiff/SCENE_000.tif", "tiff/SCENE_001.tif", "--CLASS_MAPS"),
]
