"""A map one can walk in: the neurons, the scenes and the spectra in one HTML file, three views that follow each other.

Point at a neuron, and its pixels light up in the scene; point at a pixel, and its neuron lights up in the map. Mark
bright ground with box or brush, flip the neurons it falls on, and see what that costs before it is done; the page saves
marks and flips as what fine_tuning.py reads. The file needs nothing else: it opens straight from disk.

    python visualization/map_explorer.py
    python visualization/map_explorer.py --SHOW      opens it in the browser
    python visualization/map_explorer.py --MODEL_NPZ ready-made --PRODUCTS NAME.SAFE.zip      what mask_products.py did

reads   SCALER_FILE, SOM_FILE, NEURON_LABELS_CSV, HIT_MAPS_CSV    the labelled map
        TIFF_DIR/NAME.tif                     step 7's images
        where they are there: TRAINING_CSV (mean spectra of the classes), NEURON_LABELS_FINETUNED_CSV, FINETUNED_MAP_NPZ
        and MASK_FINETUNED_DIR/NAME_mask.tif (what fine-tuning did), SUGGESTIONS_CSV (fine_tuning.py --SUGGEST),
        REFERENCE_DIR/NAME/Classification/classification_map.tif (false alarms)
        with MODEL_NPZ: the maps, PRODUCTS as mask_products.py takes them, and its masks OUT_DIR/NAME_mask.tif
writes  FIGURES_DIR/map_explorer.html
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

import base64
import io
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from osgeo import osr
from PIL import Image

from cloudsom.bands import BANDS, CLASSES, CLOUD, CLOUD_CLASSES, SAFE_BANDS, WAVELENGTHS_NM
from cloudsom.brightness import CIRRUS
from cloudsom.drawing.class_spectra import LOOKS, class_spectra
from cloudsom.drawing.figures import (
    BRIGHT_COLOUR,
    CLEAR_COLOUR,
    CLOUD_COLOUR,
    MISSING_COLOUR,
    TRUE_COLOUR_BANDS,
    true_colour,
)
from cloudsom.drawing.pages import data_uri, page, show
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import existing, input_path, under, visible
from cloudsom.images.products import Granule, sources_at
from cloudsom.images.rasters import Grid, Scene, masks_in, open_scene, read_mask, reflectance
from cloudsom.images.references import check_cloud_codes, find_references, read_reference
from cloudsom.images.safe_to_tiff import convert_granule
from cloudsom.running.job import Job
from cloudsom.running.pool import Engine, choose_products, raise_if_any_failed, results_or_errors, run_jobs
from cloudsom.running.settings import optional_files, run, snapshot, step_files
from cloudsom.som import labelled_map, model, neurons
from cloudsom.som.bmu import BMUSearch
from cloudsom.som.committee import vote
from cloudsom.som.labelled_map import READY_MADE, LabelledMap
from cloudsom.som.labels import CLASS_CODES
from cloudsom.som.u_matrix import u_matrix
from cloudsom.tables import csv_tables

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to, or its URL (s3://...)
TIFF_DIR = "tiff"  # step 7's images
SCALER_FILE = "scaler.p"  # step 2's scaler
SOM_FILE = "SOM_trained.p"  # step 3's map
TRAINING_CSV = "training_spectra.csv"  # step 2's table, for the mean spectra of the classes
HIT_MAPS_CSV = "hit_maps.csv"  # step 5's votes
NEURON_LABELS_CSV = "neuron_labels.csv"  # step 5's labels
NEURON_LABELS_FINETUNED_CSV = "neuron_labels_finetuned.csv"  # fine_tuning.py's labels and reasons
FINETUNED_MAP_NPZ = "neuron_labels_finetuned.npz"  # fine_tuning.py's map with its sub-maps
SUGGESTIONS_CSV = "suggested_neurons.csv"  # candidates of fine_tuning.py --SUGGEST
MASK_FINETUNED_DIR = "masks_finetuned"  # fine_tuning.py's masks
REFERENCE_DIR = "reference"  # reference class maps, one folder a product
PRODUCTS: list[str] = []  # names of the products; none named: all in TIFF_DIR
# with MODEL_NPZ: SAFE folders, zipped SAFE, 13-band GeoTIFFs
MODEL_NPZ: list[str] = []  # labelled maps that vote, instead of the run's map; ready-made: those of mask_products.py
OUT_DIR = "cloud_masks"  # masks of mask_products.py, with MODEL_NPZ

# outputs (relative to DATA_DIR)
FIGURES_DIR = "figures"  # where the page goes

# map
MAP = 1  # [1, 10000] with MODEL_NPZ: the number of the map to walk in, counted from 1; all of them vote

# scores
CLOUD_CODES = [2, 3]  # [0, 7] reference codes that are cloud, as in step 10
LEFT_OUT_CODES = [0, 1]  # [0, 7] reference codes that say nothing: no data, not used

# picture
TITLE = "A map one can walk in"  # the page's heading
BRIGHTEST = 0.5  # [0.001, 100] reflectance shown as white in true colour and short wave, as in quicklooks.py
GAMMA = 1.7  # [0.1, 10] above 1 lifts dark surfaces
BRIGHTEST_CIRRUS = 0.05  # [0.001, 100] reflectance of B10 shown as white: most cirrus has less
PICTURE_SIDE = 800  # [16, 16383] pixels; larger scenes are shown averaged down, but counted at full resolution
MOST_PIXELS = 4_000_000  # [1, 1e9] of a scene; of larger ones (20 m, 10 m) every second, third... row and column can be
# pointed at
SPECTRA = 80_000  # [1, 1e7] spectra in the page, evenly over all scenes: 2 MB of its 15
MOST_MB = 15.0  # [1, 10000] of the page, for phones: five full tiles at 60 m, but for very dense ones
# where it would be more, only every second row and column of the largest scenes can be pointed at

# running
WORKERS = 0  # [0, 1024] processes; 0: one a processor. A worker needs about 0.7 GB for a full tile at 60 m
SHOW = False  # open the page in the browser too
OVERWRITE = False  # write again what is finished
# --- end of constants -------------------------------------------------------------------------------------------------

PARTS = Path(__file__).with_name("explorer")

#: Short wave as red, green and blue: vegetation green, dry ground pink, ice clouds and snow cyan, water clouds white.
SHORT_WAVE_BANDS = [SAFE_BANDS.index(band) for band in ("B12", "B8A", "B04")]

#: Bits of what is known of a pixel: cloud in the final mask, by the fine-tuned labels, in the reference; clear in it.
FINAL, TUNED, REFERENCE_CLOUD, REFERENCE_CLEAR = 1, 2, 4, 8

#: What stands for a pixel without neuron (no data), and for one without sub-neuron; maps have fewer rows and columns.
NONE = 255

#: One letter a class, as the paper's authors write their map (O, C, L, W, S, and N for snow).
LETTERS = {10: "L", 20: "W", 30: "S", 40: "C", 50: "O", 60: "N"}

#: The layers of a scene that hold something of each pixel.
PIXEL_LAYERS = {"neurons", "rest", "votes"}

#: Bytes of them in a scene that is not thinned out any further.
SMALL = 100_000

#: Pixels a side that WebP takes.
WEBP_SIDE = 16383

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Walk:
    """The map to walk in, the same after fine-tuning where there is one, and all the maps where several vote."""

    som: LabelledMap
    tuned: LabelledMap | None = None
    voters: tuple[LabelledMap, ...] = ()


@dataclass(frozen=True)
class SceneFiles:
    """The files of a scene: its image or product, the final mask and the reference where there are any."""

    name: str
    source: Path | Granule
    final_mask: Path | None = None
    reference: Path | None = None

    def inputs(self) -> dict[str, Path]:
        """Its files by role."""
        own = self.source.input_files() if isinstance(self.source, Granule) else {self.source.name: self.source}
        beside = {f"final mask {self.name}": self.final_mask, f"reference {self.name}": self.reference}
        return own | {role: file for role, file in beside.items() if file}

    @contextmanager
    def opened(self) -> Iterator[Scene]:
        """Its image; a product's is made as that of its mask was (mask_products.py)."""
        if isinstance(self.source, Path):
            with open_scene(self.source) as scene:
                yield scene
            return
        made = (stores.read_record(self.final_mask) or {}).get("constants", {}) if self.final_mask else {}
        with tempfile.TemporaryDirectory() as folder:
            tiff = Path(folder) / f"{self.name}.tif"
            convert_granule(self.source, tiff, int(made.get("PIXEL_SIZE", 60)), str(made.get("RESAMPLING", "fast")), 1)
            with open_scene(tiff) as scene:
                yield scene


@dataclass
class SceneRecord:
    """A scene in the page: what is counted, and the pictures and pixels, which are read when it is shown."""

    counts: dict[str, Any]
    layers: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of what is known of single pixels, in the page."""
        return sum(len(self.layers[name]) for name in PIXEL_LAYERS & self.layers.keys())

    def thin_out(self) -> None:
        """Leave out every second row and column of the pixels that can be pointed at; nothing is counted again."""
        self.counts["step"] *= 2
        for name in PIXEL_LAYERS & self.layers.keys():
            image = Image.open(io.BytesIO(base64.b64decode(self.layers[name].partition(",")[2])))
            self.layers[name] = exact(np.asarray(image)[::2, ::2])


def main() -> None:
    settings, files, scenes = snapshot(globals()), map_files(), scene_files()
    check_cloud_codes(CLOUD_CODES, [scene.reference for scene in scenes if scene.reference])
    page_file = under(DATA_DIR, FIGURES_DIR) / "map_explorer.html"
    parts = {f"page {file.name}": file for file in sorted(PARTS.iterdir())}
    own = {role: file for scene in scenes for role, file in scene.inputs().items()} | parts
    made_by = stores.recipe(settings, own, files)
    outcomes = []
    if done := stores.up_to_date([page_file], made_by, OVERWRITE):
        print(done)
    else:
        walk = read_walk(files)
        look = settings.constants | {"SPECTRA": max(1, SPECTRA // len(scenes))}
        jobs = [Job(scene.name, (scene, walk, look)) for scene in scenes]
        outcomes = run_jobs(read_scene, jobs, Engine(WORKERS), "reading")
        records = results_or_errors(outcomes)
        if not records:
            raise_if_any_failed(outcomes)
        good = {outcome.name for outcome in outcomes if not outcome.error}
        made_by = made_by.only(
            [*files, *parts, *(role for scene in scenes if scene.name in good for role in scene.inputs())]
        )
        text = render_within(MOST_MB * 1e6, map_record(walk, files), records)
        with stores.product(page_file, made_by) as product:
            product.partial.write_text(text, encoding="utf-8")
            product.results["summary"] = f"{len(records)} scenes, {len(text) / 1e6:.1f} MB"
        print(f"{page_file}: {product.results['summary']}")
        for record in records:
            if record.counts["step"] > 1:
                print(f"{record.counts['name']}: one row and column in {record.counts['step']} can be pointed at")
        if len(text) > MOST_MB * 1e6:
            print("a phone may not open a page this large; name fewer PRODUCTS, or lower PICTURE_SIDE and SPECTRA")
    if SHOW:
        show(page_file)
    raise_if_any_failed(outcomes)


def map_files() -> dict[str, Path]:
    """The files of the map by role, and those that are there of its fine-tuning; or those of the maps that vote."""
    if MODEL_NPZ:
        names = [file for name in MODEL_NPZ for file in (READY_MADE if name == "ready-made" else [name])]
        advice = "give a file of labelled maps, or ready-made"
        return labelled_map.by_role(existing(DATA_DIR, str(name), advice) for name in names)
    files = step_files(globals(), *labelled_map.STEP_FILES)
    optional = ("TRAINING_CSV", "NEURON_LABELS_FINETUNED_CSV", "FINETUNED_MAP_NPZ", "SUGGESTIONS_CSV")
    return files | optional_files(globals(), *optional, without="what it tells is left out")


def scene_files() -> list[SceneFiles]:
    """The files of the scenes, or of the products that MODEL_NPZ masked, sorted by name."""
    sources: Mapping[str, Path | Granule]
    if not MODEL_NPZ:
        tiff_dir = under(DATA_DIR, TIFF_DIR)
        tiffs = {file.stem: file for file in visible(tiff_dir.glob("*.tif"))}
        sources = choose_products(tiffs, PRODUCTS, tiff_dir, "run step 7")
    elif PRODUCTS:
        sources = sources_at(input_path(DATA_DIR, text) for text in PRODUCTS)
    else:
        raise UserError("PRODUCTS: names none; give SAFE folders, zipped SAFE or 13-band GeoTIFFs")
    masks = masks_in(under(DATA_DIR, OUT_DIR if MODEL_NPZ else MASK_FINETUNED_DIR))
    references = find_references(under(DATA_DIR, REFERENCE_DIR))
    return [SceneFiles(name, sources[name], masks.get(name), references.get(name)) for name in sorted(sources)]


def read_walk(files: Mapping[str, Path]) -> Walk:
    """The map with its votes, and the fine-tuned one; or the maps that vote, and that of the number MAP among them.

    UserError unless they are of one map, and for one too large for the page, whose pixels name row and column in a byte
    each.
    """
    if MODEL_NPZ:
        maps = tuple(labelled_map.load_all(*files.values()))
        if not 1 <= MAP <= len(maps):
            raise UserError(f"MAP: {MAP} is not one of the {len(maps)} maps; they count from 1")
        walk = Walk(maps[MAP - 1], maps[MAP - 1], maps)
    else:
        tuned = files.get("FINETUNED_MAP_NPZ")
        walk = Walk(labelled_map.from_steps(files), labelled_map.load(tuned) if tuned else None)
        if walk.tuned and not np.array_equal(walk.tuned.weights, walk.som.weights):
            raise UserError(f"{tuned}: is of another map than {files['SOM_FILE']}; run fine_tuning.py")
    rows, columns = walk.som.weights.shape[:2]
    if max(rows, columns) >= NONE:
        file = files["MODEL_NPZ" if MODEL_NPZ else "SOM_FILE"]
        raise UserError(f"{file}: has {rows} x {columns} neurons; the page takes maps of up to {NONE - 1} a side")
    return walk


# --- the map ----------------------------------------------------------------------------------------------------------


def map_record(walk: Walk, files: Mapping[str, Path]) -> dict[str, Any]:
    """What the page knows of the map: neurons in row-major order."""
    som, labels = walk.som, walk.som.labels
    tuned = None
    if "NEURON_LABELS_FINETUNED_CSV" in files:
        columns = (*model.LABEL_COLUMNS, "samples", "action", "reason")
        table = model.read_table(files["NEURON_LABELS_FINETUNED_CSV"], columns).fillna({"reason": ""})
        tuned = {name: table[name].tolist() for name in ("samples", "action", "reason")}
    if "TRAINING_CSV" in files:
        spectra = class_spectra(csv_tables.read_spectra(files["TRAINING_CSV"]))
        means = {code: spectra.mean[i].tolist() for i, code in enumerate(CLASS_CODES) if spectra.number[i]}
    else:
        there = [code for code in CLASS_CODES if (labels.classes == code).any()]
        means = {code: som.reflectance[labels.classes == code].mean(axis=0).tolist() for code in there}
    return {
        "rows": labels.rows,
        "columns": labels.columns,
        "weights": base64.b64encode(som.weights.astype("<f8").tobytes()).decode(),  # with all their bits
        "scale": som.scale.tolist(),
        "shift": som.shift.tolist(),
        "classes": labels.classes.tolist(),
        "cloud": (labels.cloud == CLOUD).tolist(),
        "votes": None if som.votes is None else som.votes.tolist(),
        "uMatrix": u_matrix(som.weights).ravel().tolist() if labels.cloud.size > 1 else [0.0],
        "subMaps": {
            neuron: {"size": len(submap.weights), "cloud": (submap.cloud == CLOUD).tolist()}
            for neuron, submap in (walk.tuned.submaps if walk.tuned else {}).items()
        },
        "tuned": tuned,
        "means": means,
        "meansOf": "spectra" if "TRAINING_CSV" in files else "neurons",
        "suggestions": read_suggestions(files, labels.rows, labels.columns),
        "name": f"map {MAP} of {len(walk.voters)} that vote" if walk.voters else "",
        "voters": len(walk.voters),
    }


def read_suggestions(files: Mapping[str, Path], rows: int, columns: int) -> dict[int, dict[str, Any]]:
    """The candidates that fine_tuning.py --SUGGEST has found, by flat position: rank, score and reasons in words."""
    if not (file := files.get("SUGGESTIONS_CSV")):
        return {}
    speaks = {
        "clear_votes": "{:.1%} of its training spectra are not cloud",
        "clear_neighbours": "{:.0%} of its neighbours are clear",
        "scene_share": "{:.2%} of the pixels of cloud-free scenes fall on it",
        "short_wave_rise": "short wave {:.2f} times the visible",
        "cirrus": "B10 {:.4f}",
    }
    table = model.read_table(file, ("rank", "score", "neuron", *speaks))
    place = neurons.parse(f"{file}: neuron", table["neuron"].astype(str), rows, columns)
    return {
        int(neuron): {
            "rank": int(row["rank"]),
            "score": float(row["score"]),
            "reasons": [text.format(row[name]) for name, text in speaks.items() if not math.isnan(row[name])],
        }
        for neuron, row in zip(place, table.to_dict("records"), strict=True)
    }


# --- a scene ----------------------------------------------------------------------------------------------------------


def read_scene(scene: SceneFiles, walk: Walk, look: dict[str, Any]) -> SceneRecord:
    """A scene in the page, shown as the constants of `look` say, with so many SPECTRA.

    UserError where its mask or reference does not cover its image.
    """
    with scene.opened() as opened:
        info, grid = opened.info, opened.grid
        size = grid.width * grid.height
        apart = max(math.ceil(math.sqrt(size / look["SPECTRA"])), math.ceil(len(BANDS) * grid.height / WEBP_SIDE))
        pixels = Pixels(grid, walk)
        views = {
            "true colour": (TRUE_COLOUR_BANDS, look["BRIGHTEST"]),
            "short wave": (SHORT_WAVE_BANDS, look["BRIGHTEST"]),
            "B10": ([CIRRUS], look["BRIGHTEST_CIRRUS"]),
        }
        pictures: dict[str, list[Picture]] = {name: [] for name in views}
        sampled = []
        for top, dn in opened.blocks():
            spectra = reflectance(dn, info)
            dn[np.isnan(spectra[..., 0])] = 0
            sampled.append(dn[-top % apart :: apart, ::apart])
            for name, (bands, brightest) in views.items():
                pictures[name].append(true_colour(spectra[..., bands], brightest, look["GAMMA"]))
            pixels.place(top, spectra)
    pixels.add(scene, look)
    step = max(math.ceil(math.sqrt(size / look["MOST_PIXELS"])), math.ceil(max(grid.width, grid.height) / WEBP_SIDE))
    record = SceneRecord(
        {
            "name": scene.name,
            "width": grid.width,
            "height": grid.height,
            "step": step,
            "apart": apart,
            "offsets": list(info.offsets),
            "quantification": info.quantification,
            "transform": list(grid.transform),
            "epsg": epsg_of(grid),
            "final": scene.final_mask is not None,
            "tuned": walk.tuned is not None,
            "reference": scene.reference is not None,
            **pixels.counts(),
        }
    )
    record.layers["pictures"] = {
        name: photograph(np.concatenate(parts), look["PICTURE_SIDE"]) for name, parts in pictures.items()
    }
    record.layers["neurons"] = exact(pixels.neurons[::step, ::step])
    record.layers["rest"] = exact(pixels.rest[::step, ::step])
    if pixels.votes is not None:
        record.layers["votes"] = exact(np.repeat(pixels.votes[::step, ::step, None], 3, axis=2))
    record.layers["spectra"] = packed(np.concatenate(sampled))
    return record


class Pixels:
    """What is known of every pixel of a scene.

    neurons  (height, width, 3) row and column of its neuron (NONE without data), and nothing
    rest     (height, width, 3) row and column of its sub-neuron (NONE: none), bits FINAL, TUNED, REFERENCE_...
    votes    (height, width) how many of the maps that vote say cloud; None where there is one map
    Apart, because pictures of each alone pack closer.
    """

    def __init__(self, grid: Grid, walk: Walk) -> None:
        self.grid, self.walk = grid, walk
        shape = grid.height, grid.width, 3
        self.neurons: Picture = np.zeros(shape, np.uint8)
        self.rest: Picture = np.full(shape, (NONE, NONE, 0), np.uint8)
        self.votes = np.zeros(shape[:2], np.uint8) if walk.voters else None
        self.search = BMUSearch(walk.som.weights)

    def place(self, top: int, spectra: NDArray[np.float64]) -> None:
        """Find the neurons of some rows (n, width, 13) of reflectance, which are scaled in place."""
        rows = slice(top, top + len(spectra))
        if self.votes is not None:
            self.votes[rows].ravel()[:] = vote(self.walk.voters, spectra.reshape(-1, len(BANDS))).cloud.clip(0)
        scaled = self.walk.som.scaled(spectra.reshape(-1, len(BANDS)))
        bmus = self.search(scaled).index
        neurons, rest = (layer[rows].reshape(-1, 3) for layer in (self.neurons, self.rest))
        neurons[:, 0], neurons[:, 1] = np.divmod(bmus, self.walk.som.labels.columns)
        neurons[bmus < 0] = NONE, NONE, 0
        if not self.walk.tuned:
            return
        rest[(self.walk.tuned.cloud(scaled, bmus) == CLOUD) & (bmus >= 0), 2] |= TUNED
        for neuron, submap in self.walk.tuned.submaps.items():
            here = np.flatnonzero(bmus == neuron)
            if len(here):
                rest[here, 0], rest[here, 1] = np.divmod(submap.bmus(scaled[here]), len(submap.weights))

    def add(self, scene: SceneFiles, look: dict[str, Any]) -> None:
        """Add what the final mask and the reference say, where there are any."""
        if scene.final_mask:
            mask, grid = read_mask(scene.final_mask)
            if difference := grid.difference(self.grid):
                raise UserError(f"{scene.final_mask}: does not cover {scene.name} ({difference}); make it again")
            self.rest[..., 2] |= np.where(mask == CLOUD, FINAL, 0).astype(np.uint8)
        if scene.reference:
            reference = read_reference(scene.reference, scene.final_mask or Path(scene.name), self.grid)
            cloud = np.isin(reference, look["CLOUD_CODES"])
            clear = ~cloud & ~np.isin(reference, look["LEFT_OUT_CODES"])
            self.rest[..., 2] |= (cloud * REFERENCE_CLOUD + clear * REFERENCE_CLEAR).astype(np.uint8)

    def counts(self) -> dict[str, list[int]]:
        """Pixels of each neuron, and those of them that the reference calls clear, and cloud; at full resolution."""
        known = self.neurons[..., 0] != NONE
        row, column = self.neurons[known, :2].T
        neuron, bits = row.astype(np.int64) * self.walk.som.labels.columns + column, self.rest[known, 2]
        chosen = {
            "pixels": neuron,
            "clear": neuron[bits & REFERENCE_CLEAR > 0],
            "clouds": neuron[bits & REFERENCE_CLOUD > 0],
        }
        n = self.walk.som.labels.cloud.size
        return {name: np.bincount(found, minlength=n).tolist() for name, found in chosen.items()}


def epsg_of(grid: Grid) -> str | None:
    """The number of a grid's coordinate system in EPSG's list; None where it has none."""
    system = osr.SpatialReference()
    if not grid.projection or system.ImportFromWkt(grid.projection) != 0:
        return None
    return system.GetAuthorityCode(None)


def photograph(image: Picture, side: int) -> str:
    """A picture (height, width, 3 or 1), averaged down to `side` pixels where it is larger, for the eye."""
    shown = Image.fromarray(image if image.shape[2] == 3 else image[..., 0])
    share = min(1.0, side / max(shown.size))
    size = max(1, round(shown.width * share)), max(1, round(shown.height * share))
    return as_webp(shown.resize(size, Image.Resampling.BOX), quality=75)


def exact(values: Picture) -> str:
    """Bytes (height, width, 3) as a picture that holds them exactly: WebP takes a fifth less than PNG."""
    return as_webp(Image.fromarray(values), lossless=True, exact=True, quality=60, method=4)


def packed(dn: NDArray[np.uint16]) -> str:
    """Digital numbers (height, width, 13) as a picture with the bands below each other, two bytes a number."""
    bands = np.concatenate(np.moveaxis(dn, 2, 0))
    return exact(np.stack([bands >> 8, bands & 255, 0 * bands], axis=-1).astype(np.uint8))


def as_webp(image: Image.Image, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return data_uri("image/webp", buffer.getvalue())


# --- the page ---------------------------------------------------------------------------------------------------------


def render_within(size: float, map_: dict[str, Any], scenes: list[SceneRecord]) -> str:
    """The whole page as text; where it has more than so many bytes, the largest scenes are thinned out."""
    while len(text := render(map_, scenes)) > size:
        largest = max(scenes, key=lambda scene: scene.size)
        if largest.size < SMALL:
            break
        largest.thin_out()
    return text


def render(map_: dict[str, Any], scenes: list[SceneRecord]) -> str:
    """The whole page as text."""
    start = {
        "map": map_,
        "scenes": [scene.counts for scene in scenes],
        "bands": BANDS,
        "wavelengths": WAVELENGTHS_NM,
        "classes": [
            {
                "code": code,
                "name": name,
                "letter": LETTERS[code],
                "cloud": code in CLOUD_CLASSES,
                "colour": LOOKS[code][0],
                "dash": {"-": "", "--": "6 3", ":": "2 3", "-.": "6 3 2 3"}[LOOKS[code][2]],
            }
            for code, name in CLASSES.items()
        ],
        "shades": [to_hex(colour) for colour in colormaps["viridis"](np.linspace(0, 1, 64))],
        "colours": {"cloud": CLOUD_COLOUR, "clear": CLEAR_COLOUR, "bright": BRIGHT_COLOUR, "missing": MISSING_COLOUR},
        "bits": {"final": FINAL, "tuned": TUNED, "cloud": REFERENCE_CLOUD, "clear": REFERENCE_CLEAR},
        "dataDir": DATA_DIR,
    }
    return page(
        PARTS / "page.html",
        title=TITLE,
        start=as_json(start),
        layers=[as_json(scene.layers) for scene in scenes],
    )


def as_json(values: Any) -> Markup:
    """Values as JSON that cannot end the element it stands in."""
    return Markup(json.dumps(values, allow_nan=False).replace("<", "\\u003c"))


if __name__ == "__main__":
    run(main, globals())
