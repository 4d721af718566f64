"""Every figure of a run, and the report of them, in one command.

    python visualization/all_figures.py
    python visualization/all_figures.py --FORMATS png pdf --PRINT_WIDTH column

Settings are those of the scripts below: each goes to those that have it. What is finished is not drawn again; a figure
that cannot be drawn for want of its inputs is named, and does not stop the others.

reads, writes  what the scripts below read and write
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cloudsom is beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

import runpy

from cloudsom.errors import UserError
from cloudsom.running import stops
from cloudsom.running.settings import ending_in_one_line
from cloudsom.running.steps import distribute

#: The scripts in the order of the paper, then what puts their pictures together.
SCRIPTS: dict[str, tuple[str, ...]] = {
    "Creating_hit_rate_maps": (),
    "neuron_label_maps": (),
    "U_matrix_creation": (),
    "Creating_component_planes": (),
    "Creating_scatterplots": (),
    "neuron_spectra": (),
    "sub_maps": ("--WHERE_NONE", "skip"),
    "colored_cloudmasks": (),
    "quicklooks": (),
    "compare_masks": (),
    "methodology_figure": (),
    "map_explorer": (),
    "report": (),
}


def main(words: list[str]) -> int:
    """Draw everything with these words of the command line; the exit status."""
    if {"-h", "--help"} & set(words):
        print(f"{__doc__}\n{chr(10).join(f'    python visualization/{name}.py --help' for name in SCRIPTS)}")
        return 0
    try:
        own = distribute(words, [f"visualization/{name}.py" for name in SCRIPTS])
    except UserError as problem:
        print(f"all_figures.py: error: {problem} (--help lists the scripts)", file=sys.stderr)
        return 2
    failed = []
    for name, more in SCRIPTS.items():
        status = draw(Path(__file__).with_name(f"{name}.py"), [*more, *own[f"visualization/{name}.py"]])
        if status == 130 or stops.requested():  # one that came where Python drops exceptions was only noted
            return 130
        failed += [f"{name}.py"] if status else []
    if failed:
        print(f"all_figures.py: error: {len(failed)} failed (see above): {' '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def draw(script: Path, words: list[str]) -> int:
    """Run a script in this process, which has loaded the large packages already; its exit status."""
    sys.argv = [str(script), *words]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    with ending_in_one_line("all_figures.py"):
        raise SystemExit(main(sys.argv[1:]))
