"""The optimisers' update rules."""

from __future__ import annotations

import math

from xpcnn.backend import Array, ArrayModule
from xpcnn.ops.adam import adam, step
from xpcnn.optimizers.base import Moments, Optimizer, Scalars
from xpcnn.registry import check_float
from xpcnn.schedules import Schedule


class SGD(Optimizer):
    """Stochastic gradient descent: v = momentum v + g, p -= rate v; with Nesterov: p -= rate (g + momentum v).

    Sutskever et al., "On the importance of initialization and momentum", ICML 2013, in PyTorch's form.
    weight_decay: d adds d p to the gradient. Raises ValueError for nesterov without momentum.
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm)
        self.momentum = check_float("momentum", momentum, "[0, 1)")
        self.nesterov = bool(nesterov)
        self.weight_decay = check_float("weight_decay", weight_decay, "[0, inf)")
        if self.nesterov and not self.momentum:
            raise ValueError(f"nesterov needs a momentum above 0. Received: momentum={momentum!r}.")
        self.moment_names = ("velocity",) if self.momentum else ()

    def _update(self, xp: ArrayModule, p: Array, g: Array, moments: Moments, scalars: Scalars, decay: bool) -> None:
        if decay and self.weight_decay:
            decayed = xp.multiply(p, self.weight_decay, out=self._temporary(1, p))
            g = xp.add(decayed, g, out=decayed)
        step, (rate,) = self._temporary(2, p), scalars
        if self.momentum:
            velocity = moments["velocity"]
            velocity *= self.momentum
            velocity += g
            if self.nesterov:
                xp.multiply(velocity, self.momentum, out=step)
                g = xp.add(step, g, out=step)
            else:
                g = velocity
        xp.multiply(g, rate, out=step)
        p -= step


class RMSprop(Optimizer):
    """v = decay v + (1 - decay) g^2, p -= rate g / (sqrt(v) + epsilon).

    Tieleman and Hinton, "Lecture 6.5: rmsprop", 2012. The moment "square" is stored as v / (1 - decay), which saves a
    pass.
    """

    moment_names = ("square",)

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        decay: float = 0.99,
        epsilon: float = 1e-8,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm)
        self.decay = check_float("decay", decay, "[0, 1)")
        self.epsilon = check_float("epsilon", epsilon, "(0, inf)")

    def _update(self, xp: ArrayModule, p: Array, g: Array, moments: Moments, scalars: Scalars, decay: bool) -> None:
        square, scratch, (rate,) = moments["square"], self._temporary(1, p), scalars
        xp.multiply(g, g, out=scratch)
        square *= self.decay
        square += scratch
        step(xp, p, g, square, rate, self.epsilon / math.sqrt(1 - self.decay), scratch)

    def scalars(self, step: int) -> tuple[float, ...]:
        """Return the rate, adjusted for the stored moment."""
        return (self.rate_at(step) / math.sqrt(1 - self.decay),)


class Adagrad(Optimizer):
    """v = v + g^2, p -= rate g / (sqrt(v) + epsilon) (Duchi et al., JMLR 12, 2011)."""

    moment_names = ("square",)

    def __init__(
        self, learning_rate: float | Schedule = 0.01, epsilon: float = 1e-10, clip_norm: float | None = None
    ) -> None:
        super().__init__(learning_rate, clip_norm)
        self.epsilon = check_float("epsilon", epsilon, "(0, inf)")

    def _update(self, xp: ArrayModule, p: Array, g: Array, moments: Moments, scalars: Scalars, decay: bool) -> None:
        square, scratch, (rate,) = moments["square"], self._temporary(1, p), scalars
        xp.multiply(g, g, out=scratch)
        square += scratch
        step(xp, p, g, square, rate, self.epsilon, scratch)


class Adam(Optimizer):
    """m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, p -= rate m' / (sqrt(v') + epsilon).

    m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t) (Kingma and Ba, "Adam", ICLR 2015, algorithm 1), regrouped for
    fewer passes: the moments "mean" and "square" are stored as m / (1 - beta1) and v / (1 - beta2), and all corrections
    go into the rate and epsilon, which are multiplied by the square root of the factor missing from v'.

    >>> import numpy as np
    >>> adam, p = Adam(), np.array([1.0], np.float32)
    >>> adam.build(np, p)
    >>> adam.update(p, np.array([0.5], np.float32), [(slice(0, 1), False)])
    >>> p
    array([0.999], dtype=float32)
    """

    moment_names = ("mean", "square")
    weight_decay = 0.0

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm)
        self.beta1 = check_float("beta1", beta1, "[0, 1)")
        self.beta2 = check_float("beta2", beta2, "[0, 1)")
        self.epsilon = check_float("epsilon", epsilon, "(0, inf)")

    def _update(self, xp: ArrayModule, p: Array, g: Array, moments: Moments, scalars: Scalars, decay: bool) -> None:
        mean, square, scratch = moments["mean"], moments["square"], self._temporary(1, p)
        decays = decay and self.weight_decay > 0
        adam(xp, p, g, mean, square, scalars, scratch, beta1=self.beta1, beta2=self.beta2, decays=decays)

    def scalars(self, step: int) -> tuple[float, ...]:
        """Return the rate and epsilon, adjusted for the stored moments, and the weight-decay factor."""
        of_mean, of_square, _ = self.corrections(step)
        rate = self.rate_at(step)
        return rate * of_mean, self.epsilon * of_square, 1.0 - rate * self.weight_decay

    def corrections(self, updates: int) -> tuple[float, ...]:
        """Return the corrections for the moments' beginning at 0."""
        t = updates + 1
        # v' = square * lacks^2 and m' = mean * (1 - beta1) / (1 - beta1^t).
        lacks = math.sqrt((1 - self.beta2) / (1 - self.beta2**t))
        return (1 - self.beta1) / (1 - self.beta1**t) / lacks, 1 / lacks, 1.0


class AdamW(Adam):
    """Adam that first multiplies the weights by 1 - rate weight_decay.

    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, in PyTorch's form.
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, clip_norm)
        self.weight_decay = check_float("weight_decay", weight_decay, "[0, inf)")
