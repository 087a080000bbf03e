"""A conditional GAN that renders the blanked middle of a cube (Isola et al. 2017; Mirsky et al. 2019).

Only `keras`: TensorFlow, JAX or PyTorch trains it. Two compiled models that share the generator's weights are trained
in turn, as a train step of one's own would have to be written for each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers

from pacs_guard.simulate.cube import CUBE_MM

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHAPE = (CUBE_MM, CUBE_MM, CUBE_MM, 1)
_DOWN = (1, 2, 4, 8, 8)
_CRITIC_DOWN = (1, 2, 4)
_KERNEL = 4
_LAST_KERNEL = 3
_GROUPS = 4
_SLOPE = 0.2
_L1_WEIGHT = 100.0
_LEARNING_RATE = 2e-4
_BETA_1 = 0.5


@dataclass(slots=True, eq=False)
class Gan:
    """Generator, critic, and the two of them in a row.

    Attributes
    ----------
    generator : keras.Model
        Blanked cubes, shape (cubes, 32, 32, 32, 1), to whole cubes.
    critic : keras.Model
        Cubes and the blanked ones that they belong to, to how real each patch of them looks, 1 or 0.
    chain : keras.Model
        Blanked cubes to the critic's opinion of what the generator makes of them, and to that.
    """

    generator: Any
    critic: Any
    chain: Any

    def train(self, real: NDArray[np.float32], blanked: NDArray[np.float32]) -> tuple[float, float]:
        """Train critic, then generator, on one batch; return the critic's loss and the mean absolute error."""
        made = keras.ops.convert_to_numpy(self.generator.predict_on_batch(blanked))
        patches = (len(real), *self.critic.output_shape[1:])
        true, false = np.ones(patches, np.float32), np.zeros(patches, np.float32)
        both = (np.concatenate([real, made]), np.concatenate([blanked, blanked]))
        # which weights move is read off this flag at each step, or at the first one, depending on the back end
        self.critic.trainable = True
        doubt = self.critic.train_on_batch(both, np.concatenate([true, false]))
        self.critic.trainable = False
        _, _, error = self.chain.train_on_batch(blanked, [true, real])
        return float(np.ravel(doubt)[0]), float(error)

    def variables(self) -> list[Any]:
        """Return every variable of networks and optimisers, the generator's first, in the same order each time."""
        self.critic.trainable = True
        networks = [*self.generator.variables, *self.critic.variables]
        return [*networks, *self.critic.optimizer.variables, *self.chain.optimizer.variables]

    def values(self) -> list[NDArray[Any]]:
        """Return what `variables` hold."""
        return [np.asarray(keras.ops.convert_to_numpy(one)) for one in self.variables()]


def build_gan(width: int, seed: int) -> Gan:
    """Build and compile a GAN with fresh weights.

    Parameters
    ----------
    width : int
        Channels of the first layer, a multiple of 4; the paper's is 100, with 200, 400, 800 and 800 further down.
    seed : int
        Of the weights.

    Raises
    ------
    ValueError
        If `width` is no positive multiple of 4.
    """
    if width < _GROUPS or width % _GROUPS:
        raise ValueError(f"width is {width}; expected a positive multiple of {_GROUPS}")
    keras.utils.set_random_seed(seed)
    generator, critic = build_generator(width), _build_critic(width)
    critic.compile(optimizer=_optimiser(), loss="mse")
    critic.optimizer.build(critic.trainable_variables)
    critic.trainable = False
    blanked = keras.Input(_SHAPE)
    made = generator(blanked)
    chain = keras.Model(blanked, [critic([made, blanked]), made])
    chain.compile(optimizer=_optimiser(), loss=["mse", "mae"], loss_weights=[1.0, _L1_WEIGHT])
    chain.optimizer.build(generator.trainable_variables)
    return Gan(generator, critic, chain)


def build_generator(width: int) -> Any:
    """Return a U-Net: five halvings of the cube to one voxel and back, with shortcuts, also from the input."""
    blanked = keras.Input(_SHAPE)
    x, shortcuts = blanked, []
    for level, times in enumerate(_DOWN):
        x = _halved(x, width * times, normalised=level > 0)
        shortcuts.append(x)
    for times, shortcut in zip(_DOWN[-2::-1], shortcuts[-2::-1], strict=True):
        # an eighth of the work of doubling first and convolving then, as the paper's does
        x = layers.Conv3DTranspose(width * times, _KERNEL, strides=2, padding="same")(x)
        x = layers.GroupNormalization(_GROUPS)(x)
        x = layers.Concatenate()([layers.ReLU()(x), shortcut])
    x = layers.Conv3DTranspose(width, _KERNEL, strides=2, padding="same")(x)
    # the surroundings are given, and a last convolution evens out the doubling's pattern
    x = layers.Concatenate()([layers.ReLU()(x), blanked])
    return keras.Model(blanked, layers.Conv3D(1, _LAST_KERNEL, padding="same", activation="tanh")(x))


def _build_critic(width: int) -> Any:
    cube, blanked = keras.Input(_SHAPE), keras.Input(_SHAPE)
    x = layers.Concatenate()([cube, blanked])
    for level, times in enumerate(_CRITIC_DOWN):
        x = _halved(x, width * times, normalised=level > 0)
    return keras.Model([cube, blanked], layers.Conv3D(1, _KERNEL, padding="same")(x))


def _halved(x: Any, channels: int, *, normalised: bool) -> Any:
    x = layers.Conv3D(channels, _KERNEL, strides=2, padding="same")(x)
    x = layers.LeakyReLU(_SLOPE)(x)
    return layers.GroupNormalization(_GROUPS)(x) if normalised else x


def _optimiser() -> Any:
    return keras.optimizers.Adam(_LEARNING_RATE, beta_1=_BETA_1)
