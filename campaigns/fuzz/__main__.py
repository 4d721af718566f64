"""Read damaged files by the thousand: python -m campaigns.fuzz --target csv --inputs 20000 --seed 0

Good files, real ones where the kit of sample data lies beside the checkout, are damaged at random - bits, runs,
numbers, words, splices, and valid files with wrong contents - and given to the readers of the scripts. Each must give a
result or one clear line about the file. Tracebacks, silence for 10 s, dead processes and more than 1 GB are failures;
their inputs are kept, made smaller, under `--keep`. The same seed gives the same inputs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.samples import KIT
from campaigns.fuzz.engine import CLEAR_ERROR, FAILURE, RESULT, Campaign
from campaigns.fuzz.targets import TARGETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", nargs="*", choices=sorted(TARGETS), default=sorted(TARGETS), help="default: all")
    parser.add_argument("--inputs", type=int, default=20_000, help="damaged files a target (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input (default: %(default)s)")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="folder for what fails")
    given = parser.parse_args()
    if not KIT.is_dir():
        print("the kit of real sample data is not beside the checkout: made-up files are damaged")
    campaigns = [Campaign(TARGETS[name], given.seed, given.keep) for name in given.target]
    for campaign in campaigns:
        campaign.run(given.inputs, given.first)
    print(table(campaigns))
    raise SystemExit(any(campaign.failures for campaign in campaigns))


def table(campaigns: Sequence[Campaign]) -> str:
    """One line a campaign, and one for each kind of failure."""
    lines = [f"{'target':<8} {'inputs':>8} {'results':>8} {'clear errors':>12} {'failures':>8} {'a second':>8}"]
    for c in campaigns:
        counts = f"{c.counts[RESULT]:>8,} {c.counts[CLEAR_ERROR]:>12,} {c.counts[FAILURE]:>8,}"
        inputs = c.counts.total()
        lines.append(f"{c.target.name:<8} {inputs:>8,} {counts} {inputs / max(c.took, 1e-9):>8,.0f}")
        lines += [f"    {number:>6,} x {signature}" for signature, number in c.failures.most_common()]
        lines += [f"    kept {file}" for file in c.kept]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
