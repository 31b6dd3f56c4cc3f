"""The Sequential model: compile, fit, evaluate, predict, summary and save."""

from __future__ import annotations

import copy
import math
import reprlib
import warnings
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from xpcnn import calibration, files, losses, optimizers, random
from xpcnn import metrics as metrics_
from xpcnn.backend import Array, ArrayModule, for_run, host_array, is_host, request_of, to_host
from xpcnn.communicator import ALONE, Communicator
from xpcnn.data import Normalized, Preprocessing
from xpcnn.data.augmentation import Augmentation
from xpcnn.layers import Context, Layer
from xpcnn.layers.configs import from_plain, kinds, to_plain
from xpcnn.losses import Loss
from xpcnn.metrics import Metric
from xpcnn.model import file, inputs, prediction, training_data
from xpcnn.model.objective import Objective
from xpcnn.model.state import ModelState, check_names, check_thresholds
from xpcnn.model.summary import layer_list, summary_table
from xpcnn.ops.workspace import Workspace
from xpcnn.optimizers import Optimizer
from xpcnn.optimizers.loss_scale import LossScale
from xpcnn.parameters import Shape
from xpcnn.precision import in_precision, precision_of, resolve
from xpcnn.program.execute import Executor, activations
from xpcnn.program.network import Network
from xpcnn.program.program import walk
from xpcnn.program.threads import check_shards, check_threads
from xpcnn.registry import check_float, check_int
from xpcnn.training import checkpoints, evaluation, loop
from xpcnn.training.callbacks import Callback
from xpcnn.training.engine.base import Work
from xpcnn.training.engine.host import ShardedTraining
from xpcnn.training.fit import Fit
from xpcnn.training.history import History
from xpcnn.training.task import Task

HostArray = np.ndarray[Any, Any]


class Sequential:
    """A linear stack of layers.

    layers: in order; :meth:`add` appends more. input_shape: (channels, height, width) of one image. xp: an array
    module, "numpy", "numba", "cupy", "auto" or None (the value of ``XPCNN_BACKEND``). seed: determines the initial
    weights. Arrays are (batch, channels, height, width), float32 internally. The model file also stores
    ``class_names``, ``preprocessing``, ``temperature``, set by :meth:`calibrate`, ``digests``, uint8 (n, 8), of the
    training images, and ``thresholds``, a probability for each output above which an image has that label, of a model
    that gives an image several labels, or none; None for one that gives a class.

    Raises ValueError for a stack that cannot be built, naming the layer, BackendError for an unavailable backend.

    >>> from xpcnn import layers
    >>> model = Sequential([layers.Flatten(), layers.Dense(3, activation="softmax")], input_shape=(1, 4, 4))
    >>> model.predict(np.zeros((2, 1, 4, 4))).shape
    (2, 3)
    """

    def __init__(
        self,
        layers: Sequence[Layer] = (),
        input_shape: Shape | None = None,
        xp: ArrayModule | str | None = None,
        seed: int = 0,
    ) -> None:
        self._layers = [_checked_layer(layer) for layer in layers]
        self.input_shape = None if input_shape is None else _checked_shape(input_shape)
        if self.input_shape is not None:
            _warn_of_channels_last(self.input_shape)
        self.seed = random.check_seed(seed)
        given = (one._xp for one in self._layers if one._xp is not None)
        self._xp = resolve(xp if xp is not None else next(given, None))
        self._precision: str | None = None  # as given to compile
        self.class_names: tuple[str, ...] | None = None
        self.preprocessing: Preprocessing | None = None
        self.temperature = 1.0
        self.thresholds: tuple[float, ...] | None = None
        self.digests: HostArray | None = None
        self._warned = False
        self.optimizer: Optimizer | None = None
        self.loss: Loss | None = None
        self.metrics: list[Metric] = []
        self.epochs = 0
        self._network: Network | None = None
        if self._layers and self.input_shape is not None:
            _ = self.network  # an invalid stack is rejected here, not at first use

    def add(self, layer: Layer) -> None:
        """Append a layer and keep the weights of the others. An invalid layer is rejected, and the model unchanged."""
        if self._network is not None:
            stack = [*self._layers, _checked_layer(layer)]
            grown = Network(stack, self._network.input_shape, self._xp, self.seed, owner=self)
            grown.set_values(grown.host_values() | self._network.host_values())
            self._network = grown
        self._layers.append(_checked_layer(layer))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in order; :meth:`add` appends one."""
        return tuple(self._layers)

    @property
    def network(self) -> Network:
        """The built network; it is built on first use."""
        return self._network if self._network is not None else self.build()

    def build(self, values: Mapping[str, HostArray] | None = None) -> Network:
        """Rebuild the network with the given values of all parameters and buffers, or with newly drawn initial values.

        Raises ValueError for a stack that cannot be built, or values that do not fit it.
        """
        if self.input_shape is None or not self._layers:
            raise ValueError(
                "The model has no layers or no input_shape yet. "
                "Use Sequential([...], input_shape=(channels, height, width))."
            )
        self._network = Network(self._layers, self.input_shape, self._xp, self.seed, values=values, owner=self)
        return self._network

    @property
    def xp(self) -> ArrayModule:
        """The array module of the model's arrays: NumPy or CuPy."""
        return np if is_host(self._xp) else in_precision(self._xp, "float32")

    @property
    def backend(self) -> str:
        """The name of the backend: "numpy", "numba" or "cupy"."""
        return str(self._xp.__name__)

    @property
    def precision(self) -> str:
        """What products and convolutions compute in: "float32", "tf32", "bfloat16" or "float16"."""
        return precision_of(self._xp)

    @property
    def temperature(self) -> float:
        """What logits are divided by before they become probabilities; :meth:`calibrate` finds it."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self._temperature = check_float("temperature", value, f"[{calibration.LEAST}, {calibration.MOST}]")

    @property
    def parameters(self) -> dict[str, Array]:
        """The trainable arrays by name, {"conv2d_1.weight": view, …}; writing into a view changes the model."""
        return self.network.layout.views(self.network.parameters)

    def to(self, xp: ArrayModule | str) -> Sequential:
        """Move parameters, buffers and the optimiser's state to another array module, and return the model.

        A precision given to :meth:`compile` is kept on a device; the host computes in float32.
        """
        self._xp = resolve(xp, None if self._precision is None else "float32")
        if self._precision is not None and not is_host(self._xp):
            self._xp = in_precision(self._xp, self._precision)
        if self._network is not None:
            self._network.to(self._xp)
        if self.optimizer is not None:
            self.optimizer.to(self._xp)
        return self

    def compile(
        self,
        optimizer: Optimizer | str = "adam",
        loss: Loss | str = "cross_entropy",
        metrics: Sequence[Metric | Loss | str] | None = None,
        precision: str | None = None,
    ) -> None:
        """Set optimiser, loss and metrics, as objects or by name; a loss can also serve as a metric.

        metrics: by default accuracy, for classification losses. precision: what products and convolutions on a GPU
        compute in, "float32", "tf32", "bfloat16" or "float16"; by default it stays, at first the value of
        ``XPCNN_PRECISION``. Weights, sums and all else are float32. Raises ValueError for an unknown name, BackendError
        for a precision that is unknown or not available.
        """
        xp = self._xp if precision is None else in_precision(self._xp, precision)
        chosen_optimizer, chosen_loss = optimizers.get(optimizer), losses.get(loss)
        if metrics is None:
            metrics = ["accuracy"] if chosen_loss.activation else []
        if isinstance(metrics, str | Metric | Loss):
            metrics = [metrics]
        chosen_metrics = [metrics_.get(metric) for metric in metrics]
        owner = chosen_optimizer.owner and chosen_optimizer.owner()
        if owner is not None and owner is not self:
            raise ValueError("The optimizer holds the state of another model. Create one optimizer per model.")
        chosen_optimizer.owner = weakref.ref(self)
        self.optimizer, self.loss, self.metrics = chosen_optimizer, chosen_loss, chosen_metrics
        if precision is not None:
            self._precision = precision
            self.to(xp)

    def fit(
        self,
        x: Any,
        y: Any = None,
        epochs: int = 1,
        batch_size: int = 32,
        validation_split: float = 0.0,
        validation_data: tuple[Any, Any] | None = None,
        shuffle: bool = True,
        seed: int = 0,
        callbacks: Sequence[Callback] = (),
        verbose: int = 1,
        shards: int | None = None,
        threads: int | None = None,
        class_weight: Mapping[int, float] | Sequence[float] | None = None,
        sample_weight: Any = None,
        augment: Augmentation | str | None = None,
        resume: files.PathLike | checkpoints.SavedFit | None = None,
        data_format: str = "channels_first",
        communicator: Communicator | None = None,
    ) -> History:
        """Train on images and labels, and return the loss and the metrics of every epoch.

        - ``x`` (array, :class:`~xpcnn.data.Folder` or iterable): images (n, channels, height, width), from any library;
          without ``y``, pairs (x, y) such as those of a PyTorch DataLoader. Anything but an array or Folder is read to
          its end and kept in memory.
        - ``y`` (array, default None): labels, integers (n,) or rows (n, outputs).
        - ``epochs`` (int, default 1): how many times to go through the images.
        - ``batch_size`` (int, default 32): the number of images per step.
        - ``validation_split`` (float, default 0.0): the fraction of each class, drawn by the seed, that is held out of
          training and evaluated after every epoch.
        - ``validation_data`` (pair, default None): the images and labels (x, y) to evaluate instead.
        - ``shuffle`` (bool, default True): whether every epoch takes the images in another order.
        - ``seed`` (int, default 0): determines shuffling, dropout and augmentation.
        - ``callbacks`` (list of :class:`~xpcnn.callbacks.Callback`, default ()): what else to do during training.
        - ``verbose`` (int, default 1): n prints every n-th epoch, 0 nothing.
        - ``shards`` (int, default None): the number of parts into which a batch is split. None: parts of about 16
          images each on the CPU, the whole batch on a device.
        - ``threads`` (int, default None): how many shards run at once, at most 32. None: as many as processors, or one
          for small networks. Results are bit-identical for any number of threads.
        - ``class_weight`` (dict or list, default None): the factor of each class's loss, by its number; 1 for a class
          that a dict does not name.
        - ``sample_weight`` (array, default None): the factor of each image's loss, (n,).
        - ``augment`` (str or function, default None): a name that :func:`xpcnn.data.augment` knows, or a function like
          the one it returns.
        - ``resume`` (path, default None): a file written by :class:`~xpcnn.callbacks.Checkpoint`, or a run's directory;
          the fit continues from it, with results bit-identical to those of an uninterrupted fit.
        - ``data_format`` (str, default "channels_first"): "channels_last" takes images (n, height, width, channels).
        - ``communicator`` (default None): the processes that train together, see :func:`xpcnn.distributed.world`; each
          calls ``fit`` with the same arguments.

        A second fit continues from the first, and discards an earlier calibration. Raises RuntimeError before compile,
        ValueError for arrays that do not match the model or a checkpoint of another fit, saying what differs, and
        FileNotFoundError if there is no checkpoint.
        """
        objective, optimizer = self._compiled()
        if isinstance(callbacks, Callback) or not all(isinstance(callback, Callback) for callback in callbacks):
            raise TypeError(f"callbacks must be a list of callbacks. Received: {reprlib.repr(callbacks)}.")
        verbose = check_int("verbose", int(verbose) if isinstance(verbose, bool) else verbose)
        epochs, batch_size = check_int("epochs", epochs, 1), check_int("batch_size", batch_size, 1)
        check_shards(shards, batch_size)
        check_threads(threads)
        seed = random.check_seed(seed)
        communicator = communicator or ALONE
        if resume is not None and not isinstance(resume, checkpoints.SavedFit):
            resume = None if communicator.rank else checkpoints.read(resume)
        saved = communicator.broadcast(resume)
        if saved is not None:
            self._resume_in(saved)
        data = training_data.prepare(
            objective, x, y, sample_weight, class_weight, validation_split, validation_data, seed, augment, data_format
        )
        xp = self.network.for_run(epochs * len(data.samples.rows), training=True)
        if saved is not None:
            xp = for_run(self._xp, math.inf if saved.used_numba else -math.inf)

        of_a_function = getattr(augment, "__qualname__", type(augment).__name__)
        arguments = {
            "epochs": epochs,
            "batch_size": batch_size,
            "validation_split": validation_split,
            "shuffle": bool(shuffle),
            "seed": seed,
            "shards": shards,
            "augment": augment if isinstance(augment, str | None) else of_a_function,
        }
        work = Work(self.network, xp, optimizer, objective.loss, tuple(self.metrics), data.samples, batch_size, seed)
        task = Task(arguments, data.arrays)
        return loop.run(
            Fit(self, work, task, epochs=epochs, first_epoch=self.epochs, communicator=communicator),
            callbacks,
            shuffle=shuffle,
            held=data.held,
            shards=shards,
            threads=threads,
            verbose=0 if communicator.rank else verbose,
            resume=saved,
        )

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 256,
        sample_weight: Any = None,
        threads: int | None = None,
        augment: str = "none",
        data_format: str = "channels_first",
    ) -> dict[str, Any]:
        """Return {"loss": …, "accuracy": …} for images and labels in prediction mode, without label smoothing.

        augment: test-time augmentation, as in :meth:`predict`.
        """
        objective, _ = self._compiled()
        x, y = inputs.samples(x, y, self.network.input_shape, data_format)
        self._refuse_raw(x)
        objective.measurable_targets(y, sample_weight)
        chosen = prediction.views_of(self, augment)
        return evaluation.evaluate(
            self.network, objective.loss.unsmoothed(), self.metrics, x, y, sample_weight, batch_size, threads, chosen,
            self.temperature,
        )  # fmt: skip

    def predict(
        self,
        x: Any,
        batch_size: int = 256,
        threads: int | None = None,
        augment: str = "none",
        data_format: str = "channels_first",
    ) -> HostArray:
        """Return the outputs (n, classes) for images (n, channels, height, width) or for one image, as a NumPy array.

        augment: test-time augmentation, which averages the outputs over the image and its transformed views: 2 for
        "light" and "flip", 8 for "microscopy" and "dihedral" (4 if images are not square), and takes that many times as
        long. If the model has ``preprocessing``, arrays must already be normalised, and integer arrays are rejected;
        for image files and raw pixels, use :meth:`predict_images`.
        """
        x = inputs.images(x, self.network.input_shape, data_format)
        self._refuse_raw(x)
        return prediction.outputs(self, x, batch_size, threads, augment)

    def __call__(self, x: Any) -> HostArray:
        """Return :meth:`predict`'s outputs, since a second kind of probability, uncalibrated, would only mislead."""
        return self.predict(x)

    def predict_images(
        self, images: Any, threads: int | None = None, augment: str = "none", progress: bool = False
    ) -> prediction.Predictions:
        """Return labels and probabilities for images, decoded and normalised as in training.

        images: paths; the bytes of files; file objects; raw pixels, as an array (n, channels, height, width) or a list
        of arrays (height, width) or (height, width, channels), in RGB order, with values as in a file; or a
        :class:`~xpcnn.data.Folder`. An image that cannot be read gets no label, and an error that says why. threads:
        the number of threads that decode and predict. augment: as in :meth:`predict`. progress: show a progress bar on
        stderr, if it is a terminal. The command ``xpcnn predict`` returns bit-identical results.

        Raises ValueError for a model without ``preprocessing``, and for arrays of another shape. Warns if pixel values
        are outside the model's input range.
        """
        return prediction.predict_images(self, images, threads, augment, progress)

    def calibrate(self, x: Any, y: Any, batch_size: int = 256, threads: int | None = None) -> float:
        """Calibrate probabilities on images and labels held out of training, and return the temperature.

        From then on :meth:`predict` and :meth:`evaluate` divide the logits by it. This leaves every predicted class
        unchanged and makes its probability reliable: of the predictions with 0.8, eight in ten are correct. See
        :func:`xpcnn.calibration.find_temperature`.

        Raises RuntimeError before compile, ValueError if the loss is not a cross-entropy of probabilities, or the
        labels are not classes.
        """
        objective, _ = self._compiled()
        x, y = inputs.samples(x, y, self.network.input_shape)
        self._refuse_raw(x)
        labels = objective.calibration_labels(y)
        outputs = evaluation.infer(self.network, x, batch_size, threads, objective.loss)
        from_logits = self.network.program(objective.loss).from_logits
        self.temperature = calibration.find_temperature(outputs, labels, from_logits)
        return self.temperature

    def loss_and_gradients(self, x: Any, y: Any, sample_weight: Any = None) -> tuple[float, dict[str, HostArray]]:
        """Return the mean loss of a batch and the gradients, {"conv2d_1.weight": array, …}, in training mode.

        Weights and running statistics are unchanged. Gradients of frozen layers before the first trained one are 0.
        """
        objective, _ = self._compiled()
        x, y = inputs.samples(x, y, self.network.input_shape)
        targets = objective.targets(y, sample_weight)
        scale = LossScale(self._xp) if self.precision == "float16" else None
        with Executor(self.network, len(x), training=True) as executor:
            x = np.asarray(x[:], dtype=self.network.dtype)
            training = ShardedTraining(executor, objective.loss)
            result = training.train(x, targets, [], self.seed, 0, scale)
            while scale is not None and not to_host(finite := scale.unscale(self._xp, result.gradient)):
                if to_host(scale.is_lowest()):
                    break
                scale.update(self._xp, finite)
                result = training.train(x, targets, [], self.seed, 0, scale)
        gradient = np.array(to_host(result.gradient))  # a copy, since the next step reuses the memory
        return float(result.loss), self.network.layout.views(gradient)

    def activations(self, x: Any) -> dict[str, HostArray]:
        """Return the output of every layer in prediction mode, {"conv2d_1": array (n, …), …}."""
        x = np.asarray(inputs.images(x, self.network.input_shape)[:], dtype=self.network.dtype)
        outputs = activations(self.network, self._xp.asarray(x), Context(Workspace(self._xp)))
        return {name: np.array(to_host(output), order="C") for name, output in outputs.items()}

    def get_weights(self) -> dict[str, HostArray]:
        """Return copies of all parameters and buffers by name."""
        return {name: np.array(value) for name, value in self.network.host_values().items()}

    def set_weights(self, weights: Mapping[str, Any]) -> None:
        """Write all parameters and buffers, by name, in place.

        Raises ValueError, with nothing written, if names or shapes differ or values are not numbers.
        """
        if not isinstance(weights, Mapping):
            raise TypeError(
                'weights must be a dict by name, {"conv2d_1.weight": array, …}, such as get_weights() returns. '
                f"Received: {type(weights).__name__}."
            )
        self.network.set_values({name: _real(name, value, self.network.dtype) for name, value in weights.items()})

    def summary(self, precision: bool = False) -> str:
        """Print and return a table of the layers: input and output shapes, activation, bias, parameters, bytes.

        precision: also show what each layer computes in, and its output is stored in.
        """
        table = summary_table(self.network, precision)
        print(table)
        return table

    def save(self, path: files.PathLike) -> None:
        """Write layers, weights, class names and preprocessing to one safetensors file; the model stays on its device.

        Optimiser, loss and metrics are saved too, unless one is a custom class. Raises OSError for a path that cannot
        be written, TypeError for a layer argument that cannot be saved, and ValueError for class names that do not
        match the outputs, for NaN or infinite weights, and for a path with the extension of another library, such as
        ``.keras``; an existing file is then kept.
        """
        check_names(self.class_names, self.network.output_shape)
        check_thresholds(self.thresholds, self.network.output_shape)
        file.write(path, self.state())

    def state(self) -> ModelState:
        """Return the complete state of the model, with copies of its arrays; the optimiser is not copied.

        Raises TypeError for a layer argument that is not a plain value.
        """
        return ModelState(
            layers=[to_plain(layer) for layer in self._layers],
            input_shape=self.input_shape if self._network is None else self._network.input_shape,
            seed=self.seed,
            arrays=self.get_weights() if self._layers and self.input_shape is not None else None,
            class_names=self.class_names,
            preprocessing=self.preprocessing,
            temperature=self.temperature,
            thresholds=self.thresholds,
            epochs=self.epochs,
            digests=self.digests,
            optimizer=self.optimizer,
            loss=self.loss,
            metrics=self.metrics,
        )

    @classmethod
    def from_state(
        cls,
        state: ModelState,
        custom_layers: Mapping[str, type[Layer]] | None = None,
        xp: ArrayModule | str | None = None,
    ) -> Self:
        """Return the model for a state, compiled as it was; custom_layers and xp are as in :func:`xpcnn.load`.

        Raises ValueError, before memory is allocated, for arrays that do not match the layers.
        """
        model = cls((), None, xp, state.seed)
        model.input_shape = None if state.input_shape is None else _checked_shape(state.input_shape)
        for layer in from_plain(state.layers, kinds(custom_layers)):
            model.add(layer)
        if state.arrays is not None:
            model.build(state.arrays)
        model.class_names, model.preprocessing = state.class_names, state.preprocessing
        model.temperature, model.epochs, model.digests = state.temperature, state.epochs, state.digests
        model.thresholds = state.thresholds
        if state.optimizer is not None and state.loss is not None:
            model.compile(state.optimizer, state.loss, state.metrics)
        return model

    def __repr__(self) -> str:
        return f"{type(self).__name__}(\n{layer_list(self._layers, 1)}\n)" if self._layers else "Sequential()"

    def __copy__(self) -> Self:
        return copy.deepcopy(self)  # a model's optimiser holds the state of one model

    def __reduce__(self) -> tuple[Any, ...]:
        classes = {type(layer).__name__: type(layer) for layer in walk(self._layers) if not layer.hidden}
        xp = request_of(self._xp) if is_host(self._xp) else None  # None: chosen when it is unpickled
        return type(self).from_state, (self.state(), classes, xp), self._precision

    def __setstate__(self, precision: str) -> None:
        self._precision = precision
        self.to(self._xp)

    def _resume_in(self, saved: checkpoints.SavedFit) -> None:
        """Compute in the precision of a checkpoint; raise ValueError if the model was compiled for another one."""
        if saved.precision == self.precision:
            return
        if self._precision is not None:
            raise ValueError(
                f"{str(saved.path)!r} was computed in {saved.precision}, and the model is compiled for "
                f"{self.precision}. Compile it with precision={saved.precision!r} to resume, or omit resume to start a "
                "new fit."
            )
        self.to(in_precision(self._xp, saved.precision, " by the checkpoint"))

    def _compiled(self) -> tuple[Objective, Optimizer]:
        if self.optimizer is None or self.loss is None:
            raise RuntimeError(
                'The model is not compiled. Call model.compile(optimizer="adam", loss="cross_entropy") first.'
            )
        objective = Objective(self.network, self.loss, self.metrics)
        objective.check_outputs()
        return objective, self.optimizer

    def _refuse_raw(self, x: Any) -> None:
        """Reject raw images if the model has preprocessing; warn once about values that look raw."""
        if self.preprocessing is not None and not isinstance(x, Normalized):
            inputs.refuse_raw(x)
            if not self._warned and inputs.look_raw(x, self.preprocessing):
                self._warned = True
                warnings.warn(inputs.RAW, stacklevel=3)


def _checked_layer(layer: Any) -> Layer:
    if not isinstance(layer, Layer):
        raise TypeError(f"layers must be layer objects, such as layers.Dense(8). Received: {layer!r}.")
    return layer


def _real(name: str, value: Any, dtype: Any) -> HostArray:
    """Return the values of a weight in the network's dtype, or raise ValueError if they are complex."""
    array = host_array(value)
    if array.dtype.kind == "c":
        raise ValueError(f"{name!r} must contain real numbers. Received: dtype {array.dtype}.")
    return np.asarray(array, dtype=dtype)


def _checked_shape(shape: Any) -> Shape:
    """Return an input shape as a tuple, or raise ValueError."""
    if not isinstance(shape, tuple | list) or not shape:
        raise ValueError(f"input_shape must be (channels, height, width). Received: {reprlib.repr(shape)}.")
    return tuple(check_int("Each size of input_shape", n, 1) for n in shape)


def _warn_of_channels_last(shape: Shape) -> None:
    if inputs.look_channels_last(shape):
        height, width, channels = shape
        warnings.warn(
            f"Images of shape {shape} have {height} channels of {width}x{channels} pixels. If their channels are the "
            f"last axis, move it to the front: input_shape={(channels, height, width)}, x.transpose(0, 3, 1, 2).",
            stacklevel=3,
        )
