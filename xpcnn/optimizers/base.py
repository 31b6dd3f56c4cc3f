"""What all optimisers share: storing moments, splitting flat arrays into blocks, clipping and counting updates.

On the host, an update works block by block, with scratch arrays that stay in the cache; on a device, each segment is
one block.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from xpcnn import schedules
from xpcnn.backend import Array, ArrayModule, is_host, to_host
from xpcnn.optimizers.loss_scale import LossScale
from xpcnn.parameters import Segment
from xpcnn.precision import precision_of
from xpcnn.registry import Named, Number, check_float
from xpcnn.schedules import Schedule

#: Elements per block on the host: five float32 arrays of this size fit into a 2 MB cache.
BLOCK = 65_536
#: The number of updates after which moments below about 1e-31 are set to 0, before they become slow subnormals.
FLUSH_EVERY = 128

#: Attributes whose change leaves captured updates valid.
_NO_OPTIONS = ("learning_rate", "step", "skipped", "moments", "loss_scale", "owner")

Moments = dict[str, Array]
#: The values that change with every update: numbers or, on a device, a flat array of them.
Scalars: TypeAlias = Sequence[Array | float]


class Optimizer(Named):
    """Base class of optimisers. A subclass names its moments and implements ``_update`` for one block.

    learning_rate: a number of at least 0, or a schedule; clip_norm: the maximum Euclidean norm of the gradient, which
    is scaled down if it is larger, or None.
    """

    #: The arrays, each as long as the parameters, that the optimiser keeps from update to update.
    moment_names: tuple[str, ...] = ()
    #: How often an attribute other than the learning rate and the state was set, which invalidates captured updates.
    changes = 0

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if not name.startswith("_") and name not in _NO_OPTIONS:
            super().__setattr__("changes", self.changes + 1)

    def __init__(self, learning_rate: float | Schedule, clip_norm: float | None = None) -> None:
        self.learning_rate: float | Schedule = (
            check_float("learning_rate", learning_rate, "[0, inf)")
            if isinstance(learning_rate, Number)
            else schedules.get(learning_rate)
        )
        self.clip_norm = None if clip_norm is None else check_float("clip_norm", clip_norm, "(0, inf)")
        #: Steps done so far, including those skipped because their gradient overflowed float16.
        self.step = 0
        #: The number of skipped steps, as last read by :meth:`note_skipped`.
        self.skipped = 0
        #: In float16, from :meth:`build` on.
        self.loss_scale: LossScale | None = None
        self.moments: Moments = {}
        #: The model that compiled it, if it still exists.
        self.owner: weakref.ref[Any] | None = None
        self._xp: ArrayModule | None = None
        self._scratch: dict[int, Array] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickle and copy: all but the model, the array module and scratch arrays."""
        moments = {name: np.array(to_host(moment)) for name, moment in self.moments.items()}
        scale = None if self.loss_scale is None else LossScale(np, **self.loss_scale.numbers())
        return {
            **self.__dict__,
            "moments": moments,
            "loss_scale": scale,
            "owner": None,
            "_xp": None,
            "_scratch": {},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state, with copies of moments, which joblib hands to other processes in read-only memory."""
        self.__dict__ |= state | {"moments": {name: np.array(moment) for name, moment in state["moments"].items()}}

    @property
    def rate(self) -> float:
        """The learning rate of the next update."""
        return self.rate_at(self.step)

    def rate_at(self, step: int) -> float:
        """Return the learning rate of the update after ``step`` others."""
        rate = self.learning_rate
        return float(rate(step) if isinstance(rate, Schedule) else rate)

    def build(self, xp: ArrayModule, parameters: Array) -> None:
        """Create the state for flat parameters, an array of ``xp``; an existing state is kept if it fits.

        Raises ValueError if a state was loaded for another number of parameters.
        """
        fits = all(name in self.moments and self.moments[name].shape == parameters.shape for name in self.moment_names)
        if not fits:
            if self._xp is None and self.moments:
                raise ValueError(
                    f"The state loaded into {self.name} does not belong to this model. Received: moments of shape "
                    f"{next(iter(self.moments.values())).shape}, for parameters of shape {parameters.shape}."
                )
            self.moments = {name: np.zeros(parameters.shape) for name in self.moment_names}
            self.step, self.skipped, self.loss_scale = 0, 0, None
        self.moments = {name: m.astype(parameters.dtype, copy=False) for name, m in self.moments.items()}
        self._xp = xp
        self.to(xp)

    def to(self, xp: ArrayModule) -> None:
        """Move the state to ``xp``; does nothing before :meth:`build`."""
        if self._xp is not None:
            self.moments = {name: xp.asarray(to_host(moment)) for name, moment in self.moments.items()}
            self._xp = xp
            self._scratch = {}
            self.note_skipped()
            numbers = {"skipped": self.skipped} if self.loss_scale is None else self.loss_scale.numbers()
            self.loss_scale = LossScale(xp, **numbers) if precision_of(xp) == "float16" else None

    def note_skipped(self) -> None:
        """Read back how many steps were skipped; waits for the device in float16."""
        if self.loss_scale is not None:
            self.skipped = self.loss_scale.numbers()["skipped"]

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return copies on the host: the moments by name, and "step", the number of steps so far (0-d, int64).

        If any were skipped, "skipped" is their number, and in float16 "scale" and "finite_steps" are the loss scale's.
        """
        moments = {name: np.array(to_host(moment)) for name, moment in self.moments.items()}
        self.note_skipped()
        numbers = {"skipped": self.skipped} if self.skipped else {}
        if self.loss_scale is not None:
            numbers = self.loss_scale.numbers()
        return {"step": np.array(self.step, dtype=np.int64), **moments} | {n: np.array(v) for n, v in numbers.items()}

    def load_state(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Restore a state returned by :meth:`state`, before or after :meth:`build`.

        Raises ValueError, leaving the optimiser unchanged, if the names, shapes or values do not fit this optimiser or,
        once it is built, its parameters.
        """
        arrays = {name: np.asarray(array) for name, array in state.items()}
        numbers = {name: arrays.pop(name).item() for name in ("scale", "finite_steps", "skipped") if name in arrays}
        scale = LossScale(np, **numbers)
        if arrays.keys() != {"step", *self.moment_names}:
            raise ValueError(
                f"The state of {self.name} must contain step{''.join(f', {m}' for m in self.moment_names)}. "
                f"Received: {', '.join(map(str, arrays)) or 'nothing'}."
            )
        step = arrays.pop("step")
        if step.shape != () or step.dtype.kind not in "iu" or step < 0:
            raise ValueError(f"The state's step must be a single integer of at least 0. Received: {step!r:.80}.")
        built = {} if self._xp is None else self.moments
        shapes = {array.shape for array in [*arrays.values(), *built.values()]}
        if len(shapes) > 1 or not all(a.dtype.kind == "f" and np.isfinite(a).all() for a in arrays.values()):
            raise ValueError(
                f"The state of {self.name} must contain finite values, as many as the model has parameters. "
                f"Received: {', '.join(f'{name} {a.dtype} {a.shape}' for name, a in arrays.items())}, "
                f"for {', '.join(str(m.shape) for m in built.values()) or 'no parameters yet'}."
            )
        if scale.numbers()["skipped"] > step:
            raise ValueError(f"The state's step must be at least skipped. Received: {step}, {numbers}.")
        self.step, self.skipped = int(step), numbers.get("skipped", 0)
        if self._xp is None:
            self.moments = {name: array.copy() for name, array in arrays.items()}
            self.loss_scale = scale if "scale" in numbers else None
        elif self.loss_scale is not None:
            self.loss_scale.load(**numbers)
        for name, moment in built.items():
            moment[...] = self._xp.asarray(arrays[name].astype(moment.dtype))  # type: ignore[union-attr]

    def scalars(self, step: int) -> tuple[float, ...]:
        """Return the values that change with every update, for the one after ``step`` others: the learning rate."""
        return (self.rate_at(step),)

    def corrections(self, updates: int) -> tuple[float, ...]:
        """Return the factors of :meth:`scalars` that depend on the updates made, not on all steps: by default ones."""
        return (1.0,) * len(self.scalars(updates))

    def uncorrected(self, step: int) -> tuple[float, ...]:
        """Return :meth:`scalars` without :meth:`corrections`."""
        pairs = zip(self.scalars(step), self.corrections(step), strict=True)
        return tuple(scalar / correction for scalar, correction in pairs)

    def scalars_at(self, step: int) -> tuple[float, ...]:
        """Return the scalars for the step after ``step`` others, some of which were skipped."""
        if not self.skipped:
            return self.scalars(step)
        pairs = zip(self.uncorrected(step), self.corrections(step - self.skipped), strict=True)
        return tuple(scalar * correction for scalar, correction in pairs)

    def update(self, parameters: Array, gradient: Array, segments: Sequence[Segment | tuple[slice, bool]]) -> None:
        """Update the parameters in place, once.

        parameters, gradient: flat arrays of the module passed to :meth:`build`; the gradient is only read. segments:
        the slices to update, whether weight decay applies to each, and the fraction of the learning rate that it takes
        (1 if not given); elements outside them stay unchanged and do not count towards the gradient's norm. Nothing is
        read back from a device. Raises RuntimeError before :meth:`build`.
        """
        self.apply(parameters, gradient, segments, self.scalars_at(self.step))
        self.step += 1
        if self.step % FLUSH_EVERY == 0 and is_host(self._xp):  # devices are just as fast with subnormal numbers
            for moment in self.moments.values():
                # Rounds to multiples of about 1e-31; if gradients stay 0, moments would otherwise never reach 0.
                moment += 1e-24
                moment -= 1e-24

    def skip(self) -> None:
        """Count a step that changes nothing, since its gradient is not finite in float16."""
        self.step += 1
        self.skipped += 1

    def apply(
        self, parameters: Array, gradient: Array, segments: Sequence[Segment | tuple[slice, bool]], scalars: Scalars
    ) -> None:
        """Do the array work of :meth:`update` with these :meth:`scalars`, possibly on a device, without counting it."""
        if self._xp is None:
            raise RuntimeError("The optimizer has no state yet; call build(xp, parameters) first.")
        xp = self._xp
        blocks = list(self._blocks(segments))
        scale = None if self.clip_norm is None else self._clip_scale(xp, gradient, blocks)
        for block, decays, rate in blocks:
            p, g = parameters[block], gradient[block]
            if scale is not None:
                g = xp.multiply(g, scale, out=self._temporary(0, g))
            moments = {name: moment[block] for name, moment in self.moments.items()}
            before = None if rate == 1 else p.copy()
            self._update(xp, p, g, moments, scalars, decays)
            if before is not None:  # any rule's step is proportional to its rate, so a part of it is a part of the rate
                p -= before
                p *= rate
                p += before

    def _update(self, xp: ArrayModule, p: Array, g: Array, moments: Moments, scalars: Scalars, decay: bool) -> None:
        """Update one block ``p`` in place from its gradient ``g``, which is only read, and its moments."""
        raise NotImplementedError

    def _blocks(self, segments: Sequence[Segment | tuple[slice, bool]]) -> Iterator[Segment]:
        for segment in segments:
            span, decays, rate = Segment(*segment)
            size = BLOCK if is_host(self._xp) else max(span.stop - span.start, 1)
            for start in range(span.start, span.stop, size):
                yield Segment(slice(start, min(start + size, span.stop)), decays, rate)

    def _clip_scale(self, xp: ArrayModule, gradient: Array, blocks: Sequence[Segment]) -> Array:
        """Return the factor for the gradient: clip_norm / (norm + 1e-6), at most 1, as in PyTorch.

        Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013.
        """
        # Sums of squares block by block: the result of a BLAS dot would depend on its number of threads.
        squares = [
            xp.multiply(g, g, out=self._temporary(0, g)).sum() for g in (gradient[block.span] for block in blocks)
        ]
        return xp.minimum(self.clip_norm / (xp.sqrt(sum(squares)) + 1e-6), 1.0)

    def _temporary(self, index: int, like: Array) -> Array:
        """Return a scratch array like ``like``, reused on the host per index; index 0 is for the clipped gradient."""
        if not is_host(self._xp):
            return self._xp.empty(like.shape, like.dtype)  # type: ignore[union-attr]
        kept = self._scratch.get(index)
        if kept is None or kept.size < like.size or kept.dtype != like.dtype:
            kept = self._scratch[index] = like.copy()
        return kept[: like.size]
