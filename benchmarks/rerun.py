"""Runs papers again, and prints how many of the numbers in docs/results are other than before: the last line counts them.

python benchmarks/rerun.py smith2018 hoffer2017 jastrzebski2017
python benchmarks/rerun.py smith2018 --output runs/again    # what is finished there is compared only

Times differ, and with them all that the rule `seconds` gives; these are left out. Verdicts are compared, too, but for those of times.
"""

import argparse
import tempfile

from tf_lbgap import reproduction
from tf_lbgap.experiment.files import read_json
from tf_lbgap.report.gallery_files import rounded

NOT_COMPARED = ("environment", "jobs", "command", "hash", "p_value", "figures", "features", "power")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("papers", nargs="+", metavar="NAME")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", metavar="DIR", help="where they run; by default a temporary folder")
    options = parser.parse_args()
    kept = {name: read_json(f"docs/results/{name}.json") for name in options.papers}
    for name in [name for name, content in kept.items() if content is None]:
        parser.error(
            f"docs/results/{name}.json is not there: run lbgap reproduce {name} and lbgap gallery, in the project's folder"
        )
    total = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.output or temporary
        papers = [reproduction.load(name, output=f"{folder}/{name}-small") for name in options.papers]
        for paper, results in reproduction.reproduce(papers, jobs=options.jobs):
            before = dict(numbers_of(kept[paper.name]))
            now = dict(numbers_of(rounded(results)))
            differ = [place for place in before.keys() | now.keys() if before.get(place) != now.get(place)]
            total += len(differ)
            for place in sorted(differ)[:10]:
                print(f"  {place}: {before.get(place)}, now {now.get(place)}")
            print(f"{paper.name}: {len(differ)} of {len(before)} differ", flush=True)
    print(f"{total} numbers differ")


def numbers_of(content, place=""):
    """Yield (place, value) of all that is not a time, or of a time."""
    if isinstance(content, dict):
        is_of_time = "seconds" in (content.get("rule"), content.get("equal")) or "seconds" in str(
            content.get("statistic")
        )
        for key, value in () if is_of_time else content.items():
            if not key.startswith("seconds") and key not in NOT_COMPARED:
                yield from numbers_of(value, f"{place}/{key}")
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from numbers_of(value, f"{place}/{number}")
    else:
        yield place, content


if __name__ == "__main__":
    main()
