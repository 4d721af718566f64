"""What the values in a cloud mask mean: our own codes, and presets for the masks of other processors."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import CLEAR, CLOUD, MASK_NODATA
from cloudsom.errors import UserError

#: Tag of our masks that says what their codes mean, and what it says.
CODES_TAG, CODES_TEXT = "CODES", f"{CLOUD} cloud, {CLEAR} clear, {MASK_NODATA} nodata"

#: What `classify` gives pixels whose value has no meaning.
UNKNOWN = 2


@dataclass(frozen=True)
class Codes:
    """The values of a mask that are cloud, clear, and left out because the processor made no decision there.

    clear      None: every value that is neither cloud nor left out
    threshold  of masks that hold a cloud probability instead: cloud from this on, in the mask's own unit
    listed     the user listed the values, so a declared nodata among the cloud or clear ones is overruled
    """

    name: str
    cloud: frozenset[int] = frozenset()
    clear: frozenset[int] | None = frozenset()
    out: frozenset[int] = frozenset()
    threshold: float | None = None
    listed: bool = False

    def classify(self, values: NDArray[Any], nodata: float | None) -> NDArray[np.uint8]:
        """CLOUD, CLEAR, MASK_NODATA or UNKNOWN for each value; `nodata` is what the file declares to be none."""
        if self.threshold is not None:
            most = 1 if self.threshold <= 1 else 100
            known = [values >= self.threshold, values < self.threshold]
            known = [here & (values >= 0) & (values <= most) for here in known]
        else:
            cloud, out = np.isin(values, list(self.cloud)), np.isin(values, list(self.out))
            known = [cloud, ~(cloud | out) if self.clear is None else np.isin(values, list(self.clear))]
        left_out = np.isin(values, list(self.out))
        if nodata is not None and not (self.listed and nodata in self.cloud | (self.clear or frozenset())):
            left_out |= values == nodata
        if values.dtype.kind == "f":
            left_out |= np.isnan(values)
        return np.select([left_out, *known], [MASK_NODATA, CLOUD, CLEAR], UNKNOWN).astype(np.uint8)

    def means(self, value: float) -> bool:
        """Whether a value is cloud or clear by these codes."""
        return bool(self.classify(np.array([value]), None)[0] in (CLOUD, CLEAR))


def _preset(name: str, cloud: Iterable[int], clear: Iterable[int], out: Iterable[int] = ()) -> Codes:
    return Codes(name, frozenset(cloud), frozenset(clear), frozenset(out))


#: MAJA's CLM is a set of bits. Cloud, as CNES's own tool majamask takes it: 1 (clouds but the thinnest) and 7 (high,
#: seen at 1.38 um); shadows (0, 5, 6), the ways clouds were found (2, 3) and the thinnest clouds (4) alone make none.
MAJA_CLOUD_BITS = 1 << 1 | 1 << 7

#: scl: Sen2Cor's scene classification; 8, 9 cloud of medium and high probability, 10 cirrus, 0 no data, 1 saturated;
#: 7, unclassified, counts as clear.
#: fmask: python-fmask; 2 cloud, 0 null. omnicloudmask: 1 thick and 2 thin cloud, 3 shadow. ukis: 2 is shadow.
#: l1c: ESA's own mask in every L1C product. binary: 1 or 255 is cloud, 0 clear.
PRESETS = {
    codes.name: codes
    for codes in (
        _preset("scl", (8, 9, 10), (2, 3, 4, 5, 6, 7, 11), (0, 1)),
        _preset("fmask", (2,), (1, 3, 4, 5), (0,)),
        _preset("s2cloudless", (1,), (0,)),
        _preset("ukis", (1,), (0, 2)),
        _preset("omnicloudmask", (1, 2), (0, 3)),
        _preset(
            "maja",
            (value for value in range(256) if value & MAJA_CLOUD_BITS),
            (value for value in range(256) if not value & MAJA_CLOUD_BITS),
        ),
        _preset("l1c", (1,), (0,)),
        _preset("binary", (1, 255), (0,)),
    )
}

HOW = (
    f"one of {', '.join(PRESETS)}, s2cloudless(0.4) for probabilities, or codes(cloud=2,3;clear=1,4-6;out=0), where "
    "without `clear` all other codes are clear"
)


def read_preset(words: str) -> Codes:
    """The codes a preset's words name: a preset, `s2cloudless(THRESHOLD)`, or `codes(cloud=...;clear=...;out=...)`.

    A threshold up to 1 is for probabilities from 0 to 1, one above for those in per cent. Raises UserError.
    """
    if words in PRESETS:
        return PRESETS[words]
    parts = re.fullmatch(r"(s2cloudless|codes)\((.*)\)", words)
    if not parts:
        raise UserError(f"{words!r} is no preset; give {HOW}")
    if parts[1] == "codes":
        return _listed(words, parts[2])
    try:
        threshold = float(parts[2])
    except ValueError:
        threshold = -1
    if not 0 < threshold <= 100:
        raise UserError(f"{words}: the threshold is a probability above 0, up to 1 or in per cent up to 100")
    return Codes(words, clear=None, threshold=threshold)


def _listed(words: str, text: str) -> Codes:
    lists: dict[str, frozenset[int]] = {}
    for part in text.replace(" ", "").split(";"):
        found = re.fullmatch(r"(cloud|clear|out)=(\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)", part)
        if not found or found[1] in lists:
            raise UserError(f"{words}: {part!r} is no list of codes; give {HOW}")
        ends = [[int(end) for end in entry.split("-")] for entry in found[2].split(",")]
        if any(pair[-1] - pair[0] > 65535 for pair in ends):
            raise UserError(f"{words}: {part!r} is too long a range; a mask has codes up to 65535")
        lists[found[1]] = frozenset(code for pair in ends for code in range(pair[0], pair[-1] + 1))
    twice = sorted(code for code in frozenset().union(*lists.values()) if sum(code in v for v in lists.values()) > 1)
    if "cloud" not in lists or twice:
        wrong = f"the code {twice[0]} is in two lists" if twice else "no code is cloud"
        raise UserError(f"{words}: {wrong}; give {HOW}")
    return Codes(words, lists["cloud"], lists.get("clear"), lists.get("out", frozenset()), listed=True)


def fitting(found: Iterable[float]) -> str:
    """In words, the presets that know all codes found, first of all those by which some are cloud.

    Masks in bits (maja) would fit anything and are not named.
    """
    codes = set(found)
    named = [preset for preset in PRESETS.values() if preset.name not in ("maja", "l1c")]
    known = [p for p in named if codes <= p.cloud | (p.clear or frozenset()) | p.out]
    fit = [preset.name for preset in ([p for p in known if codes & p.cloud] or known)]
    return f"those of {', '.join(fit)} fit" if fit else "no preset fits, list them: codes(cloud=...;clear=...;out=...)"


def shown(found: Iterable[float]) -> str:
    """Codes for a message, the first ten."""
    codes = sorted(found)
    return ", ".join(f"{code:g}" for code in codes[:10]) + (f" ... ({len(codes)} codes)" if len(codes) > 10 else "")
