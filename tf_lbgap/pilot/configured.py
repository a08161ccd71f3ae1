"""The model and the stream of an arm of an experiment, and the advice for them."""

import math

import keras

from tf_lbgap import callbacks, data, schedules
from tf_lbgap.experiment.calls import ConfigError, as_schedule, is_call, make_function, mistakes
from tf_lbgap.experiment.making import load_split, make_compiled_model, strategy_of
from tf_lbgap.pilot.advising import advise
from tf_lbgap.pilot.branched import branched_training
from tf_lbgap.pilot.noise import NoisePoints

ALONE = ("default", "auto", "mirrored")  # strategies that train in one process


def advise_arm(arm, *, check_examples=1000, target_loss=None, budget=60.0, seed=0, tell=None):
    """Return the `Advice` for an arm, at the batch and the rate that it begins with.

    A batch that grows by a schedule or a criterion is left at its first size.

    Args:
        arm: Dict with the keys of `experiment.config.DEFAULTS`.
        check_examples: As for `advise`.
        target_loss: Likewise; None: the arm's own.
        budget, tell: Likewise.
        seed: Of the split, the initial weights and the order.

    Raises:
        ConfigError: If the arm cannot be made or advised; the line says what to type.
    """
    if arm["strategy"] not in ALONE:
        raise ConfigError(
            f"strategy: advise trains in this process, not under {arm['strategy']}. Type strategy=default."
        )
    with mistakes():
        split, model, batches = _made(arm, seed)
        rate = arm["learning_rate"]
        return advise(
            model,
            batches,
            target_loss=arm["target_loss"] if target_loss is None else target_loss,
            budget=budget,
            learning_rate=as_schedule(rate, "learning_rate") if is_call(rate) else None,
            check_examples=check_examples or len(split.x_train),
            micro_batch_size=arm["micro_batch_size"],
            ghost_batch_size=arm["ghost_batch_size"],
            tell=tell,
        )


def branches_of_arm(arm, epochs, *, seed=0, tell=None, **options):
    """Yield (epochs, `Branches`, `NoiseRow` or None) of an arm that is trained for so many epochs, one after the other.

    Args:
        arm: Dict with the keys of `experiment.config.DEFAULTS`; it trains at the batch and the rate that it begins with.
        epochs: Whole numbers, ascending.
        seed, tell: As for `advise_arm`.
        **options: Of `branched_training`, such as `factors`.

    Raises:
        ConfigError: If the arm cannot be made or branched; the line says what to type.
    """
    tell = tell or (lambda text: None)
    with mistakes():
        _, model, batches = _made(arm, seed)
        points, done, steering = NoisePoints(model, batches), 0, _steering(arm, batches)
        for count in epochs:
            if count > done:
                tell(f"training up to epoch {count}")
                model.fit(
                    batches, initial_epoch=done, epochs=count, shuffle=False, verbose=0, callbacks=steering
                )
                done = count
            tell(f"branches after {count} epochs")
            found = branched_training(model, batches, **options)
            points(int(model.optimizer.iterations.numpy()), float(count), found.start_loss)
            at_hand = [row for row in points.rows if row.progress == count]
            yield count, found, at_hand[0] if at_hand else None


def _steering(arm, batches):
    """The callbacks that keep the batch as it is, and move the rate if it is a schedule."""
    steering = {key: arm[key] for key in ("micro_batch_size", "ghost_batch_size")}
    result = [callbacks.BatchSizeScheduler(batches, schedules.constant(batches.batch_size), **steering)]
    if is_call(arm["learning_rate"]):
        rate = as_schedule(arm["learning_rate"], "learning_rate")
        result.append(callbacks.LearningRateScheduler(batches, rate))
    return result


def _made(arm, seed):
    """Return the split, the compiled model and the stream of an arm."""
    for key in ("update", "full_batch"):
        if arm[key] is not None:
            raise ConfigError(
                f"{key}: advise times plain updates of batches, and the arm has {key}. Type {key}=null for those."
            )
    split = load_split(arm["data"], seed)
    with strategy_of(arm).scope():
        model = make_compiled_model(arm, split, seed)
    rate = arm["learning_rate"]
    if rate is not None and not is_call(rate):
        model.optimizer.learning_rate = rate
    return split, model, _batches(arm, split, seed)


def _batches(arm, split, seed):
    size = arm["batch_size"]
    if is_call(size):
        size = round(min(as_schedule(size, "batch_size")(0.0), arm["maximum"] or math.inf))
    count = len(keras.tree.flatten(split.x_train)[0])
    if size > count:
        raise ConfigError(
            f"batch_size: {size} is more than the {count} examples of the training set. Type a smaller one."
        )
    return data.Batches(
        split.x_train,
        split.y_train,
        batch_size=size,
        seed=seed,
        map=arm["map"] and make_function(arm["map"]),
        last_batch=arm["last_batch"],
    )
