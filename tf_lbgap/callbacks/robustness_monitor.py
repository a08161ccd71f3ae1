"""Accuracy under attack while `fit` runs."""

import contextlib
import math

import numpy as np

from tf_lbgap import attacks
from tf_lbgap.attacks import accuracy as under_attack
from tf_lbgap.attacks.loss_by_input import model_dtype
from tf_lbgap.attacks.right import right_predictions
from tf_lbgap.batch_normalization import recalibrated, repeatable
from tf_lbgap.callbacks.monitor import Monitor, mean_and_spread
from tf_lbgap.curvature.batches import TensorBatches
from tf_lbgap.curvature.modes import measured as in_full_precision
from tf_lbgap.curvature.sums import CHUNK_SIZE


class RobustnessMonitor(Monitor):
    """Attack the model during `fit`, and leave training as it is, bit for bit.

    Into the logs come, at the end of an epoch and as of the last measurement in it (NaN if it had none), for
    each attack and each ε `robust_accuracy_fgsm_0.02` and `robust_loss_fgsm_0.02`: the share of examples that are
    right after the attack, and their mean loss. An ε of 0 is the clean accuracy of the sample. Into TensorBoard comes
    the accuracy as `robustness/fgsm_0.02` and the loss as `robustness/fgsm_0.02_loss` at step
    `optimizer.iterations`, the accuracy also as a stock scalar, `lbgap/fgsm_0.02`. `history` has a row per
    measurement, with `robust_accuracy_fgsm_0.02_standard_error` beside.

    A measurement costs each attack and a forward pass over the sample, once for each ε.

    Example:

    ```python
    sample = (x[:1000], y[:1000])
    model.fit(x, y, epochs=30, callbacks=[
        lb.callbacks.RobustnessMonitor(sample, attack=["fgsm", "random_sign"], epsilons=(0.0, 0.02), data_range=(0, 1)),
    ])
    ```

    Args:
        batches: The sample attacked: a tuple `(x, y)` is one batch, a list or another iterable yields batches,
            `data.Batches` is read in storage order, without `map`. Sample weights are left aside.
        loss: What the attacks raise. Defaults to the loss that the model was compiled with.
        attack: A function of `attacks`, the name of one, a list of these, or a dict from a name of yours to one:
            `{"pgd": functools.partial(attacks.pgd, num_steps=40), "noise": attacks.random_sign}`.
        epsilons: Sizes, the same for all attacks; or a dict from the attack's name to sizes, for L2 beside L∞.
        data_range: As for `attacks.fgsm`.
        seed: Of `random_sign` and `gaussian`: equal at each measurement, so that a curve shows the model and not
            the noise.
        correct: As for `attacks.accuracy_under_attack`.
        every: See `CurvatureMonitor`.
        max_overhead: See `CurvatureMonitor`.
        subsets: Number of disjoint parts of the sample, by position (i modulo `subsets`). Values are means over
            the parts then, and each has a standard deviation, `robust_accuracy_fgsm_0.02_spread`.
        batch_normalization: "recalibrated", with exact statistics over the sample, or "inference", with the moving ones.
        log_dir: Where to write for TensorBoard.
        at_start: Whether to measure before the first update of a fit, too.
        prefix: Put before names and tags, to tell two such monitors apart.
        measured: More on what is measured, for captions: a dict such as `{"data": "digits"}`.
        **options: `chunk_size`, how many examples are worked off at a time.

    Raises:
        ValueError: If there is no such attack, or an argument is out of range; at the first measurement if the loss
            and the shapes do not say which predictions are right.
    """

    def __init__(
        self,
        batches,
        loss=None,
        *,
        attack=attacks.fgsm,
        epsilons=(0.01, 0.02),
        data_range=None,
        seed=0,
        correct=None,
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
        unknown = sorted(set(options) - {"chunk_size"})
        if unknown:
            raise TypeError(
                f"RobustnessMonitor has no argument {unknown[0]!r}; beside its own it takes chunk_size."
            )
        if batch_normalization == "batch":
            raise ValueError(
                "batch_normalization is 'batch', but then an example's loss depends on the others in its batch, and no "
                "attack is its own. Pass 'recalibrated' or 'inference'."
            )
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
        self.attacks = _attacks(attack)
        self.epsilons = _epsilons(epsilons, self.attacks)
        self.data_range, self.seed, self.correct = data_range, seed, correct
        if len(set(self._keys())) < len(self._keys()):
            raise ValueError(
                f"epsilons={epsilons!r} holds sizes that share a name, which has six digits. Leave one out."
            )

    def names(self):
        """Return the names of the scalars, without prefix."""
        names = [f"robust_{what}_{key}" for what in ("accuracy", "loss") for key in self._keys()]
        return names + ([f"{name}_spread" for name in names] if self.subsets > 1 else [])

    def _keys(self):
        return [f"{name}_{epsilon:g}" for name in self.attacks for epsilon in self.epsilons[name]]

    def _make(self, loss, batches, options):
        options.pop("loss_weights", None)
        options.setdefault("chunk_size", CHUNK_SIZE)
        return _Subject(self, loss, batches, **options)

    def _trace(self):
        if self.is_within_budget:  # else compiling is part of the first measurement, whose time nobody uses
            self._subject.measure()

    def _measure(self, parts):
        found, counts = zip(*(self._subject.measure() for _ in parts), strict=True)
        means, spreads = mean_and_spread(found)  # (accuracy and loss, attacks and sizes)
        names = [f"robust_{what}_{key}" for what in ("accuracy", "loss") for key in self._keys()]
        scalars = dict(zip(names, means.ravel().tolist(), strict=True))
        if self.subsets > 1:
            spread = zip(names, spreads.ravel().tolist(), strict=True)
            scalars |= {f"{name}_spread": value for name, value in spread}
        errors = under_attack.standard_error(means[0], sum(counts)).tolist()
        named = zip(self._keys(), errors, strict=True)
        row = scalars | {f"robust_accuracy_{key}_standard_error": error for key, error in named}
        row["values_of_subsets"] = [values.tolist() for values in found]
        return row, scalars

    def _unmeasured(self):
        return dict.fromkeys(self.names(), math.nan)

    def _write(self, row, scalars):
        if self._summaries is None:
            return
        if self._measured is None:
            self._measured = self._all_described()
        writer, update = self._summaries.writer, row["update"]
        for name, value in scalars.items():
            is_loss = name.startswith("robust_loss_")
            key = name.removeprefix("robust_loss_" if is_loss else "robust_accuracy_")
            tag = f"robustness/{self.prefix}{key}" + ("_loss" if is_loss else "")
            mirror = not is_loss and not name.endswith("_spread")
            writer.scalar(tag, value, update, unit=self._unit(name), measured=self._measured, mirror=mirror)
        self._summaries.flush_if_due()

    def _unit(self, name):
        return "loss" if name.startswith("robust_loss_") else "accuracy"

    def _description(self):
        limits = (
            None if self.data_range is None else str(tuple(np.asarray(r).tolist() for r in self.data_range))
        )
        return {"attacks": ", ".join(self.attacks), "data_range": limits, "seed": self.seed}


class _Subject:
    """A model, its loss and examples, attacked any number of times; other examples may be assigned to `batches`."""

    def __init__(self, monitor, loss, batches, *, chunk_size):
        if isinstance(loss, (list, tuple, dict)):
            raise ValueError(
                "RobustnessMonitor attacks models with one output and one loss. Pass loss= for one, or leave it out."
            )
        self._monitor, self._model, self._loss, self._chunk_size = monitor, monitor.model, loss, chunk_size
        self._right = monitor.correct or right_predictions(loss)
        self.batches = repeatable(batches)

    def measure(self):
        """Return accuracies and losses, shape (2, attacks and sizes), and the number of examples."""
        model, count, totals = self._model, 0, 0.0
        statistics = contextlib.nullcontext()
        if self._monitor.batch_normalization == "recalibrated":
            statistics = recalibrated(model, self.batches)
        with in_full_precision(model), statistics:
            for x, y, *_ in TensorBatches(self.batches, model_dtype(model), self._chunk_size):
                totals = totals + np.array(list(self._of_chunk(x, y, count)))
                count += int(x.shape[0])
        return (totals / count).T, count

    def _of_chunk(self, x, y, start):
        monitor = self._monitor
        for name, attack in monitor.attacks.items():
            make = under_attack.attack_on(
                attack, self._model, self._loss, x, y, monitor.data_range, monitor.seed, start
            )
            for epsilon in monitor.epsilons[name]:
                yield under_attack.evaluated(self._model, self._loss, make(epsilon), y, self._right)


def _attacks(attack):
    """Return a dict from name to attack."""
    if isinstance(attack, dict):
        found = {str(name): under_attack.checked_attack(each)[0] for name, each in attack.items()}
    else:
        listed = list(attack) if isinstance(attack, (list, tuple)) else [attack]
        pairs = [under_attack.checked_attack(each) for each in listed]
        found = {name: each for each, name in pairs}
        if len(found) < len(pairs):
            raise ValueError(
                f"Two attacks are called {pairs[0][1]!r} or such. Name them by a dict, such as "
                "{'pgd_10': functools.partial(attacks.pgd, num_steps=10), ...}."
            )
    if not found:
        raise ValueError("attack is empty. Name at least one, such as attacks.fgsm.")
    return found


def _epsilons(epsilons, known):
    """Return a dict from the name of an attack to its sizes."""
    if not isinstance(epsilons, dict):
        return dict.fromkeys(known, under_attack.checked_epsilons(epsilons))
    if set(epsilons) != set(known):
        raise ValueError(
            f"epsilons names {sorted(epsilons)}, but the attacks are {sorted(known)}: name them all."
        )
    return {name: under_attack.checked_epsilons(epsilons[name]) for name in known}
