"""Class maps against references: which of the six classes each class of the reference comes out as."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloudsom.bands import CLASSES
from cloudsom.images.references import REFERENCE_CODES
from cloudsom.images.stripes import stripes
from cloudsom.scoring.scores import ratio

#: Classes of a map by what the reference calls them: low clouds are opaque, high ones cirrus.
CLASS_OF_REFERENCE = {5: 10, 6: 20, 4: 30, 3: 40, 2: 50, 7: 60}

#: Names of the rows, in the order of the classes.
REFERENCE_CLASSES = [REFERENCE_CODES[code] for code in CLASS_OF_REFERENCE]

#: Names of the columns: the classes, and pixels of neurons that no training spectrum fell on.
COLUMNS = [*CLASSES.values(), "no class"]

#: What the row of user's accuracies and the column of producer's are called; where they meet is the overall accuracy.
USERS_ACCURACY, PRODUCERS_ACCURACY = "user's accuracy", "producer's accuracy"


def confusion(
    classes: NDArray[np.uint8], reference: NDArray[np.integer], scored: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Pixels by class of the reference and of the map: (6, 7), in the order of REFERENCE_CLASSES and COLUMNS.

    classes, reference, scored  (height, width): codes 10 to 60 or 0, the reference's codes, and which pixels count
    """
    found = np.zeros((len(REFERENCE_CLASSES), len(COLUMNS)), np.int64)
    for rows in stripes(len(classes)):
        for i, code in enumerate(CLASS_OF_REFERENCE):
            here = classes[rows][scored[rows] & (reference[rows] == code)]
            found[i] += [int((here == own).sum()) for own in (*CLASSES, 0)]
    return found


def classes_table(found: dict[str, NDArray[np.int64]]) -> pd.DataFrame:
    """classes.csv: for each product, then `pooled`, a row a class of the reference with the pixels of each class.

    At the end of a row is the producer's accuracy, the share of the reference's pixels that have its class; a last row
    has the user's accuracy of each class, the share of the map's pixels that the reference agrees with.
    """
    pooled = np.sum(list(found.values()), axis=0)
    rows = [row for name, pixels in [*found.items(), ("pooled", pooled)] for row in _rows(name, pixels)]
    return pd.DataFrame(rows, dtype=object)  # a column holds counts, and at its end a share


def _rows(product: str, pixels: NDArray[np.int64]) -> list[dict[str, object]]:
    right, totals = np.diag(pixels), pixels.sum(axis=1)
    producers, users = ratio(right, totals), ratio(right, pixels[:, : len(CLASSES)].sum(axis=0))
    rows: list[dict[str, object]] = [
        {"product": product, "reference": name, **dict(zip(COLUMNS, row.tolist(), strict=True)), "pixels": total}
        | {PRODUCERS_ACCURACY: round(float(share), 6)}
        for name, row, total, share in zip(REFERENCE_CLASSES, pixels, totals.tolist(), producers, strict=True)
    ]
    own = {name: round(float(share), 6) for name, share in zip(CLASSES.values(), users, strict=True)}
    whole = {"pixels": int(totals.sum()), PRODUCERS_ACCURACY: round(float(ratio(right.sum(), totals.sum())), 6)}
    return [*rows, {"product": product, "reference": USERS_ACCURACY, **own, **whole}]
