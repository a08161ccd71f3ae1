"""Measures of sharpness while `fit` runs."""

import difflib
import functools
import inspect
import math

import numpy as np

import tf_lbgap.sharpness
from tf_lbgap.callbacks.monitor import Monitor, mean_and_spread
from tf_lbgap.callbacks.summaries import EIGENVALUE_UNIT
from tf_lbgap.sharpness import Subject

_UNITS = {
    "top_eigenvalue": EIGENVALUE_UNIT,
    "hessian_trace": EIGENVALUE_UNIT,
    "epsilon_sharpness": "%",
    "ascent_sharpness": "loss",
    "m_sharpness": "loss",
    "adaptive_sharpness": "loss",
    "average_sharpness": "loss",
}
_SEVERAL = ("epsilon", "rho")  # options of which a measure takes one or several


class SharpnessMonitor(Monitor):
    """Take measures of `sharpness` during `fit`, and leave training as it is, bit for bit.

    Each measure comes into the logs at the end of an epoch under its name, as of the last measurement in the
    epoch, NaN if it had none; with several values of epsilon or rho under one name per value,
    `epsilon_sharpness_0.001`. Into TensorBoard it comes as `sharpness/epsilon_sharpness` at step
    `optimizer.iterations`. `history` has a row per measurement.

    Example:

    ```python
    sample = (x[:1000], y[:1000])
    model.fit(x, y, epochs=30, callbacks=[
        lb.callbacks.SharpnessMonitor(sample, measures={"epsilon_sharpness": {"epsilon": [1e-3, 5e-4]}}),
    ])
    ```

    Args:
        batches: The sample measured on: a tuple `(x, y)` is one batch, a list or another iterable yields
            batches, `data.Batches` is read in storage order, without `map`.
        loss: Defaults to the loss that the model was compiled with.
        measures: Names of measures in `sharpness`, or functions `measure(subject)` that return a float, where
            `subject` is a `sharpness.Subject`; or a dict from name to the options of that measure
            or to a function.
        every: See `CurvatureMonitor`.
        max_overhead: See `CurvatureMonitor`. Measures have no common limit on products, so only the cadence
            is kept. The first measurement is made twice, since it is compiled as it goes.
        subsets: Number of disjoint parts of the sample, by position (i modulo `subsets`). Values are means
            over the parts then, and each has a standard deviation, `epsilon_sharpness_spread`.
        batch_normalization: See `CurvatureMonitor`.
        log_dir: Where to write for TensorBoard.
        at_start: Whether to measure before the first update of a fit, too.
        prefix: Put before names and tags, to tell two such monitors apart.
        measured: More on what is measured, for captions: a dict such as `{"data": "digits"}`.
        **options: `regularization`, `variables`, `loss_weights`, `chunk_size` of `curvature.HessianOperator`.

    Raises:
        ValueError: If there is no such measure or option, or an argument is out of range; at the start of `fit` if
            the model was compiled without a loss and none is given.
    """

    def __init__(
        self,
        batches,
        loss=None,
        *,
        measures=("epsilon_sharpness",),
        every="epoch",
        max_overhead=None,
        subsets=1,
        batch_normalization="recalibrated",
        log_dir=None,
        at_start=False,
        prefix="",
        measured=None,
        **options,
    ):
        super().__init__(
            batches,
            loss,
            every=every,
            max_overhead=max_overhead,
            subsets=subsets,
            batch_normalization=batch_normalization,
            log_dir=log_dir,
            at_start=at_start,
            prefix=prefix,
            measured=measured,
            **options,
        )
        self.measures = _measures(measures)

    def names(self):
        """Return the names of the scalars, without prefix."""
        names = [name for _, parts in self.measures.values() for name in parts]
        return names + ([f"{name}_spread" for name in names] if self.subsets > 1 else [])

    def _make(self, loss, batches, options):
        return Subject(self.model, loss, batches, batch_normalization=self.batch_normalization, **options)

    def _trace(self):
        if self.is_within_budget:  # else compiling is part of the first measurement, whose time nobody uses
            self._values_of_part()

    def _measure(self, parts):
        values = [self._values_of_part() for _ in parts]
        names = [name for _, parts in self.measures.values() for name in parts]
        mean, spread = mean_and_spread(values)
        row = dict(zip(names, mean.tolist(), strict=True))
        if self.subsets > 1:
            row |= {f"{name}_spread": value for name, value in zip(names, spread.tolist(), strict=True)}
        scalars = dict(row)
        row["values_of_subsets"] = values
        return row, scalars

    def _unmeasured(self):
        return dict.fromkeys(self.names(), math.nan)

    def _values_of_part(self):
        values = []
        for name, (measure, parts) in self.measures.items():
            found = measure(self._subject)
            found = np.ravel(np.asarray(found))
            if len(found) != len(parts) or not np.issubdtype(found.dtype, np.number):
                raise ValueError(
                    f"Measure {name!r} gave {found.tolist()}, but a measure returns a float, or here {len(parts)} of them, "
                    "one per value of epsilon or rho. Pass a function of the subject that does."
                )
            values += map(float, found)
        return values

    def _unit(self, name):
        name = name.removesuffix("_spread")
        measure = next((each for each, (_, parts) in self.measures.items() if name in parts), name)
        return _UNITS.get(measure, "")

    def _description(self):
        return {"measures": ", ".join(self.measures)}


def _measures(measures):
    """Return a dict from name to (function of a subject, names of its values)."""
    if isinstance(measures, str) or callable(measures):
        measures = [measures]
    if not isinstance(measures, dict):
        measures = {
            (each if isinstance(each, str) else getattr(each, "__name__", repr(each))): (
                {} if isinstance(each, str) else each
            )
            for each in measures
        }
    if not measures:
        raise ValueError('measures is empty. Name at least one, such as measures=["epsilon_sharpness"].')
    return {name: _measure(name, options) for name, options in measures.items()}


def _measure(name, options):
    if callable(options):
        return options, [name]
    if not isinstance(options, dict):
        raise ValueError(
            f"measures[{name!r}] is {options!r}, but should be a dict of options, such as {{'epsilon': 1e-3}}, or a function."
        )
    function = _named(name)
    parameters = inspect.signature(function).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [key for key in parameters if key not in ("model", "loss", "batches", "options")]
    for key in options:
        if key not in known and not takes_any:
            raise ValueError(f"Measure {name!r} has no option {key!r}. {_nearest(key, known)}")
    names = [name]
    for key in _SEVERAL:
        default = parameters[key].default if key in parameters else None
        value = options.get(key, default)
        if isinstance(value, (list, tuple)):
            names = [f"{name}_{each:g}" for each in value]
    return functools.partial(function, **options), names


def _named(name):
    known = {
        key: value
        for key, value in vars(tf_lbgap.sharpness).items()
        if inspect.isfunction(value)
        and list(inspect.signature(value).parameters)[:3] == ["model", "loss", "batches"]
    }
    if name not in known:
        raise ValueError(f"There is no measure {name!r} in tf_lbgap.sharpness. {_nearest(name, known)}")
    return known[name]


def _nearest(name, known):
    close = difflib.get_close_matches(str(name), known, 1)
    return f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(sorted(known))}."
