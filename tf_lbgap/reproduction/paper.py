"""A paper as it stands in a YAML file: its experiments, what is measured after them, and what it claims.

```yaml
paper: "Keskar et al., On large-batch training for deep learning, ICLR 2017, arXiv 1609.04836"
data: {call: data.datasets.digits}          # keys of an arm, and measure, seeds, first_seed: of all experiments
learned: 0.7                                # a test accuracy; below it an arm is no result
primary: sharper                            # the claim whose experiment is run under each of the rules
rules:
  own: loss                                 # how the paper compared
  loss: {target_loss: 0.02, epochs: 300}
  epochs: {epochs: 20}
  updates: {updates: 600}
  seconds: {seconds: 3}
  tuned: "NOT RUN: why"
experiments:
  minima: {arms: {small: {batch_size: 32}, large: {batch_size: 200}}}
studies:
  line: {call: reproduction.studies.interpolation, in: minima, arms: [small, large]}
claims:
  sharper: {says: ..., source: ..., in: minima, statistic: {call: claims.ratio, ...}, above: 1.5, expected: 4, deviation: 0.5}
figures:
  line: {call: report.paper_figures.lines, in: line}
scales:
  gpu: {only: [minima], data: ...}          # laid over the rest, key by key
```

The experiment of the rules becomes one experiment for each of them, `minima-loss`, `minima-epochs`, ...; elsewhere
`minima` means the one of the paper's own rule. Without `rules` the primary claim is tested once, as its experiment says. A study
without `in` is a simulation: it trains what it needs itself, for the seeds of the file.
"""

import copy
import dataclasses
import pathlib

from tf_lbgap import experiment
from tf_lbgap.experiment.calls import ConfigError, is_call, nearest, placed
from tf_lbgap.experiment.checks import check_keys, count, mapping, text, whole
from tf_lbgap.experiment.config import ARM_KEYS, EQUAL
from tf_lbgap.experiment.reading import read
from tf_lbgap.reproduction.testable import claims_of

SCALES = ("small", "gpu", "full")
KEYS = {
    "paper", "primary", "rules", "experiments", "studies", "claims", "figures", "features", "scales",
    "learned", "measure", "seeds", "first_seed", "only", "output", *ARM_KEYS,
}  # fmt: skip
NOT_RUN = "NOT RUN: "
NOT_HERE = "not part of this scale"


@dataclasses.dataclass(frozen=True)
class Paper:
    """A configuration whose every key is known and every value is of the right kind."""

    name: str
    scale: str
    citation: str
    experiments: dict  # name -> Experiment
    learned: dict  # name of an experiment -> least test accuracy
    studies: dict  # name -> the call, with `in` resolved; a simulation is in nothing
    seeds: range  # of simulations
    claims: tuple  # of Testable, the primary first, under each rule
    figures: dict  # name -> the call, with `in` resolved
    features: dict  # what the paper scales, by which rule, on what
    output: str  # the directory
    command: str  # that repeats it
    content: dict  # of the file at this scale

    @property
    def claims_block(self):
        """The part of the file that verdicts follow from."""
        return {key: self.content.get(key) for key in ("primary", "rules", "claims", "learned")}


def find(name):
    """Return the path of a paper's file: a path, or a name in `configs/` here or beside the package.

    Raises:
        ConfigError: If there is none.
    """
    path = pathlib.Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    folders = [folder for folder in _folders() if folder.is_dir()]
    for folder in folders:
        if (folder / f"{name}.yaml").exists():
            return folder / f"{name}.yaml"
    known = [path.stem for path in known_papers()]
    hint = (
        nearest(name, known)
        if known
        else "Call from the folder that holds configs/, or give the path of a file."
    )
    raise ConfigError(f"There is no paper {str(name)!r}. {hint}")


def known_papers():
    """Return the paths of all papers' files, in the order of their names."""
    for folder in _folders():
        found = [path for path in sorted(folder.glob("*.yaml")) if _is_paper(path)]
        if found:
            return found
    return []


def _folders():
    beside = pathlib.Path(__file__).parent.parent.parent / "configs"
    return pathlib.Path("configs"), beside


def _is_paper(path):
    return any(line.startswith("paper:") for line in path.read_text(encoding="utf-8").splitlines())


def load(path, scale="small", *, seeds=None, first_seed=None, output=None):
    """Read a paper.

    Args:
        path: The file, or the name of one, `find`'s.
        scale: One of `SCALES`.
        seeds: How many, in place of all that the file says.
        first_seed: The first of them, likewise.
        output: The directory, by default `runs/reproduce/NAME-SCALE`.

    Raises:
        ConfigError: If the file is missing or says something that nobody understands.
    """
    path = find(path)
    content = read(path)
    if "paper" not in content:
        raise ConfigError(f"{path} is an experiment, not a paper's. Type  lbgap run {path}")
    return from_dict(content, path.stem, scale, seeds=seeds, first_seed=first_seed, output=output)


def from_dict(content, name, scale="small", *, seeds=None, first_seed=None, output=None):
    """Make a paper from the content of a YAML file; see `load`."""
    content = at_scale(content, scale)
    check_keys(content, KEYS, "the file")
    for key, value in (("seeds", seeds), ("first_seed", first_seed)):
        if value is not None:
            content[key] = value
            for own in (*mapping(content, "experiments").values(), *mapping(content, "rules").values()):
                if isinstance(own, dict):
                    own.pop(key, None)
    output = output or content.get("output") or str(pathlib.Path("runs") / "reproduce" / f"{name}-{scale}")
    experiments, learned, left_out = _experiments(content, name, pathlib.Path(output))
    own_rule = mapping(content, "rules").get("own")  # None without rules
    names = _Names(content, own_rule, experiments, left_out)
    studies = {key: _study(names, key, call) for key, call in _calls(content, "studies")}
    names.studies = studies
    return Paper(
        name=name,
        scale=scale,
        citation=text(content.get("paper"), "paper"),
        experiments=experiments,
        learned=learned,
        studies={key: call for key, call in studies.items() if names.is_run(key, call)},
        seeds=_seeds(content),
        claims=tuple(claims_of(content, names, own_rule)),
        figures={key: names.resolved(call, f"figures: {key}") for key, call in _calls(content, "figures")},
        features=mapping(content, "features"),
        output=output,
        command=_command(name, scale, seeds, first_seed),
        content=content,
    )


def _command(name, scale, seeds, first_seed):
    given = {"--scale": scale, "--seeds": seeds, "--first-seed": first_seed}
    told = [f"{option} {value}" for option, value in given.items() if value is not None]
    return " ".join([f"lbgap reproduce {name}", *told])


def at_scale(content, scale):
    """Return the content of a file at a scale: what stands under `scales: SCALE` laid over the rest, key by key."""
    if scale not in SCALES:
        raise ConfigError(f"--scale {scale}: is none of {', '.join(SCALES)}.")
    content = copy.deepcopy(content)
    scales = content.pop("scales", None) or {}
    check_keys(scales, SCALES, "scales")
    if scale != "small" and scale not in scales:
        raise ConfigError(f"scales: there is no {scale}. Known: {', '.join(('small', *scales))}.")
    return laid_over(content, scales.get(scale) or {})


def has_scale(path, scale):
    """Return whether a file has a scale; all have the small one, and none has what is not in `SCALES`."""
    if scale not in SCALES:
        raise ConfigError(f"--scale {scale}: is none of {', '.join(SCALES)}.")
    return scale == "small" or scale in (read(path).get("scales") or {})


def laid_over(content, more):
    """Dicts are joined, except calls, which are replaced if they call something else."""
    for key, value in more.items():
        old = content.get(key)
        is_another = is_call(value) and is_call(old) and value["call"] != old["call"]
        if isinstance(old, dict) and isinstance(value, dict) and not is_another:
            laid_over(old, value)
        else:
            content[key] = copy.deepcopy(value)
    return content


def _calls(content, key):
    for name, call in mapping(content, key).items():
        if not is_call(call):
            raise ConfigError(
                f"{key}: {name}: {call!r} must be a call, such as  {{call: ..., in: EXPERIMENT}}."
            )
        yield name, call


# Experiments, and those that the rules make of one.


def _experiments(content, paper, output):
    """Return {name: Experiment}, {name: least accuracy}, and {name: why it is not run}."""
    made, learned, left_out = {}, {}, {}
    ruled = _ruled(content)
    only = content.get("only")
    for name, own in mapping(content, "experiments").items():
        if not isinstance(own, dict):
            raise ConfigError(f"experiments: {name}: must hold arms, not {own!r}.")
        for key, settings in _under_rules(content, name, own) if name == ruled else [(name, own)]:
            if only is not None and name not in only:
                left_out[key] = NOT_HERE
            elif isinstance(settings, str):
                left_out[key] = settings.removeprefix(NOT_RUN)
            else:
                made[key] = _experiment(content, settings, f"{paper}: {key}", output / key)
                learned[key] = settings.get("learned", content.get("learned", 0.0))
    return made, learned, left_out


def _ruled(content):
    """Return the name of the experiment that is run under each rule; None without rules."""
    primary, claims = content.get("primary"), mapping(content, "claims")
    if primary not in claims:
        raise ConfigError(f"primary: {primary!r} is not a claim. {nearest(primary, claims)}")
    if "rules" not in content:
        return None
    place = claims[primary].get("in")
    return place[0] if isinstance(place, list) else place


def _under_rules(content, name, own):
    """Yield (name, settings or why there are none) for each rule."""
    rules = mapping(content, "rules")
    check_keys(rules, (*EQUAL, "own"), "rules")
    if rules.get("own") not in EQUAL:
        raise ConfigError(f"rules: own: {rules.get('own')!r} is none of {', '.join(EQUAL)}.")
    for rule in EQUAL:
        settings = rules.get(rule)
        if isinstance(settings, str) and settings.startswith(NOT_RUN):
            yield f"{name}-{rule}", settings
        elif isinstance(settings, dict):
            yield f"{name}-{rule}", {**laid_over(copy.deepcopy(own), settings), "equal": rule}
        else:
            raise ConfigError(
                f'rules: {rule}: {settings!r} must hold its keys, such as epochs, or say "{NOT_RUN}why".'
            )


def _experiment(content, own, name, output):
    shared = {key: content[key] for key in (*ARM_KEYS, "seeds", "first_seed") if key in content}
    measure = {**(content.get("measure") or {}), **(own.get("measure") or {}), "test_examples": True}
    own = {key: value for key, value in own.items() if key != "learned"}
    with placed(f"experiments: {output.name}"):
        content = {**shared, **own, "measure": measure, "name": name, "output": str(output)}
        return experiment.from_dict(content, name)


def _seeds(content):
    first = count(content.get("first_seed", 0), "first_seed")
    return range(first, first + whole(content.get("seeds", 5), "seeds"))


def _study(names, key, call):
    found = names.resolved(call, f"studies: {key}")
    if len(found["in"]) > 1:
        raise ConfigError(f"studies: {key}: in: must name one experiment, or be left out.")
    return found


class _Names:
    """What `in:` means."""

    def __init__(self, content, own_rule, experiments, left_out):
        self._ruled, self._own, self._only = _ruled(content), own_rule, content.get("only")
        self.experiments, self._left_out, self.studies = experiments, left_out, {}

    def place(self, name, rule=None):
        """Return the name of an experiment or study."""
        if name == self._ruled:
            return f"{name}-{rule or self._own}"
        return name

    def resolved(self, call, where, rule=None):
        """Return a call with its places, a tuple of names."""
        places = call.get("in") or ()
        places = [places] if isinstance(places, str) else places
        places = tuple(self.place(name, rule) for name in places)
        known = (*self.experiments, *self._left_out, *self.studies)
        for name in places:
            if name not in known:
                raise ConfigError(f"{where}: in: there is no {name!r}. {nearest(name, known)}")
        return {**call, "in": places}

    def equal(self, places):
        """Return what the arms behind experiments and studies have in common, a set of `EQUAL`; empty for simulations."""
        found = {self.experiments[name].equal for name in places if name in self.experiments}
        return found.union(*(self.equal(self.studies[name]["in"]) for name in places if name in self.studies))

    def is_run(self, name, call):
        """Return whether this scale runs a study."""
        return not self.reason([name]) and not self.reason(call["in"])

    def reason(self, places):
        """Return why one of the places is not there, or nothing."""
        for name in places:
            if name in self._left_out:
                return self._left_out[name]
            if (
                name in self.studies
                and not self.studies[name]["in"]
                and self._only is not None
                and name not in self._only
            ):
                return NOT_HERE
            if name in self.studies and (why := self.reason(self.studies[name]["in"])):
                return why
        return ""
