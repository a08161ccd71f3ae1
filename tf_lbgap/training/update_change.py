"""Changes of the update, which can be combined: what they share, and how they are put around a `train_step`.

A step is a function of a batch that hands one gradient to `model.optimizer` and returns logs, as a Keras `train_step`
does. A change makes another step from a step. It need not know what the step consists of: the user's own, an
accumulation over micro-batches, or one that another change has made.

    SharpnessAware around (accumulation of micro-batches, each made by (Adversarial around train_step))

Changes that look at examples stand inside the accumulation, so that memory stays bounded; those that need the
gradient of the whole batch stand around it. Within each of the two kinds the first one named is the outermost.
"""

import keras

from tf_lbgap import strategy
from tf_lbgap.training.held import held


class UpdateChange:
    """One change. Subclasses keep their arguments as attributes of the same names, from which `get_config` reads them."""

    arguments = ()
    """Names of the arguments."""

    per_micro_batch = False
    """Whether it is made for each micro-batch, rather than with the gradient of the whole batch."""

    applies_itself = False
    """Whether it applies the optimizer several times, so that nothing can stand around it."""

    def check(self, model):
        """Raise a ValueError if the updates of a model cannot be changed in this way."""

    def check_within(self, inner):
        """Raise a ValueError if it cannot stand around one of the changes within it, a list."""

    def begin_fit(self, model):
        """Get ready: variables are made in the scope of the model's strategy."""

    def begin_epoch(self, model, epoch):
        """Do what is due before the first update of an epoch, a whole number from 0."""

    def get_state(self):
        """Return what it remembers from update to update, plain values and arrays, for `Checkpoint`; None for nothing."""
        return

    def set_state(self, state):
        """Go on from what `get_state` returned, in a `fit` that has just begun."""

    def around(self, model, step):
        """Return the changed step."""
        raise NotImplementedError

    def get_config(self):
        """Return the arguments, plain values: what `from_config` takes."""
        return {name: getattr(self, name) for name in self.arguments}

    @classmethod
    def from_config(cls, config):
        """Make a change from what `get_config` returned."""
        return cls(**config)

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_config().items())})"


class ChangedStep:
    """A `train_step` with changes around it; accumulation finds in it what goes inside, and what around.

    Args:
        model: A compiled and built Keras model.
        changes: `UpdateChange`s, the first one the outermost.
    """

    def __init__(self, model, changes):
        self._model, self.own = model, None
        self._outer = [change for change in changes if not change.per_micro_batch]
        self.of_part = _wrapped(model, model.train_step, [c for c in changes if c.per_micro_batch])
        self._whole = self.around(self.of_part)

    @property
    def needs_whole_batch(self):
        """Whether some change needs the gradient of the whole batch."""
        return bool(self._outer)

    def around(self, step):
        """Return a step made of parts with the changes around it that need the whole batch."""
        return _wrapped(self._model, step, self._outer)

    def __call__(self, data):
        return self._whole(data)


def step_of_part(model):
    """Return the step for a micro-batch: the model's own `train_step`, with the changes that belong inside."""
    step = model.train_step
    return step.of_part if isinstance(step, ChangedStep) else step


def around_parts(model, step):
    """Return a step that accumulates parts, with the changes that belong around it."""
    changed = model.train_step
    return changed.around(step) if isinstance(changed, ChangedStep) else step


class Changes:
    """Several changes of one model's updates, put in place and taken away.

    Args:
        changes: An `UpdateChange`, or a list of them, the first one the outermost.

    Raises:
        ValueError: If one is no change, or stands around one that nothing can stand around.
    """

    def __init__(self, changes):
        changes = list(changes) if isinstance(changes, (list, tuple)) else [changes]
        for change in changes:
            if not isinstance(change, UpdateChange):
                raise ValueError(
                    f"{change!r} is no change of the update. Pass one such as training.SharpnessAware(rho=0.05), or a list."
                )
        outer = [change for change in changes if not change.per_micro_batch]
        outward_in = outer + [change for change in changes if change.per_micro_batch]
        for place, change in enumerate(outward_in):
            change.check_within(outward_in[place + 1 :])
        for change in outer[1:]:
            if change.applies_itself:
                raise ValueError(
                    f"{type(change).__name__} makes several updates of one batch, so {type(outer[0]).__name__} cannot stand "
                    f"around it. Name {type(change).__name__} first, or leave one of the two out."
                )
        self.changes = changes
        self._model = self._optimizer = self._step = None
        self._plain = self._changed = None  # train functions

    def begin_fit(self, model):
        """Check the model, and let each change get ready.

        Raises:
            ValueError: If the updates of the model cannot be changed.
        """
        if self._model is not model or self._optimizer is not model.optimizer:
            self._model, self._optimizer, self._changed = model, model.optimizer, None
        for change in self.changes:
            change.check(model)
        with strategy.of(model).scope():
            for change in self.changes:
                change.begin_fit(model)

    def put(self):
        """Let the model make changed updates from now on; what was traced in an earlier fit is used again."""
        model = self._model
        if model.train_step is self._step and self._step is not None:
            return
        remove(model)
        if model.train_function is None:
            model.make_train_function()
        if self._changed is None or model.train_function is not self._plain:
            self._plain, self._step = model.train_function, ChangedStep(model, self.changes)
            with held(model, train_step=self._step):
                model.make_train_function(force=True)
                self._changed = model.train_function
        self._step.own = vars(model).get("train_step")  # a user may have put one on the instance
        vars(model)["train_step"] = self._step
        model.train_function = self._changed

    def take_away(self):
        """Give the model its own updates back."""
        model = self._model
        if model is None or model.train_step is not self._step:
            return
        _own_step(model, self._step)
        if model.train_function is self._changed:
            model.train_function = self._plain
        else:  # made anew meanwhile, with the changes in it
            model.train_function = self._changed = None


def remove(model):
    """Take changes away that a fit left in the model, because it ended in an error before its first update."""
    step = model.train_step
    if isinstance(step, ChangedStep):
        _own_step(model, step)
        model.train_function = None


def _own_step(model, step):
    if step.own is None:
        del vars(model)["train_step"]
    else:
        vars(model)["train_step"] = step.own


def _wrapped(model, step, changes):
    for change in reversed(changes):
        step = change.around(model, step)
    return step


register = keras.saving.register_keras_serializable(package="tf_lbgap")
