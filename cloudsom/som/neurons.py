"""Neurons as a person names them: row,column, counted from 1 as in the paper's figures.

Arrays count from 0, and so do the tables between the steps, as those of the paper's authors.
"""

from collections.abc import Sequence

from cloudsom.errors import UserError


def name_of(neuron: int, columns: int) -> str:
    """`row,column` of a flat position on a map of so many columns."""
    row, column = divmod(neuron, columns)
    return f"{row + 1},{column + 1}"


def parse(constant: str, words: Sequence[str], rows: int, columns: int) -> list[int]:
    """Flat positions of neurons named as `row,column`, each once; UserError for one that is not on the map."""
    found = []
    for word in words:
        try:
            row, column = (int(number) for number in word.split(","))
        except ValueError:
            raise UserError(f"{constant}: {word!r} is not row,column; write for example 7,3") from None
        if not (1 <= row <= rows and 1 <= column <= columns):
            raise UserError(
                f"{constant}: {word} is not on the map, which has rows 1 to {rows} and columns 1 to {columns}; "
                "count from 1, as the pictures do (the tables of the steps count from 0)"
            )
        found.append((row - 1) * columns + column - 1)
    return list(dict.fromkeys(found))
