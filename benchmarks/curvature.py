"""What curvature costs: products with the Hessian in gradients and beside three torch libraries, eigenvalues in products.

Process CPU time on one core, in interleaved pairs whose order alternates; the ratio's median with a 95 %
interval from order statistics (with fewer than 6 pairs: their range). A gradient is that of a plain
`tf.function` for the same batch and loss, in inference mode, as all of this is. The torch libraries
(`pip install -e '.[peers]'`) get the same batch and the same weights, which were trained for a moment. What is
compared, ours / theirs, is alike:

    PyHessian             keeps the graph of the gradient: our block of 4 vectors, time per vector
    hessian-eigenthings   builds the graph for each product: our single product
    curvlinops            likewise; it is wrong through LayerNormalization, so there its time is of another job

How far a product of theirs is from ours, in norm, stands beside each. "Products" are those that
`top_eigenpairs` takes with its default arguments; true errors are against a run which goes on until rounding
stops it. After that, in parentheses, is the first number of products at which the error is within the bar.

    python benchmarks/curvature.py                 about 10 minutes on one quiet core
    python benchmarks/curvature.py --pairs 3       a look
    python benchmarks/curvature.py --only mlp      one of mlp, cnn, transformer, resnet
    python benchmarks/curvature.py --no-peers      without torch

The last line is the worst figure in units of its bar: the one to watch. Bars in gradients and in products hold
anywhere. Those against torch hang on the matrix products that both libraries call: they were set where
TensorFlow's ran at 212 GFLOP/s and torch's at 92. The first line says what they are here.
"""

import argparse
import dataclasses
import functools
import importlib
import math
import os
import sys
import warnings

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from stream import cpu_seconds, interval  # the benchmark beside this one

import tf_lbgap as lb

try:
    sys.modules["triton"] = None  # not needed on a CPU, and its LLVM beside TensorFlow's ends the process
    import torch
    from torch import nn
except ImportError:
    torch = nn = None

layers = keras.layers
Module = nn.Module if torch else object

BLOCK = 4
UPDATES, SIZES = 20, (8, 5, 3)
TOKENS, LENGTH, WIDTH, HEADS = 64, 64, 128, 4  # of the transformer

PRODUCT, BLOCK_PRODUCT = "product / gradient", f"block of {BLOCK}, per vector / gradient"
GAUSS_NEWTON = "Gauss-Newton product / gradient"
PEERS = ("PyHessian", "hessian-eigenthings", "curvlinops")
RETRACES = f"re-traces, {UPDATES} updates, {len(SIZES)} sizes"
ERROR = 1e-3
SAME = 1e-4  # float32 apart, and a few ReLUs on the other side of 0, products differ by up to 1e-5
BARS = {
    PRODUCT: 3.0,
    BLOCK_PRODUCT: 2.6,
    GAUSS_NEWTON: 2.2,
    "block, per vector / PyHessian": 0.9,
    "product / hessian-eigenthings": 0.65,
    "product / curvlinops": 0.75,
    "products for top-1": 10,
    "products for top-5": 20,
    "true error of top-1": ERROR,
    "true error of top-5": ERROR,
    RETRACES: 0,
}


# ---------------------------------------------------------------- the four networks, their data and their torch twins


@dataclasses.dataclass(frozen=True)
class Case:
    """A trained model with the batch on which it is timed.

    Attributes:
        spectrum: How many examples eigenvalues are computed on; None: they are not.
        twin: Makes the same network in torch, with its parameters in the order of Keras.
    """

    name: str
    model: keras.Model
    x: np.ndarray
    y: np.ndarray
    spectrum: int | None
    twin: object


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@functools.cache
def images():
    """Training images of 28 x 28 pixels: Fashion-MNIST, or digits enlarged where it is not installed."""
    try:
        data = lb.data.datasets.fashion_mnist(num_train=12_800, seed=0)
        x = data.x_train
    except FileNotFoundError:
        data = lb.data.datasets.digits(num_train=1500, seed=0)
        x = np.kron(data.x_train.reshape(-1, 8, 8), np.ones((3, 3), "float32"))
        x = np.pad(x, [(0, 0), (2, 2), (2, 2)])[..., None]
    print(f"images: {data.name}\n")
    return x, data.y_train


def mlp():
    """784-512-512-512-512-512-10, 1.46 M weights (F1 of Keskar et al. without its batch normalization)."""
    x, y = images()
    x = x.reshape(len(x), -1)
    model = trained(lb.networks.mlp((784,), widths=(512,) * 5, seed=0), x, y)
    return model, x[:512], y[:512], 256, torch_mlp


def cnn():
    """Two convolutions with max pooling and a hidden layer, 422 k weights."""
    stack = []
    for filters in (32, 64):
        stack += [layers.Conv2D(filters, 3, padding="same", activation="relu"), layers.MaxPooling2D()]
    stack += [layers.Flatten(), layers.Dense(128, "relu"), layers.Dense(10)]
    x, y = images()
    model = trained(keras.Sequential([keras.Input((28, 28, 1)), *stack]), x, y)
    return model, x[:128], y[:128], 128, torch_cnn


def transformer():
    """Two causal layers, normalised before, of width 128: 421 k weights. Each token has a fixed successor."""
    tokens = keras.Input((LENGTH,), dtype="int32")
    x = Positions()(layers.Embedding(TOKENS, WIDTH)(tokens))
    for _ in range(2):
        normalized = layers.LayerNormalization()(x)
        x += layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(normalized, normalized, use_causal_mask=True)
        hidden = layers.Dense(4 * WIDTH, "relu")(layers.LayerNormalization()(x))
        x += layers.Dense(WIDTH)(hidden)
    model = keras.Model(tokens, layers.Dense(TOKENS)(layers.LayerNormalization()(x)))
    rng = np.random.default_rng(0)
    x = rng.integers(0, TOKENS, (1600, LENGTH)).astype("int32")
    y = rng.permutation(TOKENS)[x]
    return trained(model, x, y, batch_size=32), x[:32], y[:32], None, torch_transformer


def resnet():
    """ResNet-20 on noise around a mean per class."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 1600)
    x = (rng.normal(size=(10, 32, 32, 3))[y] + rng.normal(size=(1600, 32, 32, 3))).astype("float32")
    model = trained(lb.networks.resnet20(seed=0), x, y, batch_size=32)
    return model, x[:16], y[:16], None, torch_resnet


CASES = {"mlp": mlp, "cnn": cnn, "transformer": transformer, "resnet": resnet}


class Positions(layers.Layer):
    """Adds a vector to each position."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], initializer="random_normal")

    def call(self, x):
        return x + self.table


def trained(model, x, y, batch_size=64):
    """One short epoch: at initial weights the spectrum is another one, and easier."""
    model.compile("adam", loss())
    model.fit(x, y, batch_size=batch_size, verbose=0)
    return model


def torch_mlp():
    stack, width = [], 784
    for _ in range(5):
        stack += [nn.Linear(width, 512), nn.ReLU()]
        width = 512
    return nn.Sequential(*stack, nn.Linear(512, 10))


def torch_cnn():
    stack = []
    for channels, filters in ((1, 32), (32, 64)):
        stack += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*stack, FlattenAsKeras(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10))


def torch_transformer():
    return Transformer()


def torch_resnet():
    stack, channels = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()], 16
    for filters, first_stride in ((16, 1), (32, 2), (64, 2)):
        for block in range(3):
            stack.append(ResidualBlock(channels, filters, first_stride if block == 0 else 1))
            channels = filters
    return nn.Sequential(*stack, GlobalAverage(), nn.Linear(64, 10))


class FlattenAsKeras(Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


class GlobalAverage(Module):
    """Not `AdaptiveAvgPool2d`, which curvlinops has to run vector by vector."""

    def forward(self, x):
        return x.mean((2, 3))


class ResidualBlock(Module):
    def __init__(self, channels, filters, stride):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.Conv2d(filters, filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
        )
        self.stride, self.missing = stride, filters - channels

    def forward(self, x):
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.missing:
            shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, 0, self.missing))
        return nn.functional.relu(shortcut + self.branch(x))


class Attention(Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.mask = torch.full((LENGTH, LENGTH), -torch.inf).triu(1)

    def forward(self, x):
        q, k, v = (
            part(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + self.mask).softmax(-1)
        return self.output((weights @ v).transpose(1, 2).flatten(2))


class TransformerLayer(Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(WIDTH, eps=1e-3), Attention())
        self.dense = nn.Sequential(
            nn.LayerNorm(WIDTH, eps=1e-3), nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x):
        x = x + self.attention(x)
        return x + self.dense(x)


class Transformer(Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(TOKENS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.stack = nn.Sequential(
            TransformerLayer(),
            TransformerLayer(),
            nn.LayerNorm(WIDTH, eps=1e-3),
            nn.Linear(WIDTH, TOKENS),
        )

    def forward(self, x):
        return self.stack(self.tokens(x) + self.positions.weight).flatten(0, 1)


def to_torch(arrays, net):
    """Arrays in the layout of Keras' trainable weights, in that of the parameters of `net`."""
    owners = [(m, p) for m in net.modules() for p in m.parameters(recurse=False)]
    tensors = []
    for array, (module, parameter) in zip(arrays, owners, strict=True):
        if array.ndim == 4:  # height, width, in, out
            array = array.transpose(3, 2, 0, 1)
        elif (
            isinstance(module, nn.Linear) and parameter.ndim == 2
        ):  # in, out; attention has heads in one of them
            array = array.reshape(tuple(parameter.shape)[::-1]).T
        tensors.append(torch.from_numpy(np.ascontiguousarray(array)).reshape(parameter.shape))
    return tensors


def ported(case):
    """The torch twin with the weights and statistics of the model."""
    net = case.twin().eval()
    statistics = [v for v in case.model.non_trainable_variables if v.dtype == "float32"]
    buffers = [b for b in net.buffers() if b.ndim]
    with torch.no_grad():
        for new, p in zip(
            to_torch([v.numpy() for v in case.model.trainable_variables], net), net.parameters(), strict=True
        ):
            p.copy_(new)
        for v, b in zip(statistics, buffers, strict=True):
            b.copy_(torch.from_numpy(v.numpy()))
    return net


# ---------------------------------------------------------------- measuring


@dataclasses.dataclass
class Row:
    """A line of the table. `value` is None where it was not measured, and `note` says why."""

    what: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def of_bar(self):
        bar = BARS[self.what]
        return self.value / bar if bar else np.inf if self.value else 0.0

    def __str__(self):
        if self.value is None:
            return f"  {self.what:<38} NOT MEASURED: {self.note}"
        value = f"{self.value:.3g}" if self.low is None else f"{self.value:.3f}"
        between = "" if self.low is None else f"({self.low:.3f} to {self.high:.3f})"
        return f"  {self.what:<38} {value:>8} {between:<18} {BARS[self.what]:>6g} {self.of_bar:>7.2f}   {self.note}".rstrip()


HEADER = (
    f"  {'':<38} {'median':>8} {'95 % interval':<18} {'bar':>6} {'of bar':>7}   CPU time of both, or remark"
)


def compare(what, one, other, pairs, vectors=1, note=""):
    """Time `one`, which multiplies so many vectors, against `other`, after a call of each to warm up."""
    one(), other()
    times = []
    for i in range(pairs):
        order = (one, other) if i % 2 else (other, one)
        pair = [cpu_seconds(function) for function in order]
        times.append(pair if i % 2 else pair[::-1])
    above, below = np.transpose(times)
    above = above / vectors
    ratios = np.sort(above / below)
    clock = f"{1e3 * np.median(above):.1f} / {1e3 * np.median(below):.1f} ms"
    return Row(what, np.median(ratios), *interval(ratios), f"{clock}{note}")


def gradient_of(case):
    """A function without arguments that computes the plain gradient."""
    mean_loss, variables = loss(), case.model.trainable_variables

    @tf.function
    def gradient(x, y):
        with tf.GradientTape() as tape:
            value = mean_loss(y, case.model(x, training=False))
        return tape.gradient(value, variables)

    return functools.partial(gradient, tf.constant(case.x), tf.constant(case.y))


def gradients(case, operator, v, block, pairs):
    """The rows which are in units of our own gradient."""
    gradient = gradient_of(case)
    yield compare(PRODUCT, lambda: operator.matvec(v), gradient, pairs)
    yield compare(BLOCK_PRODUCT, lambda: operator.matmat(block), gradient, pairs, BLOCK)
    gauss_newton = getattr(lb.curvature, "GaussNewtonOperator", None)
    if gauss_newton is None:
        yield Row(GAUSS_NEWTON, note="tf_lbgap.curvature has no GaussNewtonOperator")
    else:
        other = gauss_newton(case.model, loss(), (case.x, case.y))
        yield compare(GAUSS_NEWTON, lambda: other.matvec(v), gradient, pairs)


def peer_product(peer, net, x, y, parts):
    """A function without arguments: the product of `peer` with the vector cut into `parts`, in its own form."""
    criterion, flat = nn.CrossEntropyLoss(), torch.cat([part.reshape(-1) for part in parts])
    if peer == "PyHessian":
        pyhessian = importlib.import_module("pyhessian")
        utils = importlib.import_module("pyhessian.utils")
        kept = pyhessian.hessian(net, criterion, data=(x, y), cuda=False)
        net.zero_grad()
        return lambda: utils.hessian_vector_product(kept.gradsH, kept.params, parts)
    if peer == "hessian-eigenthings":
        eigenthings = importlib.import_module("hessian_eigenthings")
        mean_loss = eigenthings.supervised_loss(criterion)
        operator = eigenthings.HessianOperator(net, [(x, y)], mean_loss)
        return lambda: operator.matvec(flat)
    curvlinops = importlib.import_module("curvlinops")
    parameters = list(net.parameters())
    operator = curvlinops.HessianLinearOperator(
        net, criterion, parameters, [(x, y)], check_deterministic=False
    )
    return lambda: operator @ flat


def peers(case, operator, v, block, pairs):
    """The rows against the torch libraries, each with the distance of its product from ours."""
    ours = {
        "PyHessian": ("block, per vector / PyHessian", lambda: operator.matmat(block), BLOCK),
        "hessian-eigenthings": ("product / hessian-eigenthings", lambda: operator.matvec(v), 1),
        "curvlinops": ("product / curvlinops", lambda: operator.matvec(v), 1),
    }
    for peer in PEERS:
        what, product, vectors = ours[peer]
        try:
            if torch is None:
                raise ImportError("torch is not installed")
            net = ported(case)
            x = np.moveaxis(case.x, -1, 1) if case.x.ndim == 4 else case.x
            x, y = torch.tensor(x), torch.tensor(case.y.reshape(-1), dtype=torch.int64)
            theirs = peer_product(peer, net, x, y, to_torch(cut(case.model, v), net))
        except ImportError as error:
            yield Row(what, note=str(error))
            continue
        expected = torch.cat([t.reshape(-1) for t in to_torch(cut(case.model, operator.matvec(v)), net)])
        product_of_peer = theirs()
        if not torch.is_tensor(product_of_peer):
            product_of_peer = torch.cat([t.reshape(-1) for t in product_of_peer])
        distance = float((product_of_peer.detach() - expected).norm() / expected.norm())
        note = f", differs by {distance:.0e}" + " (NOT THE SAME PRODUCT)" * (distance > SAME)
        yield compare(what, product, theirs, pairs, vectors, note=note)


def cut(model, v):
    """A flat vector as arrays of the shapes of the trainable weights."""
    shapes = [variable.shape for variable in model.trainable_variables]
    parts = np.split(v, np.cumsum([np.prod(shape, dtype=int) for shape in shapes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


class Remembering:
    """An operator that computes no product twice: equal seeds ask for equal ones."""

    def __init__(self, operator):
        self._operator, self._products = operator, {}
        self.shape, self.dtype = operator.shape, operator.dtype

    def matvec(self, v):
        key = v.tobytes()
        if key not in self._products:
            self._products[key] = self._operator.matvec(v)
        return self._products[key]


def eigenvalues(case):
    """The rows on products and true errors of the largest eigenvalues."""
    data = case.x[: case.spectrum], case.y[: case.spectrum]
    operator = lb.curvature.HessianOperator(case.model, loss(), data)
    top = lb.curvature.top_eigenpairs
    truth = quietly(top, operator, 8, tolerance=1e-7, max_products=200, seed=1).values[:5]
    operator = Remembering(operator)
    for k in (1, 5):
        pairs = top(operator, k)
        for needed in range(k, pairs.num_products + 1):
            sooner = quietly(top, operator, k, max_products=needed)
            if relative_error(sooner.values, truth) <= ERROR:
                break
        note = f"n={case.spectrum} ({needed} would do)"
        yield Row(f"products for top-{k}", pairs.num_products, note=note)
        values = " ".join(f"{value:.5g}" for value in truth[:k])
        yield Row(f"true error of top-{k}", relative_error(pairs.values, truth), note=values)


def relative_error(values, truth):
    truth = truth[: len(values)]
    return float(np.max(np.abs(values - truth) / np.abs(truth)))


def quietly(function, *args, **kwargs):
    """Without the warning that it did not converge: that is intended here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function(*args, **kwargs)


def retraces(case, v):
    """How often the product is traced again while weights and batch sizes change, seen from the loss."""
    calls, mean_loss = [], loss()

    def counting(y_true, y_pred):
        calls.append(1)
        return mean_loss(y_true, y_pred)

    operator = lb.curvature.HessianOperator(case.model, counting, (case.x[: SIZES[0]], case.y[: SIZES[0]]))
    operator.matvec(v)
    per_trace, weights = len(calls), case.model.get_weights()
    for i in range(1, UPDATES + 1):
        case.model.set_weights([(1 - 1e-3 * i) * w for w in weights])
        size = SIZES[i % len(SIZES)]
        operator.batches = (case.x[:size], case.y[:size])
        operator.matvec(v)
    case.model.set_weights(weights)
    return Row(RETRACES, math.ceil(len(calls) / per_trace) - 1)


def measure(case, pairs, with_peers):
    """Yield the rows of one model."""
    operator = lb.curvature.HessianOperator(case.model, loss(), (case.x, case.y))
    rng = np.random.default_rng(0)
    block = rng.standard_normal((operator.shape[0], BLOCK), "float32")
    v = np.ascontiguousarray(block[:, 0])
    yield from gradients(case, operator, v, block, pairs)
    if with_peers:
        yield from peers(case, operator, v, block, pairs)
    else:
        yield from (Row(what, note="--no-peers") for what in BARS if what.endswith(PEERS))
    if case.spectrum:
        yield from eigenvalues(case)
    yield retraces(case, v)


def matrix_products(n=2048, repeats=5):
    """GFLOP/s of each library's product of two (n, n) matrices."""
    a = np.random.default_rng(0).standard_normal((n, n), "float32")
    functions = {"TensorFlow": functools.partial(tf.matmul, tf.constant(a), tf.constant(a))}
    if torch:
        functions["torch"] = functools.partial(torch.matmul, torch.tensor(a), torch.tensor(a))
    for name, function in functions.items():
        function()
        seconds = np.median([cpu_seconds(function) for _ in range(repeats)])
        yield f"{name} {2e-9 * n**3 / seconds:.0f}"


def use_one_core():
    if hasattr(os, "sched_setaffinity"):  # threads that start later inherit it
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if torch:
        torch.set_num_threads(1)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--only", choices=list(CASES))
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    use_one_core()
    warnings.filterwarnings("ignore", module=r"torch\.")  # of graphs kept, and of GPUs not found

    print(f"GFLOP/s of a matrix product: {', '.join(matrix_products())}\n", flush=True)
    results = []
    for name in [options.only] if options.only else CASES:
        keras.utils.set_random_seed(0)
        case = Case(name, *CASES[name]())
        rows = list(measure(case, options.pairs, not options.no_peers))
        print(f"{name}: {case.model.count_params():,} weights, batch of {len(case.x)}\n{HEADER}")
        print(*rows, "", sep="\n", flush=True)
        results += [(name, row) for row in rows]
    missing = [f"{name}, {row.what}" for name, row in results if row.value is None]
    if missing:
        print(f"INCOMPLETE, {len(missing)} not measured: {'; '.join(missing)}")
    name, worst = max((r for r in results if r[1].value is not None), key=lambda r: r[1].of_bar)
    print(f"worst: {worst.of_bar:.2f} of its bar ({name}, {worst.what})")


if __name__ == "__main__":
    main()
