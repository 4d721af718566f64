"""All comparisons, one after the other: python -m benchmarks [--spectra FILE.h5 ...] [--scenes FILE.npz ...]

Training, BMU search, tables, and products to 60 m pixels, each beside what else does the same work; about 20 minutes on
two processors. Without files, made spectra and scenes are used. Each part runs alone too (python -m
benchmarks.bench_bmu) and has settings of its own.
"""

import argparse
import subprocess
import sys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spectra", nargs="*", default=[], help="HDF5 files of the spectra database")
    parser.add_argument("--scenes", nargs="*", default=[], help="npz files with `dn` (rows, columns, 13)")
    given = parser.parse_args()
    spectra = ["--spectra", *given.spectra] if given.spectra else []
    scenes = ["--scenes", *given.scenes] if given.scenes else []
    parts = {
        "bench_training": spectra,
        "bench_bmu": [*spectra, *scenes],
        "bench_tables": ["--rows", "100000", "1000000", "3348900", *scenes],
        "bench_products": [],
    }
    for part, words in parts.items():
        print(f"\n=== {part} {' '.join(words)}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{part}", *words], check=True)


if __name__ == "__main__":
    main()
