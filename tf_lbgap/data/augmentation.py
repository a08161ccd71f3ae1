"""Augmentation: Keras' random image layers as a `map` of `data.Batches`, the same whenever a seed is the same.

Inside a `tf.data` pipeline Keras' random layers count their calls in a variable. Batches that are made in parallel
then get numbers in the order in which threads come, a rerun gets others, and a `fit` that goes on after a crash
begins to count anew. Here the layers draw from the stateless seed that the stream hands to its `map`, which depends
on (seed, epoch, position in the epoch) alone: each epoch is augmented anew, a rerun and a resumed fit as before.

Only training sees it: `evaluate`, measures and statistics read the stream without `map`.

References:
    Keskar et al., "On large-batch training for deep learning: generalization gap and sharp minima", 2017, appendix E.
"""

import keras
import tensorflow as tf


def keskar(*, rotation=10.0, shift=0.2, flip=True, fill_mode="nearest", image_shape=None):
    """The aggressive augmentation that Keskar et al. tried against the generalization gap.

    Of each image, independently: mirrored left to right with probability 1/2; turned by an angle uniform in
    ±`rotation`; shifted by shares of height and width uniform in ±`shift`. Values between pixels are bilinear.

    Usage: `lb.data.Batches(x, y, batch_size=..., map=lb.data.augmentation.keskar())`, or in a configuration
    `map: {call: data.augmentation.keskar}`.

    Args:
        rotation: Largest angle, in degrees, from 0 to 180; 10 in the paper.
        shift: Largest shift, as a share of the image, from 0 to 1; 0.2 in the paper.
        flip: Whether images are mirrored; not for digits and letters, which mean something else then.
        fill_mode: What comes in at the border, one of Keras' "nearest" (the pixel at the edge), "constant" (0),
            "reflect" and "wrap". The paper does not say; "nearest" was the default of the Keras of its time.
        image_shape: As for `seeded`.

    Returns:
        A function `map(x, *rest, seed)`; see `seeded`.

    Raises:
        ValueError: If a number is out of range.
    """
    for name, value, largest in (("rotation", rotation, 180), ("shift", shift, 1)):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= largest:
            raise ValueError(f"{name}={value!r} should be a number from 0 to {largest}.")
    modes = ("nearest", "constant", "reflect", "wrap")
    if fill_mode not in modes:
        raise ValueError(f"fill_mode={fill_mode!r} should be one of {', '.join(map(repr, modes))}.")
    layers = [keras.layers.RandomFlip("horizontal", dtype="float32")] if flip else []
    if rotation:  # Keras counts whole turns
        layers.append(keras.layers.RandomRotation(rotation / 360, fill_mode=fill_mode, dtype="float32"))
    if shift:
        layers.append(keras.layers.RandomTranslation(shift, shift, fill_mode=fill_mode, dtype="float32"))
    if not layers:
        raise ValueError("With flip=False, rotation=0 and shift=0 nothing is augmented. Leave map out.")
    return seeded(layers, image_shape=image_shape)


def seeded(layers, *, image_shape=None):
    """Make a `map` of Keras' random image layers, which draws from the seed that the stream hands it.

    Args:
        layers: List of Keras' image preprocessing layers, applied one after the other to the images alone; a seed of
            their own has no effect. Compute in float32 (`dtype="float32"`) under mixed precision.
        image_shape: (height, width) or (height, width, channels) of images that come flattened, as those of
            `datasets.digits`, shape (n, 64): they leave flattened again.

    Returns:
        A function `map(x, *rest, seed)` for `Batches`, with x of shape (n, height, width) or (n, height, width,
        channels), or flattened. It returns `(x, *rest)`, x with the shape and the dtype that it had (whole numbers
        are rounded), or x alone if nothing came with it. Elsewhere give `seed`, whole numbers of shape (2,).

    Raises:
        ValueError: If what is in `layers` draws no random transformation, or x is no batch of images.

    Example:
        In a pipeline of your own each batch needs a seed that is not that of another:

        >>> augment = seeded([keras.layers.RandomFlip("horizontal")])
        >>> dataset = tf.data.Dataset.from_tensor_slices((np.zeros((6, 4, 4)), np.arange(6))).batch(3)
        >>> numbered = tf.data.Dataset.zip(tf.data.Dataset.counter(), dataset)
        >>> numbered.map(lambda i, batch: augment(*batch, seed=[0, i])).element_spec[0].shape
        TensorShape([None, 4, 4])
    """
    layers = list(layers) if isinstance(layers, list | tuple) else [layers]
    for layer in layers:
        if not hasattr(layer, "get_random_transformation") or not hasattr(layer, "transform_images"):
            raise ValueError(
                f"layers holds {layer!r}, but should hold Keras' random image layers, such as "
                'keras.layers.RandomFlip("horizontal").'
            )
    if not layers:
        raise ValueError("layers is empty, so nothing would be augmented. Leave map out.")
    shape = None if image_shape is None else _checked_shape(image_shape)

    def augment(x, *rest, seed):
        x = tf.convert_to_tensor(x)
        images = _as_images(x, shape)
        drawn = _Seeds(seed)
        for layer in layers:
            transformation = layer.get_random_transformation(images, training=True, seed=drawn)
            images = layer.transform_images(images, transformation, training=True)
        if x.dtype.is_integer:
            images = tf.clip_by_value(tf.round(images), x.dtype.min, x.dtype.max)
        augmented = tf.ensure_shape(tf.reshape(tf.cast(images, x.dtype), tf.shape(x)), x.shape)
        return (augmented, *rest) if rest else augmented

    return augment


class _Seeds(keras.random.SeedGenerator):
    """Gives each draw of one batch its own seed, without a variable. (Keras takes whole numbers and its own generators.)"""

    def __init__(self, seed):
        self._seed, self._drawn = tf.cast(seed, tf.int64), 0

    def next(self, ordered=True):
        self._drawn += 1
        return tf.random.experimental.stateless_fold_in(self._seed, tf.constant(self._drawn, tf.int64))


def _checked_shape(shape):
    sizes = list(shape) if isinstance(shape, list | tuple) else []
    if len(sizes) not in (2, 3) or not all(isinstance(s, int) and s > 0 for s in sizes):
        raise ValueError(
            f"image_shape={shape!r} should be (height, width) or (height, width, channels), such as (8, 8)."
        )
    return sizes if len(sizes) == 3 else [*sizes, 1]


def _as_images(x, shape):
    """Return x with shape (n, height, width, channels)."""
    if shape is not None:
        if x.shape.rank != 2 or x.shape[1] != shape[0] * shape[1] * shape[2]:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, which are no flattened images of shape {tuple(shape)}: those have "
                f"shape (n, {shape[0] * shape[1] * shape[2]}). Leave image_shape out if they are not flattened."
            )
        return tf.reshape(x, [-1, *shape])
    if x.shape.rank not in (3, 4):
        raise ValueError(
            f"x has shape {tuple(x.shape)}, but images have shape (n, height, width) or (n, height, width, channels). "
            "For flattened ones pass image_shape=(height, width)."
        )
    return x[..., None] if x.shape.rank == 3 else x
