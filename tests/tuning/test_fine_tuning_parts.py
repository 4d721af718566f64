"""Fine-tuning's parts: filters, relabelling, sub-maps, samples, vector files, suggestions."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import square, utm31, write_reference, write_vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cloudsom.bands import BANDS, CLEAR, CLOUD, MASK_NODATA
from cloudsom.brightness import is_bright, is_dry
from cloudsom.errors import UserError
from cloudsom.images import filters, stripes, vectors
from cloudsom.images.rasters import Grid
from cloudsom.images.references import check_cloud_codes
from cloudsom.som import labelled_map, submaps
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.som.labels import CLASS_CODES, NeuronLabels, is_cloud
from cloudsom.tuning import bright_samples, corrected_files, correction, scenes, suggestions
from cloudsom.tuning.relabelling import (
    FLIPPED,
    KEPT,
    REFUSED,
    SPLIT,
    Change,
    Evidence,
    brightened,
    dark_ground,
    decide,
    flip_of,
    relabel,
    touched,
)

N = MASK_NODATA

# --- filters ----------------------------------------------------------------------------------------------------------


def mask_of(text: str) -> np.ndarray:
    """A mask drawn with # cloud, . clear, x nodata."""
    codes = {"#": CLOUD, ".": CLEAR, "x": N}
    return np.array([[codes[c] for c in line] for line in text.split()], np.uint8)


def test_median_removes_single_pixels_and_fills_single_holes() -> None:
    before = mask_of("..... .#... ..... ..### ..#.# ..###")
    # The hole is filled; at the edge 3 of 6 or of 4 is no majority, and what was there stays.
    after = mask_of("..... ..... ..... ...## ..### ..###")
    assert np.array_equal(filters.median(before, 3), after)


def test_median_leaves_nodata_out_of_the_count() -> None:
    # The middle pixel is cloud, with one clear and one cloudy neighbour that have data: 2 of 3 are cloud.
    assert filters.median(mask_of("xxx .## xxx"), 3)[1, 1] == CLOUD
    # With as many clear as cloudy pixels it keeps its value, either way.
    assert filters.median(mask_of("xxx x#. xxx"), 3).tolist() == mask_of("xxx x#. xxx").tolist()
    # Were nodata clear, this corner would be lost.
    assert filters.median(mask_of("##x ##x xxx"), 3).tolist() == mask_of("##x ##x xxx").tolist()


def test_dilation_by_hand() -> None:
    before = mask_of("..... ..... ..#.x ..... .....")
    assert filters.dilate(before, 1, "disk").tolist() == mask_of("..... ..#.. .###x ..#.. .....").tolist()
    assert filters.dilate(before, 1, "square").tolist() == mask_of("..... .###. .###x .###. .....").tolist()
    two = mask_of("..#.. .###. ####x .###. ..#..")
    assert filters.dilate(before, 2, "disk").tolist() == two.tolist()


def test_zero_and_one_leave_the_filters_out() -> None:
    mask = mask_of("#.# .#. x#.")
    for size in (0, 1):
        assert np.array_equal(filters.final_mask(mask, size, 0, "disk"), mask)


shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)
masks = hnp.arrays(np.uint8, shapes, elements=st.sampled_from([0, 1, 255]))


@settings(max_examples=60)
@given(masks, st.sampled_from([0, 3, 5]), st.sampled_from([0, 1, 2]), st.sampled_from(["disk", "square"]))
def test_nodata_neither_grows_nor_shrinks_nor_feeds_the_filters(
    mask: np.ndarray, size: int, radius: int, shape: str
) -> None:
    out = filters.final_mask(mask, size, radius, shape)
    assert np.array_equal(out == N, mask == N) and set(np.unique(out)) <= {0, 1, 255}
    # The same scene inside a wider frame without data comes out the same: the edge is where data end.
    framed = filters.final_mask(np.pad(mask, 3, constant_values=N), size, radius, shape)
    assert np.array_equal(framed[3:-3, 3:-3], out)
    assert not ((out != CLOUD) & (filters.median(mask, size) == CLOUD)).any()  # dilation takes no cloud away


@settings(max_examples=30)
@given(masks, st.sampled_from([3, 5]))
def test_without_nodata_the_median_is_scipys_away_from_the_edge(mask: np.ndarray, size: int) -> None:
    mask = np.where(mask == N, 0, mask).astype(np.uint8)
    inner = (slice(size // 2, -(size // 2)),) * 2
    assert np.array_equal(filters.median(mask, size)[inner], ndimage.median_filter(mask, size)[inner])


def test_stripes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.random.default_rng(0).choice([0, 1, 255], (50, 20), p=[0.5, 0.1, 0.4]).astype(np.uint8)
    whole = filters.final_mask(mask, 5, 3, "disk")
    monkeypatch.setattr(stripes, "STRIPE_ROWS", 7)
    assert np.array_equal(filters.final_mask(mask, 5, 3, "disk"), whole)


# --- relabelling ------------------------------------------------------------------------------------------------------

#: The authors' own map (decoded from their figure): O opaque cloud, C cirrus, L land, W water, S shadow, N snow.
AUTHORS_MAP = """\
OOOOOOOOOONNNNN OOOOOOOOOONNNNN OOOOOOOOOONNNNN OOOOOOOOONNNNNN OOOOOOOOONNNNNN OOOOOOOOONNNNNN OOOOOOOOONNNNNN
OOOLOOOOCNNNNNN OOLCCCCCCCCNNNN OLLCCLCCCCCNNNN OLLLCCCCCOONNNN LLLLLCCCCCCONSS LLLLLCCCCCCOSSS LLLLLLCCCCCSSWW
OLLLLLLLLCCWSWW CLLLLLLLSLSSWWW CLLLLLLLLLSSWWW CLLLLLLLLSSSWWW LLLLLLLLSSSSSWW LLLLLLLSSSSSSWW
"""
#: The neurons they flipped, row and column counted from 1.
AUTHORS_FLIPS = "7,3 8,2 8,3 9,2 10,1 10,4 11,1 11,5 12,6 12,11 12,12 13,6 13,11 13,12 14,7 14,9 15,1 15,10"


def authors_labels() -> NeuronLabels:
    code = dict(zip("LWSCON", CLASS_CODES, strict=True))
    classes = np.array([code[letter] for line in AUTHORS_MAP.split() for letter in line], np.uint8)
    return NeuronLabels(20, 15, classes, is_cloud(classes), np.full(300, 0.9))


def test_the_authors_flips_take_125_cloud_neurons_to_107() -> None:
    labels = authors_labels()
    votes = np.full((300, 6), 10)
    none = np.zeros(300, np.int64)
    evidence = Evidence(labels.cloud, votes, none, none)
    places = [text.split(",") for text in AUTHORS_FLIPS.split()]
    neurons = [(int(row) - 1) * 15 + int(column) - 1 for row, column in places]
    decisions = decide([flip_of(evidence, neuron, by_hand=True) for neuron in neurons], evidence, max_loss=0.0)
    assert [d.action for d in decisions] == [FLIPPED] * 18
    after = relabel(labels, votes, [d.neuron for d in decisions])
    assert ((labels.cloud == CLOUD).sum(), (after.cloud == CLOUD).sum()) == (125, 107)
    assert set(np.flatnonzero(labels.cloud != after.cloud)) == set(neurons)
    assert set(after.classes[neurons]) == {10} and np.allclose(after.share[neurons], 1 / 6)
    rest = np.setdiff1d(np.arange(300), neurons)  # the other neurons keep everything: the flips can be taken back
    assert np.array_equal(after.classes[rest], labels.classes[rest])
    assert np.array_equal(after.share[rest], labels.share[rest])


def evidence_of(clouds: list[int], samples: list[int], cloud: list[int] | None = None) -> Evidence:
    votes = np.zeros((len(clouds), 6), np.int64)
    votes[:, CLASS_CODES.index(50)] = clouds
    labels = np.array(cloud or [CLOUD] * len(clouds), np.uint8)
    return Evidence(labels, votes, np.array(samples), np.array(samples))


def test_touched_neurons_are_cloud_and_have_enough_samples_and_share() -> None:
    evidence = evidence_of([10] * 5, [0, 4, 5, 50, 41], [CLOUD, CLOUD, CLOUD, CLOUD, CLEAR])
    assert np.flatnonzero(touched(evidence, 5, 0.0)).tolist() == [2, 3]
    assert np.flatnonzero(touched(evidence, 5, 0.5)).tolist() == [3]


def test_flips_are_refused_once_the_budget_is_spent() -> None:
    evidence = evidence_of([40, 10, 30, 0, 920], [10, 10, 30, 7, 0])
    decisions = decide([flip_of(evidence, i) for i in range(4)], evidence, max_loss=0.045)  # 45 of 1000 spectra
    # For each sample: neuron 3 loses 0, then 1 and 2 lose 1; 40 are spent, so neuron 0 with 4 a sample is refused.
    assert [d.action for d in decisions] == [REFUSED, FLIPPED, FLIPPED, FLIPPED]
    assert "would lose 40 training cloud spectra, 5 are left" in decisions[0].reason
    assert evidence.recall == 1.0
    free = decide([flip_of(evidence, 0, by_hand=True), flip_of(evidence, 1)], evidence, max_loss=0.0)
    assert [(d.action, d.reason[:13]) for d in free] == [(FLIPPED, "named by hand"), (REFUSED, "would lose 10")]
    assert decide([Change(4, SPLIT, 3, 5, 9)], evidence, 1.0)[0].action == SPLIT


def test_neurons_that_the_training_spectra_share_are_contested_without_samples() -> None:
    evidence = evidence_of([90, 90, 90, 2, 90], [0, 0, 7, 0, 0], [CLOUD, CLOUD, CLOUD, CLOUD, CLEAR])
    evidence.votes[:, CLASS_CODES.index(10)] = [8, 4, 0, 8, 8]
    rules = correction.Rules(min_samples=5, min_share=0, max_loss=1, min_cloud=5, min_land_votes=5)
    flips = touched(evidence, 5, 0.0)
    # 0: mixed; 1: too few land votes; 2: samples; 3: too few clouds to learn from; 4: is clear already
    assert correction.contested(evidence, flips, rules) == [0, 2]
    assert correction.contested(evidence, flips, replace(rules, min_land_votes=0)) == [2]
    assert flip_of(evidence, 0).gained == 8
    assert evidence.what_falls_on(0) == "0 bright samples fall on it, and 8 training spectra of land"
    assert evidence.what_falls_on(2) == "7 bright samples fall on it"
    evidence.copies[2] = 21
    assert evidence.what_falls_on(2) == "7 bright samples fall on it, 21 with copies of other brightness"


def test_copies_are_brighter_above_dark_ground() -> None:
    dark = np.array([0.1, 0.05])
    copies = brightened(np.array([[0.3, 0.25]]), dark, [1.0, 1.5, 0.5])
    assert np.allclose(copies, [[0.3, 0.25], [0.4, 0.35], [0.2, 0.15]])
    assert brightened(np.array([[0.3, 0.25]]), dark, []).shape == (0, 2)
    weights = np.array([[0.3, 0.2], [0.1, 0.4], [0.0, 0.0]])
    assert dark_ground(weights, np.array([[1], [1], [0]])).tolist() == [0.1, 0.2]  # a neuron never hit does not count


# --- sub-maps ---------------------------------------------------------------------------------------------------------

RULES = submaps.SubMapRules(size=4, steps=3000, clear_share=0.5, shrinkage=0.3, separation=4.0, seed=0)
EVERY_BAND = list(range(13))


def two_sides(n: int = 400, apart: float = 0.02, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clouds and clear spectra on one neuron: strongly correlated bands, and a small step between the sides in B12."""
    draw = np.random.default_rng(seed)
    brightness = draw.normal(0.4, 0.05, (2 * n, 1))
    spectra = brightness * np.linspace(1, 0.7, 13) + draw.normal(0, 0.003, (2 * n, 13))
    spectra[n:, 12] += apart
    return spectra[:n], spectra[n:]


def test_a_submap_separates_what_one_neuron_cannot() -> None:
    clouds, clear = two_sides()
    submap = submaps.train_submap(clouds, clear, EVERY_BAND, RULES, neuron=3)
    unseen_clouds, unseen_clear = two_sides(seed=1)
    assert submap.is_cloud(unseen_clouds).mean() > 0.98 and submap.is_cloud(unseen_clear).mean() < 0.02
    rows = np.array([7, 3, 399])
    coordinates = submaps.coordinates(unseen_clear, submap.centre, submap.projection)
    np.testing.assert_allclose(coordinates, (unseen_clear - submap.centre) @ submap.projection, atol=1e-9)
    alone = submaps.coordinates(unseen_clear[rows], submap.centre, submap.projection)
    assert np.array_equal(alone, coordinates[rows])  # bits do not depend on company
    assert np.array_equal(submap.is_cloud(unseen_clear[rows]), submap.is_cloud(unseen_clear)[rows])


def test_submaps_are_reproducible_and_independent_of_each_other() -> None:
    clouds, clear = two_sides()
    first, again = (submaps.train_submap(clouds, clear, EVERY_BAND, RULES, neuron=3) for _ in range(2))
    other = submaps.train_submap(clouds, clear, EVERY_BAND, RULES, neuron=4)
    assert np.array_equal(first.weights, again.weights) and np.array_equal(first.cloud, again.cloud)
    assert not np.array_equal(first.weights, other.weights)


def test_a_band_left_out_has_no_say() -> None:
    clouds, clear = two_sides()
    bands = submaps.bands_for(50, ["B9"], ["B10"])
    assert [BANDS[i] for i in EVERY_BAND if i not in bands] == ["B9", "B10"]
    assert submaps.bands_for(40, ["B9"], ["B10"]) == [i for i in EVERY_BAND if BANDS[i] != "B9"]
    submap = submaps.train_submap(clouds, clear, bands, RULES, neuron=0)
    changed = clouds.copy()
    changed[:, [9, 10]] += 5.0
    assert np.array_equal(submap.is_cloud(clouds), submap.is_cloud(changed))


def test_standardised_sides_spread_alike_and_the_way_between_them_is_stretched() -> None:
    clouds, clear = two_sides(5000)
    for stretch in (1.0, 4.0):
        centre, projection = submaps.standardisation(clouds, clear, EVERY_BAND, shrinkage=0.0, separation=stretch)
        z = [(side - centre) @ projection for side in (clouds, clear)]
        apart = z[1].mean(axis=0) - z[0].mean(axis=0)
        assert np.allclose(z[0].mean(axis=0), -z[1].mean(axis=0))  # the origin lies between the sides
        within = (np.cov(z[0].T) + np.cov(z[1].T)) / 2
        values, vectors_ = np.linalg.eigh(within)
        assert np.allclose(values[:-1], 1, atol=0.01) and np.isclose(values[-1], stretch**2, rtol=0.01)
        if stretch > 1:
            assert abs(vectors_[:, -1] @ apart) > 0.999 * np.linalg.norm(apart)


def test_the_vote_weighs_sides_alike_and_empty_sub_neurons_follow_the_nearest() -> None:
    weights = np.array([[[0.0], [1.0], [2.0], [9.0]]]).reshape(2, 2, 1)
    clouds = np.array([[0.0], [0.0], [0.0], [1.0]])  # 3/4 of them on the first, 1/4 on the second
    clear = np.array([[1.0], [1.0], [0.1], [2.0]])  # 1/4, 1/2, 1/4
    assert submaps.vote(clouds, clear, weights, 0.5).tolist() == [CLOUD, CLEAR, CLEAR, CLEAR]  # 9 is nearest to 2
    # The second has 2/3 of clear votes: not more than 0.9 of them.
    assert submaps.vote(clouds, clear, weights, 0.9).tolist() == [CLOUD, CLOUD, CLEAR, CLEAR]


def tuned_map() -> LabelledMap:
    """A 2 x 2 map of which neuron 1 is split and neuron 2 is clear."""
    weights = np.repeat(np.array([0.2, 0.4, 0.6, 0.8])[:, None], 13, axis=1).reshape(2, 2, 13)
    classes, cloud = np.array([50, 50, 10, 40], np.uint8), np.array([255, 255, 0, 255], np.uint8)
    labels = NeuronLabels(2, 2, classes, cloud, np.ones(4))
    clouds, clear = two_sides()
    split = {1: submaps.train_submap(clouds, clear, EVERY_BAND, RULES, 1)}
    return LabelledMap(weights, np.full(13, 2.0), np.full(13, -0.1), labels, submaps=split)


def test_pixels_get_their_neurons_label_or_their_sub_neurons() -> None:
    tuned = tuned_map()
    clouds, clear = two_sides(50, seed=2)
    scaled = np.concatenate([clouds, clear])
    bmus = np.tile(np.array([0, 1, 2, 3, -1], np.int32), 20)
    found = tuned.cloud(scaled, bmus)
    for spectrum, bmu, label in zip(scaled, bmus, found, strict=True):  # one by one, as slowly as it goes
        if bmu == 1:
            assert (label == CLOUD) == tuned.submaps[1].is_cloud(spectrum[None])[0]
        elif bmu >= 0:
            assert label == tuned.labels.cloud[bmu]
    assert set(found[bmus == 1]) == {CLOUD, CLEAR}


def test_a_split_counts_its_own_samples_apart_from_training_spectra_and_copies() -> None:
    """One neuron; its clear training spectra and the copies look like clouds, only the samples do not."""
    clouds, clear = two_sides(400, apart=0.08)
    labels = NeuronLabels(1, 1, np.array([50], np.uint8), np.array([CLOUD], np.uint8), np.ones(1))
    som = LabelledMap(clouds.mean(axis=0).reshape(1, 1, 13), np.ones(13), np.zeros(13), labels)
    training, codes = clouds[:220], np.repeat([50, 10], [200, 20])  # the last 20 are called land
    samples = correction.Samples(np.concatenate([clear[:60], clouds[300:330]]), np.zeros(90, np.int32), 60)
    rules = correction.Rules(5, 0, 1, submaps=replace(RULES, clear_share=0.7))
    _, changes = correction.train_submaps(som, samples, {0: (training, codes)}, rules)
    assert 55 <= changes[0].cleared <= 60 and changes[0].cleared <= changes[0].gained <= changes[0].cleared + 10


def test_a_neuron_with_few_clouds_is_flipped_and_one_with_many_split() -> None:
    clouds, clear = two_sides(300, apart=0.08)
    weights = np.stack([np.full(13, 0.05), clouds.mean(axis=0)])
    labels = NeuronLabels(1, 2, np.array([50, 50], np.uint8), np.full(2, CLOUD, np.uint8), np.ones(2))
    votes = np.zeros((2, 6), np.int64)
    votes[:, CLASS_CODES.index(50)] = 2, 200
    som = LabelledMap(weights.reshape(1, 2, 13), np.ones(13), np.zeros(13), labels, votes)
    asked: list[int] = []

    def on(wanted: Sequence[int]) -> dict[int, correction.Labelled]:
        asked.extend(wanted)
        return {neuron: (clouds[:200], np.full(200, 50)) for neuron in wanted}

    samples = np.concatenate([np.full((6, 13), 0.05), clear[:60]])
    rules = correction.Rules(5, 0, 1, submaps=replace(RULES, clear_share=0.7), min_cloud=5, min_cloud_for_copies=100)
    done = correction.correct(som, samples, rules, correction.Training(on, np.empty((0, 13))))
    assert asked == [1] and {d.neuron: d.action for d in done.decisions} == {0: FLIPPED, 1: SPLIT}
    assert done.tuned.labels.cloud.tolist() == [CLEAR, CLOUD] and set(done.tuned.submaps) == {1}
    assert done.samples_left <= 5 and done.lost <= 2 + 10
    table = corrected_files.price_table(som, done, 5)
    assert table["neuron"].tolist() == ["1,1", "1,2"] and table["flip_cloud_lost"].tolist() == [2, 200]
    table.loc[0, "action"] = KEPT
    lines = corrected_files.shown(table).splitlines()
    assert len(lines) == 2 and lines[1].split()[:3] == ["1,2", "0", "200"]
    flips = correction.correct(som, samples, replace(rules, submaps=None))
    assert [d.action for d in flips.decisions] == [FLIPPED] * 2 and not flips.tuned.labels.cloud.any()
    assert flips.samples_left == 0 and flips.lost == 202


def test_samples_on_clear_neurons_alone_change_nothing() -> None:
    labels = NeuronLabels(1, 2, np.array([50, 10], np.uint8), np.array([CLOUD, CLEAR], np.uint8), np.ones(2))
    weights = np.stack([np.full(13, 0.8), np.full(13, 0.1)]).reshape(1, 2, 13)
    som = LabelledMap(weights, np.ones(13), np.zeros(13), labels, np.full((2, 6), 9))
    done = correction.correct(som, np.full((6, 13), 0.1), correction.Rules(5, 0, 1))
    table = corrected_files.price_table(som, done, 5)
    assert not done.decisions and table.empty and {"neuron", "flip_cloud_lost", "action"} <= set(table.columns)
    assert corrected_files.shown(table) == "no neuron to change"


def test_land_that_is_copied_is_bright_and_dry_and_land() -> None:
    bright_dry = np.full(13, 0.3)
    bright_dry[10] = 0.001
    dark, wet, under_cirrus = bright_dry.copy(), bright_dry.copy(), bright_dry.copy()
    dark[[1, 2, 3]], wet[[11, 12]], under_cirrus[10] = 0.1, 0.2, 0.02
    spectra = np.stack([bright_dry, dark, wet, under_cirrus, bright_dry])
    labels = np.array([10, 10, 10, 10, 50])
    rules = correction.Rules(5, 0, 1, training_land=9, least_brightness=0.15, most_cirrus=0.005)
    found = correction.bright_land_of([(spectra, labels), (spectra[:1], labels[:1])], rules)
    assert np.array_equal(found, np.stack([bright_dry, bright_dry]))
    seven = np.repeat(spectra[:1], 7, axis=0), np.full(7, 10)
    assert len(correction.bright_land_of([seven], replace(rules, training_land=3))) == 3


def test_a_corrected_map_survives_its_file(tmp_path: Path) -> None:
    tuned, file = tuned_map(), tmp_path / "map.npz"
    labelled_map.save(file, tuned)
    back = labelled_map.load(file)
    clouds, clear = two_sides(50, seed=2)
    scaled, bmus = np.concatenate([clouds, clear]), np.ones(100, np.int32)
    assert np.array_equal(back.cloud(scaled, bmus), tuned.cloud(scaled, bmus))
    assert np.array_equal(back.weights, tuned.weights) and np.array_equal(back.labels.cloud, tuned.labels.cloud)
    first = file.read_bytes()
    labelled_map.save(file, back)
    assert file.read_bytes() == first
    labelled_map.save(file, replace(tuned, submaps={}))
    assert labelled_map.load(file).submaps == {}


def bad_file(kind: str, file: Path) -> None:
    labelled_map.save(file, tuned_map())
    with np.load(file) as whole:
        arrays = dict(whole)
    if kind == "truncated":
        file.write_bytes(file.read_bytes()[:-400])
        return
    if kind == "no zip":
        file.write_bytes(b"weights")
        return
    change = {
        "objects": {"weights": np.array([{}, []], object)},
        "a neuron off the map": {"submap_neuron": np.array([4])},
        "other shape": {"submap_projection": np.zeros((1, 13, 12))},
        "not finite": {"weights": np.full((2, 2, 13), np.nan)},
        "text": {"cloud": np.array(["a"] * 4)},
        "12 bands": {"weights": np.zeros((2, 2, 12))},
    }.get(kind, {})
    arrays |= change
    if kind == "missing":
        del arrays["submap_cloud"]
    np.savez(file, **arrays)


@pytest.mark.parametrize(
    "kind",
    ["truncated", "no zip", "objects", "a neuron off the map", "other shape", "not finite", "text", "12 bands"]
    + ["missing"],
)
def test_other_files_are_refused(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "map.npz"
    bad_file(kind, file)
    with pytest.raises(UserError, match=r"map\.npz: not a labelled map"):
        labelled_map.load(file)


# --- samples ----------------------------------------------------------------------------------------------------------


def test_false_alarms_keep_away_from_clouds_and_unknown_pixels() -> None:
    mask = mask_of("##### ##### ....#")
    reference = np.array([[5, 5, 5, 5, 2], [0, 5, 5, 5, 5], [5, 5, 5, 5, 5]])
    rules = bright_samples.Sampling((2, 3), (0, 1), 1, 0.15, 0.005, {}, {}, 9, 0)
    found = bright_samples.false_alarms(mask, reference, rules)
    assert np.argwhere(found).tolist() == [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2], [2, 4]]


def test_bright_is_in_the_visible_and_not_under_cirrus() -> None:
    spectra = np.zeros((4, 13))
    spectra[:, [1, 2, 3]] = [[0.1, 0.15, 0.2], [0.1, 0.1, 0.2], [0.3, 0.3, 0.3], [0.2, 0.2, 0.2]]
    spectra[2, 10] = 0.02
    spectra[:, [11, 12]] = [[0.1, 0.2], [0.3, 0.3], [0.3, 0.3], [0.1, 0.2]]
    assert is_bright(spectra, 0.15, 0.005).tolist() == [True, False, False, True]
    assert is_dry(spectra).tolist() == [True, True, True, False]


CSV_FAULTS = {
    "product,row\nA,1\n": "no column 'column'",
    "product,row,column,why\nA,1,1,x\n": "has the columns product, row, column, why",
    "product,row,column\n": "names no pixels",
    "product,row,column\nA,1,1\nA,-1,2\n": "line 3: row is -1;",
    "product,row,column\nA,1,1.5\n": "line 2: column is 1.5",
    "product,row,column\nA,one,2\n": "line 2: row is one",
    "product,row,column\n,1,2\n": "line 2: names no product",
    "": "not a readable table",
}


@pytest.mark.parametrize("text", CSV_FAULTS)
def test_hand_written_tables_are_checked(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(text)
    with pytest.raises(UserError) as problem:
        bright_samples.read_positions(file)
    assert CSV_FAULTS[text] in str(problem.value) and "mine.csv" in str(problem.value)


def test_positions_outside_the_image_or_without_data_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    mask = mask_of(".#x ...")
    for row, column, said in ((2, 0, "row 2, column 0 is outside"), (0, 2, "row 0, column 2 has no data")):
        file.write_text(f"product,row,column\nA.SAFE,0,1\nA,{row},{column}\n")
        table = bright_samples.read_positions(file)
        assert table["product"].tolist() == ["A", "A"]
        with pytest.raises(UserError, match=f"line 3: {said}"):
            bright_samples.check_positions(file, table, mask)


# --- vector files -----------------------------------------------------------------------------------------------------

GRID = Grid(6, 5, (600000.0, 60.0, 0.0, 4900020.0, 0.0, -60.0), utm31())


@pytest.mark.parametrize(
    ("name", "driver", "system"),
    [("sand.geojson", "GeoJSON", "4326"), ("sand.gpkg", "GPKG", "3857"), ("sand.shp", "ESRI Shapefile", "32631")],
)
def test_polygons_mark_the_pixels_whose_centre_they_hold(tmp_path: Path, name: str, driver: str, system: str) -> None:
    file = write_vectors(tmp_path / name, driver, [square(0.6, 0.4, 3.4, 2.4)], system)
    features = vectors.read_features(file)
    found = [divmod(int(i), GRID.width) for i in vectors.pixels_marked(features, GRID, "scene")]
    assert found == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert vectors.sidecars(file)[0] == file and all(place.is_file() for place in vectors.sidecars(file))


def test_points_mark_the_pixel_they_lie_in_and_may_name_a_product(tmp_path: Path) -> None:
    point = f"POINT ({600000 + 60 * 5.9} {4900020 - 60 * 4.1})"
    file = write_vectors(tmp_path / "p.geojson", "GeoJSON", [point], "4326", product="A.SAFE")
    features = vectors.read_features(file)
    assert [f.product for f in features] == ["A"]
    assert vectors.pixels_marked(features, GRID, "scene").tolist() == [4 * 6 + 5]
    elsewhere = Grid(6, 5, (700000.0, 60.0, 0.0, 4900020.0, 0.0, -60.0), utm31())
    assert vectors.pixels_marked(features, elsewhere, "scene").size == 0


def test_vector_files_are_checked(tmp_path: Path) -> None:
    bare = write_vectors(tmp_path / "bare.shp", "ESRI Shapefile", [square(0, 0, 2, 2)])
    line = write_vectors(tmp_path / "line.gpkg", "GPKG", ["LINESTRING (600000 4900000, 600100 4900000)"], "32631")
    empty = write_vectors(tmp_path / "empty.gpkg", "GPKG", [], "32631")
    text = tmp_path / "text.geojson"
    text.write_text("sand")
    virtual = tmp_path / "virtual.geojson"  # a driver that reads other files and networks, under an honest name
    virtual.write_text('<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>/vsicurl/http://x</SrcDataSource>'
                       "</OGRVRTLayer></OGRVRTDataSource>")  # fmt: skip
    for file, said in (
        (bare, "bare.shp: layer bare has no coordinate system"),
        (line, "line.gpkg: feature 1 is a linestring"),
        (empty, "empty.gpkg: holds no points or polygons"),
        (text, "text.geojson: "),
        (virtual, "a vector file is needed"),
        (tmp_path / "none.gpkg", "none.gpkg: no such file"),
        (Path("/vsicurl/http://127.0.0.1/a.geojson"), "virtual file systems are not read"),
    ):
        with pytest.raises(UserError) as problem:
            vectors.read_features(file)
        assert said in str(problem.value)
    with pytest.raises(UserError, match="scene: has no coordinate system"):
        vectors.pixels_marked([], Grid(6, 5), "scene")


def test_a_query_without_end_in_a_vector_file_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_vectors(tmp_path / "sand.gpkg", "GPKG", [square(0, 0, 2, 2)], "32631")
    with closing(sqlite3.connect(file)) as database:
        (name,) = database.execute("SELECT table_name FROM gpkg_contents").fetchone()
        triggers = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (trigger,) in triggers:
            database.execute(f'DROP TRIGGER "{trigger}"')
        database.execute(f'DROP TABLE "{name}"')
        database.execute(
            f'CREATE VIEW "{name}" AS WITH RECURSIVE c(fid) AS (SELECT 1 UNION ALL SELECT fid + 1 FROM c) '
            "SELECT fid, NULL AS geom FROM c WHERE fid < 0"
        )
        database.commit()
    monkeypatch.setattr(vectors, "MAX_SECONDS", 2)
    with pytest.raises(UserError, match=r"sand\.gpkg: is not read within 2 s; save its points"):
        vectors.read_features(file)


# --- suggestions ------------------------------------------------------------------------------------------------------


def test_neighbours_by_hand() -> None:
    cloud = np.array([CLOUD, CLOUD, CLEAR, CLOUD, CLOUD, CLEAR], np.uint8)
    assert suggestions.clear_neighbours(cloud, 2, 3).tolist() == [0, 2 / 5, 1 / 3, 0, 2 / 5, 1 / 3]


def test_the_neuron_that_looks_like_sand_is_suggested_first() -> None:
    cloud, votes = np.array([CLOUD, CLOUD, CLOUD, CLEAR], np.uint8), np.zeros((4, 6), np.int64)
    votes[:, CLASS_CODES.index(50)] = 50
    votes[2, CLASS_CODES.index(10)] = 20
    weights = np.repeat(np.array([0.5, 0.4, 0.3, 0.2])[:, None], 13, axis=1)
    weights[2, [11, 12]] = 0.5
    weights[:2, 10] = 0.05
    labels = NeuronLabels(1, 4, np.full(4, 50, np.uint8), cloud, np.ones(4))
    som = LabelledMap(weights.reshape(1, 4, 13) * 2 - 0.1, np.full(13, 2.0), np.full(13, -0.1), labels, votes)
    for pixels in (None, np.array([0, 0, 9, 100])):
        table = suggestions.rank_neurons(som, pixels)
        assert table["neuron"].tolist()[0] == "1,3" and table["rank"].tolist() == [1, 2, 3] and len(table) == 3
    assert table["scene_pixels"].tolist()[0] == 9 and table["clear_votes"].tolist() == [20 / 70, 0, 0]
    left, right = suggestions.suggestion_figure(table, som, 2).axes[:2]
    assert [text.get_text() for text in left.texts] == ["1", "2"]
    assert left.texts[0].get_position() == (3, 1)  # column and row from 1
    lines = right.get_lines()
    assert [line.get_label() for line in lines] == ["1", "2", "opaque cloud (mean)"]
    assert np.asarray(lines[0].get_ydata()).max() == 0.5 and len({line.get_color() for line in lines}) == 3


@pytest.mark.parametrize("brighter", ["clear_votes", "short_wave_rise", "cirrus"])
def test_each_piece_of_evidence_speaks_for_bright_land_the_right_way(brighter: str) -> None:
    """Two cloud neurons side by side, alike but for one thing: what rises speaks for land, but B10 against it."""
    weights, votes = np.full((2, 13), 0.3), np.zeros((2, 6), np.int64)
    votes[:, CLASS_CODES.index(50)] = 60
    if brighter == "clear_votes":
        votes[1, CLASS_CODES.index(10)] = 20
    else:
        weights[1, [BANDS.index(band) for band in (("B11", "B12") if brighter == "short_wave_rise" else ("B10",))]] = (
            0.4
        )
    labels = NeuronLabels(1, 2, np.full(2, 50, np.uint8), np.full(2, CLOUD, np.uint8), np.ones(2))
    som = LabelledMap(weights.reshape(1, 2, 13), np.ones(13), np.zeros(13), labels, votes)
    table = suggestions.rank_neurons(som, None)
    assert table["neuron"].tolist() == (["1,1", "1,2"] if brighter == "cirrus" else ["1,2", "1,1"])
    assert table[brighter].is_monotonic_increasing if brighter == "cirrus" else table[brighter].is_monotonic_decreasing


def test_folds_are_even_and_keep_the_scenes_of_a_tile_together() -> None:
    tiles = ["T31TFJ", "T31TFJ", "T31TFJ", "T18SVG", "T38KQF", "T38KQF", "T32UPV"]
    names = [f"S2A_MSIL1C_2017043{i}T103021_N0205_R108_{tile}_20170430T103024" for i, tile in enumerate(tiles)]
    folds = scenes.deal([*names, "mine"], 3)
    assert sorted(name for fold in folds for name in fold) == sorted([*names, "mine"])
    assert sorted(map(len, folds)) == [2, 3, 3]
    for tile in set(tiles):
        assert sum(any(tile in name for name in fold) for fold in folds) == 1
    assert len(scenes.deal(names, 9)) == 4
    with pytest.raises(UserError, match="all of one tile"):
        scenes.deal(names[:3], 2)
    split = scenes.Split(names, names, (), folds)
    assert split.held_out and not split.tuned_on(names[0]) and split.fold_of("other") == 0
    assert names[0] in split.left_out(split.fold_of(names[0])) and split.left_out(0) == ()


def test_what_gave_no_samples_is_held_out_and_what_has_no_reference_is_not_scored() -> None:
    split = scenes.Split(["A", "B"], ["C"], maybe=frozenset("AB"), silent=frozenset("C"))
    done = split.sampled({"A"})
    said = "fine-tuned on 1 products (A); held out for scoring: 1 (B); held out without a reference: 1 (C)"
    assert str(done) == said and done.tuned_on("A") and not done.tuned_on("B") and done.held_out
    assert replace(split, named=True).sampled({"A"}).test == ["C"]


def test_a_code_that_no_reference_holds_is_no_cloud(tmp_path: Path) -> None:
    files = [write_reference(tmp_path, name, np.array([[0, 5], [c, 5]])) for name, c in (("A", 2), ("B", 7))]
    check_cloud_codes([2, 3, 7], files)  # 3, high clouds, may happen to be in none
    with pytest.raises(UserError, match="CLOUD_CODES: no reference holds 4; they hold 0, 2, 5, 7"):
        check_cloud_codes([2, 4], files)
    files[0].write_bytes(b"")  # it fails by itself, and may hold any
    check_cloud_codes([2, 4], files)
