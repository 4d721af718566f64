"""Which neurons bright land falls on, what it costs to call them clear, and the labels afterwards.

The paper (section 2.2, stage 3) flips "the wrong neurons" and gives no rule for choosing them; the rules here are ours.
Arrays have one entry a neuron, in row-major order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import CLEAR, CLOUD, CLOUD_CLASSES
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.som.labels import CLASS_CODES, NeuronLabels

#: The class of a flipped neuron: bright land is land.
LAND = 10

KEPT, FLIPPED, SPLIT, REFUSED = "kept", "flipped", "split", "refused"


@dataclass(frozen=True)
class Evidence:
    """What is known of each neuron: its training votes, and the bright samples that fall on it.

    cloud    uint8, the label before (255 or 0)
    votes    int64 (neurons, 6), training spectra by class in the order of `CLASS_CODES`
    samples  int64, bright samples that fall on the neuron
    copies   int64, samples and copies of other brightness that fall on it (equal to `samples` without copies)
    """

    cloud: NDArray[np.uint8]
    votes: NDArray[np.int64]
    samples: NDArray[np.int64]
    copies: NDArray[np.int64]

    @classmethod
    def before_samples(cls, som: LabelledMap) -> "Evidence":
        """What the map itself says; its votes must be known."""
        assert som.votes is not None, "a .npz holds no votes: load the map from the files of the steps"
        none = np.zeros(len(som.votes), np.int64)
        return cls(som.labels.cloud, som.votes, none, none)

    @property
    def cloud_votes(self) -> NDArray[np.int64]:
        """Training spectra of the cloud classes on each neuron."""
        columns = [CLASS_CODES.index(code) for code in CLOUD_CLASSES]
        return self.votes[:, columns].sum(axis=1)

    @property
    def clear_votes(self) -> NDArray[np.int64]:
        """Training spectra of the other classes on each neuron."""
        rest: NDArray[np.int64] = self.votes.sum(axis=1) - self.cloud_votes
        return rest

    @property
    def land_votes(self) -> NDArray[np.int64]:
        """Training spectra of land on each neuron."""
        return self.votes[:, CLASS_CODES.index(LAND)]

    def what_falls_on(self, neuron: int) -> str:
        """In words, the ground that speaks for changing a neuron."""
        samples, copies, votes = self.samples[neuron], self.copies[neuron], self.land_votes[neuron]
        text = f"{samples} bright samples fall on it"
        text += f", {copies} with copies of other brightness" if copies > samples else ""
        return text + (f", and {votes} training spectra of land" if votes else "")

    @property
    def recall(self) -> float:
        """Share of the training cloud spectra that come out as cloud."""
        found = self.cloud_votes[self.cloud == CLOUD].sum()
        return float(found / max(self.cloud_votes.sum(), 1))


@dataclass(frozen=True)
class Change:
    """What one change would do, and what has become of it once that is decided.

    kind     FLIPPED or SPLIT
    lost     training cloud spectra that would no longer come out as cloud
    cleared  bright samples that would come out as clear
    gained   the same, with the samples' copies and the training spectra of clear classes
    action   its kind, or REFUSED; and why
    """

    neuron: int
    kind: str
    lost: int
    cleared: int
    gained: int
    by_hand: bool = False
    action: str = ""
    reason: str = ""


def touched(evidence: Evidence, min_samples: int, min_share: float) -> NDArray[np.bool_]:
    """Cloud neurons with at least `min_samples` bright samples that are at least `min_share` of all samples."""
    enough = (evidence.samples >= min_samples) & (evidence.samples >= min_share * evidence.samples.sum())
    return enough & (evidence.cloud == CLOUD) & (evidence.samples > 0)


def flip_of(evidence: Evidence, neuron: int, by_hand: bool = False) -> Change:
    """Calling a whole neuron clear: all its cloud spectra are lost, all its samples are cleared."""
    lost, cleared = int(evidence.cloud_votes[neuron]), int(evidence.samples[neuron])
    gained = int(evidence.copies[neuron] + evidence.clear_votes[neuron])
    return Change(neuron, FLIPPED, lost, cleared, gained, by_hand)


def decide(changes: Sequence[Change], evidence: Evidence, max_loss: float) -> list[Change]:
    """Make the changes, cheapest first, until the training cloud spectra they lose reach the share `max_loss`.

    Cheapest is the change that loses fewest cloud spectra for each clear one it gains. A change that does not fit into
    what is left is refused, and smaller ones after it still made. What a person named by hand is always made, first.
    """
    budget = max_loss * evidence.cloud_votes.sum()
    spent = 0
    decisions = []
    for change in sorted(changes, key=lambda c: (not c.by_hand, c.lost / max(c.gained, 1), c.neuron)):
        if change.by_hand:
            action, reason = change.kind, "named by hand"
        elif spent + change.lost <= budget:
            action, reason = change.kind, evidence.what_falls_on(change.neuron)
        else:
            action = REFUSED
            reason = f"would lose {change.lost} training cloud spectra, {max(int(budget) - spent, 0)} are left to lose"
        spent += change.lost if action != REFUSED else 0
        decisions.append(replace(change, action=action, reason=reason))
    return sorted(decisions, key=lambda change: change.neuron)


def relabel(labels: NeuronLabels, votes: NDArray[np.int64], flipped: Sequence[int]) -> NeuronLabels:
    """The labels with some neurons turned to land and clear; `votes` (neurons, 6) give the land's share there."""
    classes, cloud, share = labels.classes.copy(), labels.cloud.copy(), labels.share.copy()
    for neuron in flipped:
        classes[neuron], cloud[neuron] = LAND, CLEAR
        total = votes[neuron].sum()
        share[neuron] = votes[neuron, CLASS_CODES.index(LAND)] / total if total else np.nan
    return replace(labels, classes=classes, cloud=cloud, share=share)


def brightened(
    samples: NDArray[np.float64], dark: NDArray[np.float64], factors: Sequence[float]
) -> NDArray[np.float64]:
    """Copies of spectra (n, 13) as the same ground looks under other light: dark + factor * (spectrum - dark).

    `dark` (13,) is the reflectance of dark ground at the top of the atmosphere, which is the light that the air itself
    scatters; only what lies above it comes from the ground. Returns (factors * n, 13), one factor after the other.
    """
    copies = [dark + factor * (samples - dark) for factor in factors]
    return np.concatenate([np.empty((0, samples.shape[1])), *copies])


def dark_ground(weights: NDArray[np.float64], votes: NDArray[np.int64]) -> NDArray[np.float64]:
    """The darkest reflectance (13,) the map knows in each band: the smallest weight among neurons that were ever hit.

    weights  (neurons, 13) in reflectance
    """
    hit = votes.sum(axis=1) > 0
    darkest: NDArray[np.float64] = np.maximum(weights[hit if hit.any() else slice(None)].min(axis=0), 0.0)
    return darkest
