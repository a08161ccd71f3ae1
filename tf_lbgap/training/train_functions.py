"""Two train functions for one model, plain and accumulating, and the swap between them.

`fit` reads `model.train_function` anew before each execution, so a callback may put another one there: an update
that fits into memory costs what it always did. A function is traced when it first runs, and kept.
"""

import contextlib
import numbers

import keras
import tensorflow as tf

from tf_lbgap import strategy
from tf_lbgap.training.accumulation import Accumulation
from tf_lbgap.training.held import held
from tf_lbgap.training.micro_gradients import Notebook
from tf_lbgap.training.update_change import around_parts


class TrainFunctions:
    """Choose how the next execution of `fit` makes its updates: as Keras does, or from micro-batches.

    Call its methods between executions, as from `on_train_batch_begin`. The model and its optimizer stay as they
    are, and so does the model's class; its `train_step` must apply `model.optimizer` once.

    Losses may be compiled with any reduction to a number; see `losses` for what makes the update exact. A loss that
    a `train_step` or `compute_loss` of your own computes must be a mean over the examples.

    Args:
        model: A compiled and built Keras model.

    Raises:
        ValueError: If its updates cannot be accumulated.
    """

    def __init__(self, model):
        check_model(model)
        self._model, self._optimizer = model, model.optimizer
        build_optimizer(model)
        self._accumulating = {}  # key -> train function
        self._chosen = None  # the key of the one in place; None: the plain one
        self._probed = None  # whether the last probe notes inner products; None: there was no probe
        with tf.device("CPU:0"):
            self._micro_batch_size = tf.Variable(1, dtype=tf.int64, trainable=False)
        self._notebook = None
        self._plain = None
        self._note_plain()

    def use_plain(self):
        """Let the next execution be Keras' own: `model.train_function` is the object that was there before."""
        self._choose(None)

    def use_accumulating(self, micro_batch_size):
        """Let the next execution accumulate from parts of at most this many examples (on each replica)."""
        self._choose(self._key("accumulating", micro_batch_size))

    def use_probing(self, micro_batch_size, inner_products=False):
        """Let the next execution accumulate, and note the norms of the gradients of its parts.

        Args:
            micro_batch_size: Most examples of a part.
            inner_products: Whether to note the inner products with the batch's gradient too, for which all
                gradients are kept until the end of the update: k times the memory of the weights.
        """
        self._choose(self._key("inner products" if inner_products else "probing", micro_batch_size))

    @property
    def gradients(self):
        """`MicroGradients` of the last probed update, or None. With `steps_per_execution`, of the last of them."""
        if self._probed is None:
            return None
        return self._notebook.read(self._probed)

    def restore(self):
        """Put the plain function back, at the end of a fit."""
        self.use_plain()

    def _key(self, kind, micro_batch_size):
        micro_batch_size = check_micro_batch_size(micro_batch_size)
        self._micro_batch_size.assign(micro_batch_size)
        return (kind, micro_batch_size) if self._compiles else (kind, None)

    @property
    def _compiles(self):
        """Whether XLA compiles the step, and needs the sizes of its parts."""
        return bool(self._model.jit_compile) and not self._model.run_eagerly

    def _choose(self, key):
        if key is None and self._chosen is None:
            return  # the plain one is there, or somebody else's, such as that of `Changes`
        self._note_plain()
        self._chosen = key
        if key is None:
            self._stop_watching()
            self._model.train_function = self._plain
            return
        if key not in self._accumulating:
            self._accumulating[key] = self._make(key)
        if key[0] != "accumulating":
            self._probed = key[0] == "inner products"
        self._model.train_function = self._accumulating[key]
        self._watch()

    def _note_plain(self):
        """Take the train function that is there for the plain one, unless we have put it there."""
        model = self._model
        if model.optimizer is not self._optimizer:
            raise ValueError(
                f"Model {model.name!r} was compiled anew since TrainFunctions(model) was made. Make another."
            )
        if model.train_function is None:
            model.make_train_function()
        current = model.train_function
        if current is not self._plain and not any(current is f for f in self._accumulating.values()):
            self._plain = current
            self._accumulating.clear()  # they hold the same learning rate schedule, or whatever changed

    # A function made anew while an accumulating one is in place, as by somebody who changes what was traced.

    def _watch(self):
        own = vars(self._model)
        if getattr(own.get("make_train_function"), "owner", None) is self:
            return
        before = self._model.make_train_function

        def make_train_function(force=False):
            self._stop_watching()
            before(force=force)
            if force:
                self._choose(self._chosen)
            else:
                self._watch()

        make_train_function.owner = self
        self._unwatched = own.get("make_train_function")
        own["make_train_function"] = make_train_function

    def _stop_watching(self):
        own = vars(self._model)
        if getattr(own.get("make_train_function"), "owner", None) is not self:
            return
        if self._unwatched is None:
            del own["make_train_function"]
        else:
            own["make_train_function"] = self._unwatched

    def _make(self, key):
        kind, micro_batch_size = key
        if kind != "accumulating" and self._notebook is None:
            self._notebook = Notebook(len(self._model.trainable_variables), strategy.of(self._model))
        update = Accumulation(
            self._model,
            self._micro_batch_size.read_value if micro_batch_size is None else lambda: micro_batch_size,
            static=self._compiles,
            notebook=None if kind == "accumulating" else self._notebook,
            inner_products=kind == "inner products",
        )
        self._stop_watching()
        return train_function(self._model, around_parts(self._model, update.step))


def train_function(model, step):
    """Return the train function that Keras makes around another `train_step`, and leave the model as it was."""
    with held(model, train_step=step), _kept(model):
        model.make_train_function(force=True)
        return model.train_function


@contextlib.contextmanager
def _kept(model):
    before = model.train_function
    try:
        yield
    finally:
        model.train_function = before


def build_optimizer(model):
    """Make the optimizer's variables, which Keras would make inside the first trace: here, inside a loop."""
    if not model.optimizer.built:
        with strategy.of(model).scope():
            model.optimizer.build(model.trainable_variables)


def check_micro_batch_size(size):
    """Return it as an int; raise if it is none."""
    if isinstance(size, bool) or not isinstance(size, numbers.Integral) or size < 1:
        raise ValueError(f"micro_batch_size={size!r} must be a whole number, 1 or more.")
    return int(size)


def check_model(model):
    """Raise if the updates of a model cannot be accumulated, as far as can be seen before they are traced."""
    optimizer = getattr(model, "optimizer", None)
    if not getattr(model, "compiled", False) or optimizer is None:
        raise ValueError(
            f"Model {getattr(model, 'name', model)!r} has no optimizer. Call model.compile(optimizer, loss) before its "
            "updates are accumulated."
        )
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(
            f"The optimizer of model {model.name!r} is a {type(optimizer).__name__}. Compile it with a keras.optimizers.Optimizer."
        )
    if not model.built or not all(layer.built for layer in model._flatten_layers()):
        raise ValueError(
            f"Model {model.name!r} has no weights yet, and an accumulated gradient needs their shapes. Begin it with "
            "keras.Input(shape), or call it once on a batch."
        )
    while optimizer is not None:
        if optimizer.gradient_accumulation_steps:
            raise ValueError(
                f"Optimizer {optimizer.name!r} has gradient_accumulation_steps={optimizer.gradient_accumulation_steps}, which "
                "would accumulate over updates what is accumulated within one. Leave it out."
            )
        optimizer = getattr(optimizer, "inner_optimizer", None)
