"""The networks of the papers, under the names the papers use.

A network here is a function that returns an un-compiled functional `keras.Model`:

    model = lb.networks.f1(seed=0)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"])

All of them share four habits.

* **They end in logits**, shape (batch, num_classes), with no softmax. The loss must be told: `from_logits=True`.
* **They take floats that are already scaled**, channels last: (batch, height, width, channels), say pixels / 255.
  No rescaling layer hides inside, so a distance measured in input space (an attack's epsilon) is one in the
  units of the data.
* **They hold no weight decay.** It belongs to the optimizer or to the loss of an experiment, where reports and
  curvature measures see it.
* **`seed` fixes the starting point.** Equal seeds give bit-identical initial weights, and equal dropout masks,
  whatever was drawn before; `seed=None` draws from Keras' global seed. (`resnet50` and `inception_resnet_v2`
  come from `keras.applications` and know only the global seed.)

Parameters below are trainable ones, for the default arguments.

    name                  parameters  who used it for what
    mlp                        8,970  digits, seconds on a laptop
    small_cnn                106,122  28x28 grey images, minutes on a laptop
    f1, f2                1.46M 2.78M  Keskar et al. 2017: MNIST, TIMIT
    c1, c3                1.76M 1.78M  Keskar et al. 2017: CIFAR-10, CIFAR-100, AlexNet-like
    c2, c4                15.0M 15.0M  Keskar et al. 2017: CIFAR-10, CIFAR-100, VGG-like
    resnet20 (resnet)        269,722  He et al. 2016: CIFAR-10
    wrn_16_4 (wide_resnet) 2,748,890  Smith et al. 2018: CIFAR-10
    char_mlp                  41,886  characters of a text, minutes on a laptop
    char_lstm                 25,758  the same
    char_transformer          30,526  the same; Merrill et al. 2025 and Seesaw train large ones
    resnet50              25,583,592  Goyal et al. 2017: ImageNet
    inception_resnet_v2   55,813,192  Smith et al. 2018: ImageNet
    transformer              591,360  translations, sentence to sentence, minutes on a laptop

A new network is one function in one of these files, and its name in the import below. A file and a function
in it never share a name.
"""

from tf_lbgap.networks.applications import inception_resnet_v2, resnet50
from tf_lbgap.networks.characters import char_lstm, char_mlp, char_transformer
from tf_lbgap.networks.convolutional import c1, c2, c3, c4, small_cnn
from tf_lbgap.networks.decoding import Greedy
from tf_lbgap.networks.perceptron import f1, f2, mlp
from tf_lbgap.networks.residual import resnet, resnet20, wide_resnet, wrn_16_4
from tf_lbgap.networks.translation import transformer

__all__ = [
    "Greedy",
    "c1",
    "c2",
    "c3",
    "c4",
    "char_lstm",
    "char_mlp",
    "char_transformer",
    "f1",
    "f2",
    "inception_resnet_v2",
    "mlp",
    "resnet",
    "resnet20",
    "resnet50",
    "small_cnn",
    "transformer",
    "wide_resnet",
    "wrn_16_4",
]
