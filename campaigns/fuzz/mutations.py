"""Ways to damage a file: at the level of bytes, of numbers written as text, and of the words its format knows."""

import random
import re
from collections.abc import Callable, Sequence

MAX_BYTES = 400_000  # where an input is cut, so that repeated doubling stays a small file
HEADER_BYTES = 1024  # at either end, where half of all changes go: headers begin most formats, and end some

NUMBERS = (
    b"0", b"1", b"-1", b"2", b"-0.0", b"0.5", b"255", b"256", b"65535", b"65536", b"2147483647", b"2147483648",
    b"-2147483649", b"4294967296", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"1e9",
    b"1e38", b"1e39", b"1e308", b"1e309", b"-1e309", b"1e-320", b"nan", b"inf", b"-inf", b"NaN", b"Infinity", b"0x10",
    b"1_000", b"1,5", b"", b"9" * 400, b"0." + b"3" * 60, b"\xd9\xa3", b"None", b"true",
)  # fmt: skip

_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")

Operation = Callable[[random.Random, bytearray, bytes, Sequence[bytes]], None]


def mutate(draw: random.Random, content: bytes, other: bytes, tokens: Sequence[bytes]) -> bytes:
    """`content` changed in one to six ways; `other` is a file to splice with, `tokens` are words of the format."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        draw.choice(OPERATIONS)(draw, changed, other, tokens)
        del changed[MAX_BYTES:]
    return bytes(changed)


def _place(draw: random.Random, content: bytearray) -> int:
    """A position in the content or just behind it; in half of the cases near one of its ends."""
    size = len(content)
    match draw.randrange(4):
        case 0:
            return min(size, draw.randrange(HEADER_BYTES))
        case 1:
            return max(0, size - draw.randrange(HEADER_BYTES))
        case _:
            return draw.randint(0, size)


def _length(draw: random.Random) -> int:
    return int(2 ** draw.uniform(0, 10))


def flip_bits(draw: random.Random, content: bytearray, other: bytes, tokens: Sequence[bytes]) -> None:
    for _ in range(draw.choice((1, 1, 2, 8))):
        at = _place(draw, content)
        if at < len(content):
            content[at] ^= 1 << draw.randrange(8)


def set_run(draw: random.Random, content: bytearray, other: bytes, tokens: Sequence[bytes]) -> None:
    at = _place(draw, content)
    stop = min(len(content), at + draw.choice((1, 2, 4, 8, _length(draw))))
    content[at:stop] = bytes([draw.choice((0, 0, 255, 127, 128, 1, draw.randrange(256)))]) * (stop - at)


def truncate(draw: random.Random, content: bytearray, other: bytes, tokens: Sequence[bytes]) -> None:
    del content[_place(draw, content) :]


def remove(draw: random.Random, content: bytearray, other: bytes, tokens: Sequence[bytes]) -> None:
    at = _place(draw, content)
    del content[at : at + _length(draw)]


def insert(draw: random.Random, content: bytearray, other: bytes, tokens: Sequence[bytes]) -> None:
    at = _place(draw, content)
    content[at:at] = draw.randbytes(draw.choice((1, 2, 4, 8, _length(draw))))


def duplicate(draw: random.Random, content: bytearray, other: bytes, tokens: Sequence[bytes]) -> None:
    at = _place(draw, content)
    content[at:at] = content[at : at + _length(draw)] * draw.choice((1, 1, 1, 2, 20))


def splice(draw: random.Random, content: bytearray, other: bytes, tokens: Sequence[bytes]) -> None:
    here, there = _place(draw, content), draw.randint(0, len(other))
    if draw.random() < 0.5:
        content[here:] = other[there:]
    else:
        piece = other[there : there + _length(draw)]
        content[here : here + len(piece)] = piece


def replace_number(draw: random.Random, content: bytearray, other: bytes, tokens: Sequence[bytes]) -> None:
    start = _place(draw, content)
    found = _NUMBER.search(content, start, start + 4096) or _NUMBER.search(content, 0, 65536)
    if found:
        content[found.start() : found.end()] = draw.choice(NUMBERS)


def put_token(draw: random.Random, content: bytearray, other: bytes, tokens: Sequence[bytes]) -> None:
    at, token = _place(draw, content), draw.choice(tokens)
    content[at : at + draw.choice((0, len(token)))] = token


def swap_token(draw: random.Random, content: bytearray, other: bytes, tokens: Sequence[bytes]) -> None:
    """Put one of the format's words where another one stands."""
    here = [token for token in tokens if token and token in content]
    if here:
        old = draw.choice(here)
        at = content.find(old, _place(draw, content))
        at = at if at >= 0 else content.find(old)
        content[at : at + len(old)] = draw.choice(tokens)


OPERATIONS: tuple[Operation, ...] = (
    flip_bits,
    set_run,
    truncate,
    remove,
    insert,
    duplicate,
    splice,
    replace_number,
    put_token,
    swap_token,
)
