"""How accurate a model stays under an attack, over sizes of it; and on examples made with another model."""

import dataclasses
import functools
import inspect
import math
import numbers

import numpy as np
import tensorflow as tf

from tf_lbgap.attacks import gradient_sign, input_hessian, noise, projected
from tf_lbgap.attacks.calls import example_tensors, run
from tf_lbgap.attacks.right import right_predictions
from tf_lbgap.curvature.sums import CHUNK_SIZE

NAMED = {
    attack.__name__: attack
    for attack in (
        gradient_sign.fgsm,
        projected.fgsm_10,
        gradient_sign.l2grad,
        input_hessian.fhsm,
        input_hessian.l2hess,
        projected.pgd,
        noise.random_sign,
        noise.gaussian,
    )
}


@dataclasses.dataclass(frozen=True)
class AccuracyUnderAttack:
    """Accuracy of a model over sizes of an attack.

    Attributes:
        attack: Its name.
        epsilons: (k,).
        accuracy: (k,), the share of examples that are right after the attack; those wrong before are attacked, too.
        standard_error: (k,), √(a (1 - a) / N), of the sample and not of the attack; 0 where all or none are right.
        loss: (k,), the mean loss of the attacked examples.
        num_examples: N.
    """

    attack: str
    epsilons: np.ndarray
    accuracy: np.ndarray
    standard_error: np.ndarray
    loss: np.ndarray
    num_examples: int


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Accuracy of a target on examples that were made with a source.

    Attributes:
        attack: Its name.
        epsilon: Its size.
        accuracy: Of the target, on the attacked examples.
        standard_error: Binomial, of the sample.
        clean_accuracy: Of the target, on the examples as they were.
        clean_standard_error: Binomial, of the sample.
        source_accuracy: Of the source, on the examples made with it.
        num_examples: N.
    """

    attack: str
    epsilon: float
    accuracy: float
    standard_error: float
    clean_accuracy: float
    clean_standard_error: float
    source_accuracy: float
    num_examples: int


def accuracy_under_attack(
    model,
    loss,
    x,
    y,
    *,
    attack=gradient_sign.fgsm,
    epsilons=(0.0, 0.01, 0.02),
    data_range=None,
    seed=0,
    chunk_size=CHUNK_SIZE,
    correct=None,
):
    """The share of examples that a model gets right after an attack made with the model itself.

    Costs the attack and a forward pass over the data for each ε.

    Args:
        model: A classifier; see `fgsm`.
        loss: The loss that the attack raises. It also says what one output means: see `right_predictions`.
        x: Inputs, (N, ...).
        y: Labels: class numbers, rows with a one for the class, or two classes by one output.
        attack: A function of this package, the name of one, or your own with the arguments of `fgsm`. Options by
            `functools.partial(attacks.pgd, num_steps=40)`.
        epsilons: Sizes, each at least 0.
        data_range: As for `fgsm`.
        seed: Of `random_sign` and `gaussian`. Noise is drawn chunk by chunk, so it depends on `chunk_size`. For a
            random start of `pgd` set its own seed by `functools.partial`.
        chunk_size: How many examples are worked off at a time.
        correct: Function `(y, y_pred) -> bool of each example`, for what is no plain classification.

    Returns:
        `AccuracyUnderAttack`.

    Raises:
        ValueError: As `fgsm`, and if there is no such attack, or the loss and the shapes do not say what is right.

    Example:
        >>> found = accuracy_under_attack(model, loss, x, y, epsilons=(0.0, 0.1), data_range=(0.0, 1.0))
        >>> found.accuracy[0] - found.accuracy[1]    # what an attack of 0.1 takes
    """
    attack, name = checked_attack(attack)
    epsilons = checked_epsilons(epsilons)
    arrays = example_tensors(model, x, y)
    right = right_predictions(loss) if correct is None else correct
    rows = []
    for start, part_x, part_y in _chunks(arrays, chunk_size):
        make = attack_on(attack, model, loss, part_x, part_y, data_range, seed, start)
        rows.append([evaluated(model, loss, make(epsilon), part_y, right) for epsilon in epsilons])
    num_right, total = np.sum(rows, axis=0).T
    accuracy = num_right / arrays[0].shape[0]
    return AccuracyUnderAttack(
        attack=name,
        epsilons=np.array(epsilons),
        accuracy=accuracy,
        standard_error=standard_error(accuracy, arrays[0].shape[0]),
        loss=total / arrays[0].shape[0],
        num_examples=int(arrays[0].shape[0]),
    )


def transfer(
    source,
    target,
    loss,
    x,
    y,
    *,
    epsilon,
    attack=gradient_sign.fgsm,
    data_range=None,
    seed=0,
    chunk_size=CHUNK_SIZE,
    correct=None,
):
    """Accuracy of `target` on examples that were made with `source`: a black-box attack.

    A target whose gradients are masked looks robust to attacks made with itself and is not to those of another.

    Args:
        source: The model that the attack asks.
        target: The model that is evaluated, with the same inputs and labels.
        loss: Of both.
        x: As for `accuracy_under_attack`, as all others.
        y: As there.
        epsilon: One size.
        attack: As there.
        data_range: As there.
        seed: As there.
        chunk_size: As there.
        correct: As there.

    Returns:
        `Transfer`.

    Raises:
        ValueError: As `accuracy_under_attack`.
    """
    attack, name = checked_attack(attack)
    (epsilon,) = checked_epsilons((epsilon,))
    arrays = example_tensors(source, x, y)
    right = right_predictions(loss) if correct is None else correct
    counts = np.zeros(3)
    for start, part_x, part_y in _chunks(arrays, chunk_size):
        made = attack_on(attack, source, loss, part_x, part_y, data_range, seed, start)(epsilon)
        pairs = (target, made), (target, part_x), (source, made)
        counts += [evaluated(model, loss, inputs, part_y, right)[0] for model, inputs in pairs]
    num_examples = int(arrays[0].shape[0])
    accuracy, clean, of_source = (counts / num_examples).tolist()
    errors = standard_error(np.array([accuracy, clean]), num_examples).tolist()
    return Transfer(name, epsilon, accuracy, errors[0], clean, errors[1], of_source, num_examples)


def attack_on(attack, model, loss, x, y, data_range, seed, chunk):
    """Return the function `epsilon -> x'` of a chunk of examples; its seed is its own, and that of all sizes."""
    options = {"data_range": data_range}
    if wants_seed(attack):
        options["seed"] = int(np.random.SeedSequence([_whole_seed(seed), chunk]).generate_state(1)[0])
    return lambda epsilon: attack(model, loss, x, y, epsilon=epsilon, **options)


def evaluated(model, loss, x, y, right):
    """Return the number of right predictions and the sum of the losses of some examples, two floats."""
    return [float(t) for t in run(_evaluation, model, loss, tf.convert_to_tensor(x), y, right=right)]


def standard_error(accuracy, num_examples):
    """The standard error of a share of independent examples."""
    return np.sqrt(accuracy * (1 - accuracy) / num_examples)


def checked_attack(attack):
    """Return an attack as a function, and what to call it."""
    if isinstance(attack, str):
        if attack not in NAMED:
            raise ValueError(f"There is no attack {attack!r}; there are {', '.join(sorted(NAMED))}.")
        attack = NAMED[attack]
    if not callable(attack):
        raise ValueError(f"attack is {attack!r}, but should be a function such as attacks.fgsm, or its name.")
    named = attack
    while isinstance(named, functools.partial):
        named = named.func
    return attack, getattr(named, "__name__", type(named).__name__)


def checked_epsilons(epsilons):
    """Return sizes of an attack as a tuple of floats."""
    listed = (epsilons,) if isinstance(epsilons, numbers.Real) else tuple(epsilons)
    if not listed or not all(
        isinstance(e, numbers.Real) and not isinstance(e, bool) and 0 <= e < math.inf for e in listed
    ):
        raise ValueError(
            f"epsilons is {epsilons!r}, but should hold sizes of at least 0 in the unit of the data, such as (0.0, 0.1)."
        )
    return tuple(float(e) for e in listed)


def _evaluation(losses, x, y, *, right):
    y_pred = losses.prediction(x)
    each = losses.of_examples(y, y_pred)
    is_right = tf.reshape(right(y, y_pred), tf.shape(each))
    return tf.reduce_sum(tf.cast(is_right, tf.float64)), tf.reduce_sum(tf.cast(each, tf.float64))


def _chunks(arrays, chunk_size):
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, numbers.Integral) or chunk_size < 1:
        raise ValueError(
            f"chunk_size is {chunk_size!r}, but should be a number of examples, such as {CHUNK_SIZE}."
        )
    x, y = arrays
    for start in range(0, x.shape[0], chunk_size):
        yield start, x[start : start + chunk_size], y[start : start + chunk_size]


def wants_seed(attack):
    """Whether an attack has a seed that is not set by a `functools.partial`; None, as of `pgd`, asks for no noise."""
    parameter = inspect.signature(attack).parameters.get("seed")
    set_already = isinstance(attack, functools.partial) and "seed" in attack.keywords
    return parameter is not None and parameter.default is not None and not set_already


def _whole_seed(seed):
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or seed < 0:
        raise ValueError(f"seed is {seed!r}, but should be a whole number of at least 0.")
    return int(seed)
