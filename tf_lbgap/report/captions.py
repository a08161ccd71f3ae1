"""Captions: what a picture shows, and of which model, data, seeds and device it is."""

from tf_lbgap.report.audit import text_of

BAND = (
    "Lines are means over seeds, bands one standard deviation to each side; a line ends where less than half of the "
    "seeds were still measured."
)
FIGURES = {
    "sharpness": f"Sharpness while training. {BAND}",
    "eigenvalues": (
        f"The largest eigenvalues of the Hessian while training. {BAND} Dotted: the edge of stability, the curvature "
        "above which the optimizer is unstable on a quadratic. Values that did not converge are left out."
    ),
    "density": "Spectral density of the Hessian at the last moment measured, of the first seed.",
    "schedules": f"Batch size, learning rate and noise scale while training. {BAND}",
    "equivalence": (
        "Noise scale g = learning rate / (1 - momentum) · (N / batch size - 1) over examples seen, and its ratio to that of the "
        "reference, of the first seed; grey: equal within 5 %. Where arms are between two updates the ratio is left out."
    ),
    "gap": (
        f"Loss and accuracy on training (dashed) and test data (solid), and the gap between them. {BAND} Training values "
        "are Keras' running means over an epoch, in training mode; the last point is the whole set, in inference mode."
    ),
    "landscape": (
        "Loss around the weights, of the first seed: on a line (training dashed, test solid), and on a plane, with the way "
        "of training in white and a dot at its end."
    ),
    "compare": "Results by arm: a dot per seed, the bar is the mean, its error the standard error.",
}


def caption(figure, runs, listed):
    """Return the caption of a figure.

    Args:
        figure: A key of `FIGURES`.
        runs: List of `runs.Run`.
        listed: The plugin's answer `runs`.
    """
    return f"{FIGURES[figure]} {subject(runs, listed)}"


def subject(runs, listed):
    """Return sentences that name model, data, seeds, device, batch normalization and examples."""
    told = [run for run in runs if run.rows]
    known = [_of_experiment(run) for run in told]
    parts = known or [_of_tags(listed)]
    if len(parts) > 1 and any(part != parts[0] for part in parts):
        return " ".join(f"{run.name}: {_sentence(part)}" for run, part in zip(told, parts, strict=True))
    return _sentence(parts[0])


def _sentence(facts):
    return "; ".join(f"{name}: {value}" for name, value in facts.items() if value) + "."


def _of_experiment(run):
    arms, environment = [run.experiment.arms[arm] for arm in run.arms], run.environment
    measure = run.experiment.measure
    count = measure.top_eigenvalue_examples
    devices = ", ".join(dict.fromkeys(environment.get("devices") or []))
    if devices == "CPU" and environment.get("processor"):
        devices = f"CPU ({environment['processor']})"
    software = [f"{name} {environment[key]}" for name, key in _SOFTWARE.items() if key in environment]
    return {
        "Model": _same(arms, "model"),
        "data": _same(arms, "data"),
        "optimizer": _same(arms, "optimizer"),
        "seeds": _seeds(run),
        "device": devices,
        "batch normalization when measured": "inference mode on recalibrated statistics",
        "curvature measured on": f"the first {count} training examples of each seed" if count else "",
        "software": ", ".join(software),
    }


_SOFTWARE = {"tf_lbgap": "tf_lbgap", "TensorFlow": "tensorflow", "Keras": "keras"}


def _seeds(run):
    seeds = sorted({row["seed"] for row in run.rows})
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else ", ".join(map(str, seeds))


def _same(arms, key):
    values = [arm[key] for arm in arms]
    if any(value != values[0] for value in values):
        return "differs between arms"
    return text_of(values[0])


def _of_tags(listed):
    """What the writers of the events said, where there is no configuration."""
    found = {}
    for run in listed["runs"]:
        for tag in run["tags"]:
            for key, value in tag["measured"].items():
                found.setdefault(key, {})[text_of(value)] = None
    facts = {_NAMES.get(key, key): "" for key in _NAMES if key in found}  # these first
    for key, values in found.items():
        if key != "seed" and len(values) <= 12:
            facts[_NAMES.get(key, key)] = ", ".join(values)
    return {**facts, "seeds": str(len({run["seed"] for run in listed["runs"] if run["seed"]}) or "")}


_NAMES = {
    "model": "Model",
    "data": "data",
    "optimizer": "optimizer",
    "device": "device",
    "examples": "examples",
    "batch_normalization": "batch normalization when measured",
}
