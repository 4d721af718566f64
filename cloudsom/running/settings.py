"""A script's constants, set from the command line.

Each script keeps its settings as UPPER_CASE constants between two comment lines that begin with `# --- constants` and
`# --- end of constants`. This module reads that block as text, so that a constant's help is the comment beside it, and
the block stays the only place a setting is written down. Words of the command line without a name are PRODUCTS, where
the script has that constant: `python mask_products.py A.zip B.zip --WORKERS 2`. A block:

    # --- constants: edit here, or set on the command line (--NAME value) ---
    # paths
    DATA_DIR = "data"  # folder everything is read from and written to

    # outputs
    SOM_FILE = "SOM_trained.p"  # the trained map

    # training
    N_ITER = 1_000_000  # [1, 1e12] training steps, one spectrum each
    # a comment line directly below goes on with the help
    LEARNING_RATE = 0.5  # (0, 1] share of the way
    TRAINER: Literal["compiled", "minisom"] = "compiled"  # both give the same weights

    # running
    OVERWRITE = False  # redo what is finished
    # --- end of constants ---

An interval that a number's comment begins with is what the number (of a list, each) may be: `[` and `]` with the bound,
`(` and `)` without it.

A comment line after a blank line (or the opening line) names a group, one of `GROUPS`. Constants under `paths`,
`outputs` and `running` do not change what a product holds, and so are left out of its settings file. Those under
`outputs` name what the script writes: files, or folders where the name ends in `_DIR`. The script runs alone in those
folders, and writes no file that another constant names too.
"""

import argparse
import ast
import difflib
import errno
import io
import os
import re
import sys
import tokenize
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from cloudsom.errors import FULL, UserError
from cloudsom.files import places
from cloudsom.files.places import is_url, named, under
from cloudsom.files.stores import Snapshot
from cloudsom.running import stops, streams
from cloudsom.running.lock import only_run

#: Groups whose constants say where and how to run, not what comes out.
GROUPS_WITHOUT_EFFECT = ("paths", "outputs", "running")

#: All headings there are: one that is misspelt would change what counts as the settings of a product.
GROUPS = (
    *(*GROUPS_WITHOUT_EFFECT, "checks", "source", "rows", "map", "training", "rules", "products", "servers", "grid"),
    *("search", "scenes", "samples", "correction", "filters", "samples, for experts", "correction, for experts"),
    *("scores", "picture"),
)

#: The constant that words without a name belong to.
WORDS = "PRODUCTS"

#: An interval at the start of a comment: `[1, 500]`, `(0, 1]`.
_INTERVAL = re.compile(r"[\[(]-?\d[\d.e+-]*, -?\d[\d.e+-]*[\])](?= |$)")


@dataclass(frozen=True)
class Constant:
    """One constant of a script: its name, type as written (`int`, `list[str]`, `str | None`...), help and group.

    choices   the words that its type allows, where that is `Literal[...]`; its `kind` is then `str`
    interval  what a number may be, as its help begins with: `[0, 1)`; empty where it does not
    """

    name: str
    kind: str
    default: Any
    help: str
    group: str
    choices: tuple[str, ...] | None = None
    interval: str = ""

    def check(self, value: Any) -> None:
        """UserError for a value that is none of the choices, or outside the interval."""
        if self.choices and value not in self.choices:
            raise UserError(f"{self.name} is {value!r}; it is one of {', '.join(self.choices)}")
        for number in [value] if not isinstance(value, list) else value:
            if self.interval and number is not None and not _within(self.interval, number):
                raise UserError(f"{self.name} is {number!r}; it is a number in {self.interval}")


def _within(interval: str, number: float) -> bool:
    """Whether a number lies in `[0, 1]`, `(0, 1]`..."""
    least, most = map(float, interval[1:-1].split(", "))
    if number in (least, most):
        return interval[0] == "[" if number == least else interval[-1] == "]"
    return least < number < most


def read_constants(source: str) -> list[Constant]:
    """The constants of the fenced block of a script's `source`, in order; none where there is no such block.

    Raises UserError for a heading that is not one of `GROUPS`.
    """
    lines = source.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("# --- constants")), None)
    last = next((i for i, line in enumerate(lines) if line.startswith("# --- end of constants")), None)
    if first is None or last is None:
        return []
    block = "\n".join(lines[first + 1 : last]) + "\n"
    comments = {
        token.start[0]: token.string.lstrip("# ").rstrip()
        for token in tokenize.generate_tokens(io.StringIO(block).readline)
        if token.type == tokenize.COMMENT
    }
    rows = block.splitlines()
    statements = {node.lineno: node for node in ast.parse(block).body if isinstance(node, ast.Assign | ast.AnnAssign)}
    constants: list[Constant] = []
    group = ""
    for row in range(1, len(rows) + 1):
        if row in comments and rows[row - 1].startswith("#") and (row == 1 or not rows[row - 2].strip()):
            group = comments[row].split("(")[0].strip()
            if group not in GROUPS:
                known = ", ".join(GROUPS)
                raise UserError(f"line {first + 1 + row}: {group!r} is no heading of constants; known are {known}")
        if row in statements:
            constants.append(_constant(statements[row], _help_below(row, statements[row], rows, comments), group))
    return constants


def _help_below(row: int, node: ast.stmt, rows: list[str], comments: dict[int, str]) -> str:
    """The comments inside and at the end of a statement, and the comment lines directly below it."""
    end = node.end_lineno or row
    words = [comments[i] for i in range(row, end + 1) if i in comments]
    below = end + 1
    while below in comments and rows[below - 1].startswith("#"):
        words.append(comments[below])
        below += 1
    return " ".join(words)


def _constant(node: ast.Assign | ast.AnnAssign, text: str, group: str) -> Constant:
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    assert isinstance(target, ast.Name) and node.value is not None
    value = ast.literal_eval(node.value)
    choices = None
    if isinstance(node, ast.AnnAssign):
        kind = ast.unparse(node.annotation)
        if literal := re.search(r"Literal\[(.*?)\]", kind):
            choices, kind = ast.literal_eval(f"({literal[1]},)"), kind.replace(literal[0], "str")
    elif isinstance(value, list):
        kind = f"list[{type(value[0]).__name__}]" if value else "list[str]"
    else:
        kind = type(value).__name__
    interval = _INTERVAL.match(text) if re.search("int|float", kind) else None
    return Constant(target.id, kind, value, text, group, choices, interval[0] if interval else "")


def _parse_bool(text: str) -> bool:
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")


def _parse_int(text: str) -> int:
    try:
        number = float(text.replace("_", ""))
        if number.is_integer():  # 1e6 and 1_000_000 are whole numbers too
            return int(number) if "e" in text.lower() else int(text)
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")


def _parse_float(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if number != number or abs(number) == float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return number


_PARSERS: dict[str, Callable[[str], Any]] = {"bool": _parse_bool, "int": _parse_int, "float": _parse_float, "str": str}


def _parser_for(kind: str) -> Callable[[str], Any]:
    """The function that reads one command-line word as the constant's type; `None` is a word for optional ones."""
    parse = _PARSERS[kind.removesuffix(" | None")]
    return (lambda text: None if text == "None" else parse(text)) if kind.endswith(" | None") else parse


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors, also of a help that cannot be printed."""

    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), end="", file=file)

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {message} (--help lists the settings)", file=sys.stderr)
        raise SystemExit(2)


def parse_command_line(script: str, doc: str, constants: list[Constant], words: list[str]) -> dict[str, Any]:
    """The constants that the command line sets, by name.

    Exits with status 2 and one line on an unknown name (the nearest one is named) or a value of the wrong type.
    """
    takes_words = any(c.name == WORDS for c in constants)
    parser = _Parser(
        prog=script,
        usage=f"%(prog)s {f'[{WORDS} ...] ' if takes_words else ''}[--NAME value ...]",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    groups: dict[str, Any] = {}
    for c in constants:
        group = groups.setdefault(c.group, parser.add_argument_group(c.group) if c.group else parser)
        is_list = c.kind.startswith("list[")
        kind = c.kind[5:-1] if is_list else c.kind
        extra: dict[str, Any] = {"nargs": "*"} if is_list else {}
        if kind == "bool":
            extra = {"nargs": "?", "const": True}
        group.add_argument(
            f"--{c.name}",
            type=_parser_for(kind),
            choices=c.choices,
            default=argparse.SUPPRESS,
            metavar=None if c.choices else kind.split(" ")[0].upper(),
            help=f"{c.help} (now: {c.default!r})".replace("%", "%%").strip(),
            **extra,
        )
    if takes_words:
        words = _separate_switches(words, {f"--{c.name}" for c in constants if c.kind == "bool"})
    found, unknown = parser.parse_known_args(words)
    if takes_words and (products := [word for word in unknown if not word.startswith("-")]):
        setattr(found, WORDS, [*getattr(found, WORDS, []), *products])
        unknown = [word for word in unknown if word.startswith("-") and word != "--"]
    if unknown:
        hint = nearest(unknown[0].split("=")[0].lstrip("-"), [c.name for c in constants])
        parser.error(f"{unknown[0]!r} is not a setting of this script{hint}")
    return vars(found)


def nearest(name: str, known: Sequence[str]) -> str:
    """What to add to a message on an unknown setting; nothing where none is like it."""
    near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.4)
    return f"; the nearest setting is --{near[0]}" if near else ""


def _separate_switches(words: list[str], switches: set[str]) -> list[str]:
    """`words` in which no switch (`--OVERWRITE`) takes the word behind it for its value, unless it is True or False."""
    separated = []
    for word, following in pairwise([*words, "--"]):
        try:
            _parse_bool(following)
        except argparse.ArgumentTypeError:
            word = f"{word}=True" if word in switches else word
        separated.append(word)
    return separated


def snapshot(namespace: dict[str, Any]) -> Snapshot:
    """The present settings of the script whose `globals()` are given, without its `paths` and `running` groups."""
    file = Path(namespace["__file__"])
    constants = read_constants(file.read_text(encoding="utf-8"))
    return Snapshot(file.name, {c.name: namespace[c.name] for c in constants if c.group not in GROUPS_WITHOUT_EFFECT})


#: What to do where the file that a constant names is not there.
WHERE_MISSING = {
    "TRAINING_CSV": "run step 2 (data_preprocessing.py)",
    "SCALER_FILE": "run step 2 (data_preprocessing.py)",
    "SOM_FILE": "run step 3 (SOM_training.py)",
    "BMUS_CSV": "run step 4 (BMUs_detection.py)",
    "HIT_MAPS_CSV": "run step 5 (labeling.py)",
    "NEURON_LABELS_CSV": "run step 5 (labeling.py)",
    "FINETUNED_MAP_NPZ": "run fine_tuning.py",
    "FLIP_TABLE_CSV": "run fine_tuning.py",
}


def step_files(namespace: dict[str, Any], *names: str) -> dict[str, Path]:
    """The files of earlier steps that constants of the script whose `globals()` are given name, by constant.

    Raises UserError, which says what writes it, for one that is not there (`WHERE_MISSING`).
    """
    return {c: places.existing(namespace["DATA_DIR"], namespace[c], WHERE_MISSING[c]) for c in names}


def optional_files(namespace: dict[str, Any], *names: str, without: str = "") -> dict[str, Path]:
    """Those files that are there of what constants name, as in `step_files`.

    A line is printed for each that is not, where `without` says what that means.
    """
    found = {c: places.input_path(namespace["DATA_DIR"], namespace[c]) for c in names}
    there = {c: place for c, place in found.items() if place.is_file()}
    for c in names if without else ():
        if c not in there:
            print(f"no {under(namespace['DATA_DIR'], namespace[c])}: {without}")
    return there


def folders_written(constants: list[Constant], namespace: dict[str, Any]) -> list[Path]:
    """The folders a script writes to, from its constants and their values.

    Raises UserError where a file it writes is named by another constant too, or is the settings file of another one.
    """
    data_dir, folders, named_by = namespace.get("DATA_DIR", "."), [], dict[str, str]()
    texts = [c for c in constants if c.name != "DATA_DIR" and "str" in c.kind and not c.choices]
    for c in sorted(texts, key=lambda c: c.group == "outputs"):  # what must not be written over comes first
        value = namespace[c.name]
        for text in value if isinstance(value, list) else [value] if value else []:
            if c.group != "outputs":
                named_by |= {name: c.name for file in _may_mean(data_dir, text) for name in (file, f"{file}.json")}
                continue
            place = under(data_dir, text)
            if c.name.endswith("_DIR"):
                folders.append(place)
                continue
            folders.append(place.parent)
            names = [places.one_name(place), f"{places.one_name(place)}.json"]
            if other := next((named_by[name] for name in names if name in named_by), None):
                also = "this list" if other == c.name else other
                raise UserError(f"{c.name}: {text} is named in {also} too, as a file or its settings file; rename one")
            named_by |= dict.fromkeys(names, c.name)
    return folders


def _may_mean(data_dir: str, text: str) -> set[str]:
    """The files that a constant's text may name: under DATA_DIR, or from the present folder (`input_path`)."""
    try:
        return {places.one_name(under(data_dir, text)), places.one_name(named(text))} if not is_url(text) else {text}
    except UserError:  # no path
        return set()


def run(main: Callable[[], None], namespace: dict[str, Any]) -> None:
    """Run a script: set its constants from the command line, call `main`, and end the way a user expects.

    `namespace` is the script's `globals()`. DATA_DIR may come from the environment too, which goes before the constant
    and behind the command line. A wrong command line ends in status 2, all else as in `ending_in_one_line`.
    """
    script = Path(namespace["__file__"]).name
    with ending_in_one_line(script):
        try:
            constants = _set_constants(script, namespace)
        except UserError as problem:
            _end(script, f"error: {problem}", 2)
        stops.unwind_at(stops.REQUESTS, KeyboardInterrupt())  # a stop request cleans up like Ctrl-C does
        with only_run(folders_written(constants, namespace), script):
            main()
        stops.no_longer(stops.REQUESTS)


def _set_constants(script: str, namespace: dict[str, Any]) -> list[Constant]:
    """Set a script's constants from the environment and the command line; UserError for values they may not have."""
    constants = read_constants(Path(namespace["__file__"]).read_text(encoding="utf-8"))
    if folder := os.environ.get("DATA_DIR"):
        constants = [replace(c, default=folder) if c.name == "DATA_DIR" else c for c in constants]
    overrides = parse_command_line(script, namespace.get("__doc__") or "", constants, sys.argv[1:])
    namespace.update({c.name: c.default for c in constants} | overrides)
    for c in constants:
        c.check(namespace[c.name])
    return constants


@contextmanager
def ending_in_one_line(script: str) -> Iterator[None]:
    """Run the block of a script, whose mistakes end in one line on stderr.

    A UserError or an error of the operating system (disk full, no permission, missing file) has exit status 1, a
    request to stop 130.
    """
    streams.set_up()
    try:
        yield
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as problem:
        if stops.requested():  # `problem` may be another exception, raised while clearing up
            _end(script, "stopped; what was finished is kept, run the same command to go on", 130)
        if isinstance(problem, BrokenPipeError):  # `script | head` has read enough: no mistake
            raise SystemExit(1) from None
        reason = _reason(problem)
        if reason is None:
            raise
        _end(script, f"error: {reason}", 1)


def _end(script: str, message: str, status: int) -> NoReturn:
    with suppress(OSError):  # there is nobody else to tell
        print(f"{script}: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(status) from None


def _reason(problem: BaseException) -> str | None:
    """What a user is told of an exception; None for one that is a mistake of the program's."""
    if isinstance(problem, UserError):
        return str(problem)
    if isinstance(problem, MemoryError):
        return "out of memory; close other programs or lower WORKERS, where the script has it"
    if not isinstance(problem, OSError):
        return places.refusal(problem)
    where = f"{problem.filename}: " if problem.filename else ""
    reason = problem.strerror or str(problem) or type(problem).__name__
    advice = {
        **dict.fromkeys(FULL, "; free some space and run the same command again"),
        errno.EFBIG: "; the file system or a limit (ulimit -f) allows no larger file",
        errno.EACCES: "; check who owns the folder",
        errno.EPERM: "; check who owns the folder",
        errno.EROFS: "; choose another DATA_DIR",
        errno.ENOENT: "; check the path",
        errno.ENOTDIR: "; a file stands where a folder is needed",
        errno.EISDIR: "; a folder stands where a file is needed",
    }.get(problem.errno or 0, "")
    return f"{where}{reason}{advice}"
