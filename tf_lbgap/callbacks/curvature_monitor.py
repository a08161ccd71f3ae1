"""Eigenvalues, trace and spectrum of the Hessian while `fit` runs."""

import difflib
import math
import warnings

import numpy as np

from tf_lbgap.callbacks import learning_rate as rates
from tf_lbgap.callbacks import stability
from tf_lbgap.callbacks.monitor import Monitor, check_whole, mean_and_spread
from tf_lbgap.callbacks.summaries import EIGENVALUE_UNIT
from tf_lbgap.curvature import (
    FisherOperator,
    GaussNewtonOperator,
    HessianOperator,
    spectral_density,
    top_eigenpairs,
    trace,
)
from tf_lbgap.curvature.parameters import Parameters

_OPERATORS = {
    "hessian": HessianOperator,
    "gauss_newton": GaussNewtonOperator,
    "fisher": FisherOperator,
}
_TAGS = {
    "largest": "eigenvalues",
    "smallest": "smallest_eigenvalues",
    "magnitude": "largest_magnitude_eigenvalues",
}
_NAMES = {
    "largest": "top_eigenvalue",
    "smallest": "bottom_eigenvalue",
    "magnitude": "largest_magnitude_eigenvalue",
}


class CurvatureMonitor(Monitor):
    """Measure the curvature of the loss during `fit`, and leave training as it is, bit for bit.

    Into the logs, and so into `History` and `CSVLogger` (which is to stand behind it), come at the end of an epoch
    the numbers of its last measurement, NaN if it had none:

    - `top_eigenvalue`, `top_eigenvalue_2`, .. `_k`, and `top_eigenvalue_residual`: an eigenvalue lies that close
      to the first. A value that did not converge is NaN, with a warning; `history` has it, and says so.
      (`bottom_eigenvalue` for the smallest, `largest_magnitude_eigenvalue` for those.)
    - `edge_of_stability`: what the optimizer tolerates (`stability`), for the largest. With Adam it is to be
      compared with `preconditioned_top_eigenvalue`, which is measured beside.
    - `top_eigenvalue_spread`: the standard deviation over disjoint parts of the sample, for `subsets` above 1.
      All values are means over the parts then.
    - `trace`, `trace_standard_error`: if asked for.

    All of them, the loss of the sample, and vectors, are in `history`, a row per measurement, and in TensorBoard at step
    `optimizer.iterations`.

    A measurement starts from the eigenvectors of the last one. It costs some 10 products for the first eigenvalue
    and 3 per further one; the start saves a tenth to a quarter of them in small networks, the more the nearer
    measurements are. A product is a pass over the sample at the price of two to three gradients. All is compiled
    once. Rounding spoils curvature that has almost vanished, as in a network that fits its sample perfectly in
    float32: what cannot be trusted is NaN then.

    Example:

    ```python
    model.fit(x, y, epochs=30, callbacks=[
        lb.callbacks.CurvatureMonitor((x[:1000], y[:1000]), k=5, every="epoch", log_dir="runs/a"),
    ])
    ```

    Args:
        batches: The sample measured on: a tuple `(x, y)` is one batch, a list or another iterable yields
            batches, `data.Batches` is read in storage order, without `map`.
        loss: Defaults to the loss that the model was compiled with.
        k: How many eigenvalues.
        which: "largest", "smallest" (the most negative), or "magnitude".
        trace: Products to spend on the trace; 0 for none.
        density: Random vectors (20 products each) to spend on the spectral density; 0 for none. With
            `subsets` it is that of the first part.
        every: "epoch"; {"epochs": n}, at the end of each n-th; {"updates": n} or n, after updates n, 2n, ..
            of `optimizer.iterations` (with `steps_per_execution` at the first end of an execution from there
            on); or a function `(update, progress) -> bool`, asked after each execution. Progress is in
            epochs; beside a `BatchSizeScheduler` that stands behind the monitor it is one execution late.
        max_overhead: Share of the run's time, such as 0.05, instead of `every`. After two measurements a
            cadence is printed and kept, also as `cadence`, a dict: `every=monitor.cadence` measures another
            run at the same updates with the same limit on products. Time is the process' CPU time, with a
            GPU wall time; tracing is not in it.
        subsets: Number of disjoint parts of the sample, by position (i modulo `subsets`).
        batch_normalization: "recalibrated", "inference" or "batch": see `curvature.HessianOperator`.
        tolerance, max_products, seed: Of `curvature.top_eigenpairs`; `seed` also of trace and density.
        operator: "hessian", "gauss_newton" or "fisher".
        preconditioned: Whether to measure Adam's preconditioned matrix, too. Defaults to whether the optimizer
            is Adam and `which` is "largest".
        log_dir: Where to write for TensorBoard's tab SHARPNESS: scalars `sharpness/top_eigenvalue`, ..,
            `curvature/eigenvalues` (`smallest_eigenvalues`, `largest_magnitude_eigenvalues`) with residuals
            and flags, and `curvature/density`.
        at_start: Whether to measure before the first update of a fit, too.
        prefix: Put before names and tags, to tell two such monitors apart.
        measured: More on what is measured, for captions: a dict such as `{"data": "digits"}`.
        **options: `regularization`, `variables`, `loss_weights`, `chunk_size` of `curvature.HessianOperator`.

    Raises:
        ValueError: If an argument is out of range; at the start of `fit` if k exceeds the number of weights, or
            the model was compiled without a loss and none is given.

    References:
        Cohen et al., "Gradient descent on neural networks typically occurs at the edge of stability", 2021.
    """

    def __init__(
        self,
        batches,
        loss=None,
        *,
        k=1,
        which="largest",
        trace=0,
        density=0,
        every="epoch",
        max_overhead=None,
        subsets=1,
        batch_normalization="recalibrated",
        tolerance=1e-3,
        max_products=None,
        operator="hessian",
        preconditioned=None,
        log_dir=None,
        seed=0,
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
        check_whole(1, k=k)
        check_whole(0, trace=trace, density=density)
        _check_choice("which", which, _NAMES)
        _check_choice("operator", operator, _OPERATORS)
        if max_products is not None:
            check_whole(k, max_products=max_products)
        if not 0 < tolerance < math.inf:
            raise ValueError(f"tolerance={tolerance!r} should be a positive number, such as 1e-3.")
        self.k, self.which, self.trace, self.density = k, which, trace, density
        self.tolerance, self.max_products = tolerance, max_products
        self.operator, self.preconditioned, self.seed = operator, preconditioned, seed

    def names(self):
        """Return the names of the scalars, without prefix."""
        name = _NAMES[self.which]
        keys = [name, *(f"{name}_{i}" for i in range(2, self.k + 1)), f"{name}_residual"]
        keys += [f"{name}_spread"] if self.subsets > 1 else []
        keys += ["trace", "trace_standard_error"] if self.trace else []
        keys += ["edge_of_stability"] if self.which == "largest" else []
        keys += ["preconditioned_top_eigenvalue"] if self._is_preconditioned() else []
        return keys

    def _is_preconditioned(self):
        if self.preconditioned is not None:
            return self.preconditioned
        optimizer = getattr(self.model, "optimizer", None)
        return self.which == "largest" and optimizer is not None and stability.is_adam(optimizer)

    def on_train_begin(self, logs=None):
        if self.preconditioned and not stability.is_adam(self.model.optimizer):
            raise ValueError(
                f"preconditioned=True needs Adam or AdamW, whose diagonal is known; the model has "
                f"{type(rates.innermost(self.model.optimizer)).__name__}. Leave preconditioned out."
            )
        super().on_train_begin(logs)
        if self.which == "largest" and math.isnan(stability.edge_of_stability(self.model.optimizer)):
            self._warn_once(
                "edge",
                f"the edge of stability of {type(rates.innermost(self.model.optimizer)).__name__} is not known (only that of "
                "SGD and Adam is), so edge_of_stability is NaN.",
            )

    def _make(self, loss, batches, options):
        operator = _OPERATORS[self.operator](
            self.model, loss, batches, batch_normalization=self.batch_normalization, **options
        )
        n = operator.shape[0]
        if self.k > n:
            raise ValueError(
                f"k={self.k} eigenvalues were asked for, but the model has {n} weights. Pass k={n}."
            )
        self._variables = Parameters(self.model, options.get("variables")).variables
        self._starts = {}
        return operator

    def _trace(self):
        n = self._subject.shape[0]
        self._subject.matvec(np.zeros(n))
        if self.trace:  # multiplies blocks of vectors
            self._subject.matmat(np.zeros((n, 2)))

    def _measure(self, parts):
        values, losses, residuals, converged, taken, traces = [], [], [], [], [], []
        preconditioned, density = [], None
        before = self._subject.num_products
        diagonal = (
            stability.preconditioner(self.model.optimizer, self._variables)
            if self._is_preconditioned()
            else None
        )
        for index in parts:
            pairs = self._eigenpairs(self._subject, f"{self.which} {index}", self.which, self.k)
            values.append(pairs.values)
            losses.append(self._subject.loss)  # it comes with each product
            residuals.append(pairs.residuals)
            converged.append(pairs.converged)
            taken.append(pairs.num_products)
            if diagonal is not None:
                found = self._preconditioned(diagonal, index)
                preconditioned.append(found[:3])
                taken.append(found[3])
            if self.trace:
                method = "hutch++" if self.trace >= 6 else "hutchinson"
                traces.append(trace(self._subject, num_products=self.trace, method=method, seed=self.seed))
            if self.density and index == 0:
                found = spectral_density(self._subject, num_probes=self.density, seed=self.seed)
                density = {"grid": found.grid.tolist(), "density": found.density.tolist()}
        mean, spread = mean_and_spread(values)
        row = {
            "values": mean.tolist(),
            "loss": float(np.mean(losses)),
            "residuals": np.mean(residuals, axis=0).tolist(),
            "converged": np.all(converged, axis=0).tolist(),
            "spread": spread.tolist(),
            "values_of_subsets": np.array(values).tolist(),
            "products": int(self._subject.num_products - before),
            "products_of_eigenvalues": taken,
            "learning_rate": self._learning_rate(),
        }
        row["edge_of_stability"] = stability.edge_of_stability(self.model.optimizer, row["learning_rate"])
        if preconditioned:
            theirs, bounds, ended = zip(*preconditioned, strict=True)
            row["preconditioned_top_eigenvalue"] = float(np.mean(theirs))
            row["preconditioned_residual"] = float(np.mean(bounds))
            row["preconditioned_converged"] = bool(all(ended))
        if traces:
            row["trace"] = float(np.mean([each.value for each in traces]))
            errors = [each.standard_error for each in traces]
            row["trace_standard_error"] = math.hypot(*errors) / len(errors)
        if density:
            row["density"] = density
        return row, self._scalars(row)

    def _eigenpairs(self, operator, which_start, which, k):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*did not converge")  # said once, by `_scalars`
            pairs = top_eigenpairs(
                operator,
                k,
                which=which,
                tolerance=self.tolerance,
                max_products=self._limit(operator.shape[0]),
                start=self._starts.get(which_start),
                seed=self.seed,
            )
        self._starts[which_start] = pairs.vectors
        if which == "smallest":  # the most extreme first, as for the others
            return type(pairs)(
                pairs.values[::-1],
                pairs.vectors[::-1],
                pairs.residuals[::-1],
                pairs.converged[::-1],
                pairs.num_products,
            )
        return pairs

    def _starts_of_searches(self):
        return dict(self._starts)

    def _take_starts(self, starts):
        self._starts = dict(starts)

    def _preconditioned(self, diagonal, index):
        """Value, residual, whether it converged, and products; NaN where rounding spoils the matrix.

        Where gradients vanish, 1 / P reaches 1 / ε, 10⁷, and float32 products of H are not good enough for that.
        """
        theirs = stability.PreconditionedOperator(self._subject, diagonal)
        key = f"preconditioned {index}"
        try:
            pairs = self._eigenpairs(theirs, key, "largest", 1)
        except ValueError as error:
            self._starts.pop(key, None)
            self._warn_once(
                "preconditioned",
                f"preconditioned_top_eigenvalue is NaN, here and where that happens again. {error}",
            )
            return math.nan, math.nan, False, theirs.num_products
        return pairs.values[0], pairs.residuals[0], pairs.converged[0], pairs.num_products

    def _limit(self, n):
        limit = max(100, 10 * self.k) if self.max_products is None else self.max_products
        kept = self._cadence.max_products
        return min(limit if kept is None else max(min(limit, kept), self.k), n)

    def _scalars(self, row):
        name = _NAMES[self.which]
        trusted = [
            value if converged else math.nan
            for value, converged in zip(row["values"], row["converged"], strict=True)
        ]
        worst = [i for i, converged in enumerate(row["converged"]) if not converged]
        if worst:
            self._warn_once(
                "converged",
                f"eigenvalue {worst[0] + 1} of {self.k}, {row['values'][worst[0]]:.6g}, did not converge in "
                f"{max(row['products_of_eigenvalues'])} products: its residual is {row['residuals'][worst[0]]:.2g}. NaN is logged, "
                "here and wherever that happens again. Pass a larger max_products or tolerance.",
            )
        names = [name, *(f"{name}_{i}" for i in range(2, self.k + 1))]
        scalars = dict(zip(names, trusted, strict=True))
        scalars[f"{name}_residual"] = row["residuals"][0]
        if self.subsets > 1:
            scalars[f"{name}_spread"] = row["spread"][0] if row["converged"][0] else math.nan
        for key in ("trace", "trace_standard_error", "edge_of_stability"):
            if key in self.names():
                scalars[key] = row[key]
        if self._is_preconditioned():
            known = row.get("preconditioned_converged", False)
            scalars["preconditioned_top_eigenvalue"] = (
                row["preconditioned_top_eigenvalue"] if known else math.nan
            )
        return scalars

    def _unmeasured(self):
        self._starts.clear()
        nothing = [math.nan] * self.k
        return {
            "values": nothing,
            "loss": math.nan,
            "residuals": nothing,
            "converged": [False] * self.k,
            "products": 0,
        }

    def _learning_rate(self):
        """The rate of the last update, or of the next one before the first."""
        return rates.used_rate(self.model.optimizer, self._stream(), self.params)

    def _products_to_cap(self, row):
        return max(row["products_of_eigenvalues"])

    def _unit(self, name):
        return "" if name.startswith("preconditioned") else EIGENVALUE_UNIT

    def _write_more(self, writer, row, named, measured):
        writer.eigenvalues(
            f"curvature/{named(_TAGS[self.which])}",
            row["values"],
            row["update"],
            residuals=row["residuals"],
            converged=row["converged"],
            which=self.which,
            mirror=False,  # the scalar beside it has a mirror
            measured=measured,
        )
        if "density" in row:
            grid, density = row["density"]["grid"], row["density"]["density"]
            writer.density(f"curvature/{named('density')}", grid, density, row["update"], measured=measured)

    def _description(self):
        return {
            "matrix": self.operator,
            "which": self.which,
            "precision": self._subject.precision,
            "weights": self._subject.shape[0],
            "tolerance": self.tolerance,
        }


def _check_choice(name, value, choices):
    if value not in choices:
        close = difflib.get_close_matches(str(value), choices, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{name}={value!r} should be one of {', '.join(map(repr, choices))}.{hint}")
