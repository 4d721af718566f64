"""Hit maps and the majority vote, on maps small enough to check by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloudsom.bands import CLASSES
from cloudsom.som.labels import CLASS_CODES, hit_maps, is_cloud, majority_vote, tied_neurons, unhit_neurons

TIES = (50, 40, 10, 20, 30, 60)


def test_hits_are_counted_by_neuron_and_class() -> None:
    bmus = np.array([0, 0, 2, 2, 2, -1], np.int32)
    labels = np.array([10, 50, 40, 40, 60, 50])
    counts = hit_maps(bmus, labels, 3)
    assert counts.tolist() == [[1, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 2, 0, 1]]


@given(st.lists(st.tuples(st.integers(-1, 7), st.sampled_from(sorted(CLASSES)))))
def test_every_row_with_a_bmu_is_counted_once(rows: list[tuple[int, int]]) -> None:
    bmus, labels = np.array([r[0] for r in rows], np.int32), np.array([r[1] for r in rows], np.int64)
    counts = hit_maps(bmus, labels, 8)
    for neuron in range(8):
        for k, code in enumerate(CLASS_CODES):
            assert counts[neuron, k] == sum(row == (neuron, code) for row in rows)


def vote(counts: list[list[int]], unhit: str = "nearest") -> tuple[list[int], list[int], list[bool], list[bool]]:
    weights = np.arange(len(counts), dtype=float)[:, None, None]  # neuron i lies at i
    labels = majority_vote(np.array(counts), weights, TIES, unhit)
    ties, unhit_ones = tied_neurons(np.array(counts)), unhit_neurons(np.array(counts))
    return labels.classes.tolist(), labels.cloud.tolist(), ties.tolist(), unhit_ones.tolist()


def test_the_class_with_most_votes_wins() -> None:
    #           land water shadow cirrus cloud snow
    counts = [[5, 0, 0, 3, 1, 0], [0, 0, 1, 2, 0, 0], [0, 0, 0, 1, 9, 0], [0, 0, 0, 0, 0, 4]]
    assert vote(counts) == ([10, 40, 50, 60], [0, 255, 255, 0], [False] * 4, [False] * 4)
    labels = majority_vote(np.array(counts), np.zeros((4, 1, 1)), TIES, "clear")
    np.testing.assert_allclose(labels.share, [5 / 9, 2 / 3, 0.9, 1])


def test_ties_follow_the_order() -> None:
    classes, cloud, tied, _ = vote([[2, 0, 0, 2, 0, 0], [3, 3, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0]])
    assert (classes, cloud, tied) == ([40, 10, 50], [255, 0, 255], [True] * 3)
    land_first = majority_vote(np.array([[2, 0, 0, 2, 0, 0]]), np.zeros((1, 1, 1)), (10, 20, 30, 40, 50, 60), "clear")
    assert land_first.classes.tolist() == [10]


def test_a_neuron_never_hit_has_no_class_and_follows_its_rule() -> None:
    counts = [[0, 0, 0, 0, 3, 0], [0, 0, 0, 0, 0, 0], [0] * 6, [2, 0, 0, 0, 0, 0]]
    assert vote(counts, "nearest") == ([50, 0, 0, 10], [255, 255, 0, 0], [False] * 4, [False, True, True, False])
    assert vote(counts, "clear")[1] == [255, 0, 0, 0]
    assert vote([[0] * 6] * 2, "nearest")[:2] == ([0, 0], [0, 0])


def test_cirrus_and_opaque_cloud_are_cloud() -> None:
    assert is_cloud(np.array([0, *CLASS_CODES])).tolist() == [0, 0, 0, 0, 255, 255, 0]
