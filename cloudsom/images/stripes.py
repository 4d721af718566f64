"""An image's rows in stripes: what is made of one on the way to a result does not grow with the image."""

from collections.abc import Iterator

STRIPE_ROWS = 1024  # 11 million pixels of a tile at 10 m; at 60 m half the tile


def stripes(rows: int) -> Iterator[slice]:
    """All rows of an image, from the top."""
    for top in range(0, rows, STRIPE_ROWS):
        yield slice(top, min(top + STRIPE_ROWS, rows))
