"""Breaks each paper's primary claim on purpose, and prints what its verdict becomes: the last line counts those that still PASS.

python benchmarks/sabotage.py                     # the papers that are tested under each rule, small scale; 23 minutes on two cores
python benchmarks/sabotage.py smith2018 --kinds rate

The rate of the tested arm times ten; the two arms exchanged; the tested arm without what is prescribed for it; random labels (two seeds
are enough there, for what did not learn is no result). Arms that are the same, or no worse than each other, are so after an exchange, too:
a claim whose bounds hold "no difference" may PASS again.
"""

import argparse
import pathlib
import tempfile

from tf_lbgap import reproduction
from tf_lbgap.experiment import ConfigError
from tf_lbgap.experiment.reading import read
from tf_lbgap.reproduction import paper as papers
from tf_lbgap.reproduction.sabotage import KINDS, sabotaged


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("papers", nargs="*", metavar="NAME")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--factor", type=float, default=10, help="of the rate")
    parser.add_argument("--seeds", type=int, help="in place of the file's")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    survived = broken = 0
    print("| paper | claimed | sabotage | verdict | seen |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as output:
        try:
            made = list(_sabotaged(options, pathlib.Path(output)))
        except ConfigError as error:
            parser.error(str(error))
        for paper, results in reproduction.reproduce(made, jobs=options.jobs):
            claim = next(c for c in results["claims"] if c["own"])
            name, _, kind = paper.name.partition(" ")
            is_same = kind == "swapped" and holds_no_difference(claim)
            broken += not is_same
            survived += claim["verdict"] == "PASS" and not is_same
            told = f"{claim['verdict']}{' (holds after an exchange, too)' if is_same else ''}"
            print(
                f"| {name} | {claim['statistic']} {claim['claimed']} | {kind} | {told} | {claim['seen']} |",
                flush=True,
            )
    print(f"{survived} of {broken} broken claims still PASS")


def holds_no_difference(claim):
    low, high = claim["bounds"]
    null = 1 if claim["kind"] == "ratio" else 0
    return (low is None or low < null) and (high is None or null < high)


def _sabotaged(options, output):
    ruled = [path for path in papers.known_papers() if "rules" in read(path)]
    for path in map(papers.find, options.papers or ruled):
        for kind in options.kinds:
            name = f"{path.stem} {kind}"
            try:
                content = sabotaged(papers.at_scale(read(path), "small"), kind, options.factor)
            except ConfigError as error:
                print(f"| {path.stem} | | {kind} | NOT RUN | {error} |")
                continue
            seeds = 2 if kind == "labels" else options.seeds
            yield papers.from_dict(content, name, seeds=seeds, output=str(output / name))


if __name__ == "__main__":
    main()
