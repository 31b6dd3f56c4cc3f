"""The package as a whole: what loads when, which modules may import which, and the names that others rely on."""

import ast
import doctest
import importlib
import importlib.metadata
import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import xpcnn
from xpcnn import callbacks, data, formats, initializers, layers, losses, metrics, optimizers, presets, schedules
from xpcnn.extras import install_line
from xpcnn.training import callbacks as training_callbacks

PACKAGE = Path(xpcnn.__file__).parent
SOURCES = {
    ".".join(("xpcnn", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def run(*arguments):
    """Run Python in a process of its own, with the package that is tested here, and return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(code):
    """Return the top-level modules that a program has loaded at its end."""
    return set(run("-c", f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})").split())


# What loads when

HEAVY = {
    "numpy", "cv2", "cupy", "matplotlib", "tqdm", "safetensors", "threadpoolctl", "torch", "sklearn", "PIL", "onnx",
    "huggingface_hub", "optuna", "sqlalchemy", "alembic",
}  # fmt: skip


def test_importing_the_package_loads_nothing():
    assert loaded_by("import xpcnn") & HEAVY == set()


def test_using_every_public_name_loads_numpy_alone():
    assert loaded_by("import xpcnn; [getattr(xpcnn, name) for name in xpcnn.__all__]") & HEAVY == {"numpy"}


@pytest.mark.parametrize("name", [name for name in xpcnn.__all__ if inspect.ismodule(getattr(xpcnn, name))])
def test_every_public_module_is_one_to_import_from(name):
    assert importlib.import_module(f"xpcnn.{name}") is getattr(xpcnn, name)


def test_callbacks_can_be_imported_from_the_package_of_that_name():
    line = "from xpcnn.callbacks import EarlyStopping; from xpcnn.distributed import world; print(EarlyStopping, world)"
    assert "EarlyStopping" in run("-c", line)
    assert callbacks.__all__ == training_callbacks.__all__


def test_the_formats_are_there_and_load_only_when_they_are_used():
    assert loaded_by("from xpcnn import formats") & HEAVY == set()
    used = "formats.onnx.export, formats.torch.save_state_dict, formats.text.save, formats.cnn_json.load"
    assert loaded_by(f"from xpcnn import formats; {used}") & {"onnx", "torch"} == set()
    assert dir(formats) == ["cnn_json", "html", "onnx", "text", "torch"]
    with pytest.raises(AttributeError, match=r"module 'xpcnn\.formats' has no attribute 'keras'"):
        formats.keras  # noqa: B018


def test_building_and_predicting_needs_no_images_files_or_progress():
    code = (
        "import numpy, xpcnn\n"
        "from xpcnn import layers\n"
        "model = xpcnn.Sequential([layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2)], (1, 5, 5), xp='numpy')\n"
        "model.predict(numpy.zeros((1, 1, 5, 5)))"
    )
    assert loaded_by(code) & HEAVY == {"numpy", "threadpoolctl"}


def test_the_estimator_alone_needs_scikit_learn_and_says_how_to_get_it():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from xpcnn import *\n"
        "import xpcnn\n"
        "try: xpcnn.XPCNNClassifier\n"
        "except ImportError as error: print(error)"
    )
    told = run("-c", code)
    assert told.startswith("XPCNNClassifier needs scikit-learn 1.6 or later (No module named ")
    assert told.endswith(f"Run `{install_line('sklearn')}`.\n")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["train", "--help"], ["tune", "--help"], ["predict", "--help"], ["export", "--help"]],
)
def test_the_command_answers_for_help_without_numpy(arguments):
    code = f"from xpcnn.cli import main\ntry: main({arguments})\nexcept SystemExit as end: assert end.code == 0"
    assert loaded_by(code) & HEAVY == set()


def test_the_module_is_the_command():
    assert run("-m", "xpcnn", "--version") == f"xpcnn {xpcnn.__version__}\n"
    assert "train" in run("-m", "xpcnn", "--help")


def test_a_source_tree_has_a_version_too(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    assert re.match(r"\d+\.\d+\.\d+", xpcnn.__version__)
    monkeypatch.setattr("xpcnn.version.version", missing)
    declared = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert xpcnn.__version__ == f"{declared['version']}+source"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'xpcnn' has no attribute 'Sequenzial'"):
        xpcnn.Sequenzial  # noqa: B018
    assert dir(xpcnn) == sorted({*xpcnn.__all__, "XPCNNClassifier"})


# What docstrings show

#: What is optional, and needed by the examples of a module.
NEEDED = {"xpcnn.estimator": "sklearn", "xpcnn.plots": "matplotlib", "xpcnn.ops.cpu": "numba"}


@pytest.mark.parametrize("module", sorted(set(SOURCES) - {"xpcnn.__main__"}))
def test_what_docstrings_show_is_what_comes(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XPCNN_BACKEND", "numpy")
    for place, package in NEEDED.items():
        if module.startswith(place):
            pytest.importorskip(package)
    assert doctest.testmod(importlib.import_module(module)).failed == 0


# Who may import whom

#: The layer of each module, as in the table of docs/code-tour.md; a module not named is in its package's layer.
LAYERS = {
    "xpcnn.backend": 1,
    "xpcnn.communicator": 1,
    "xpcnn.random": 1,
    "xpcnn.endings": 1,
    "xpcnn.extras": 1,
    "xpcnn.files": 1,
    "xpcnn.hints": 1,
    "xpcnn.precision": 1,
    "xpcnn.processors": 1,
    "xpcnn.recording": 1,
    "xpcnn.registry": 1,
    "xpcnn.version": 1,
    "xpcnn.ops": 2,
    "xpcnn.hub": 1,
    "xpcnn.plots": 2,  # beside the layers too: plots of arrays
    "xpcnn.data": 2,  # beside the layers: it knows nothing of networks
    "xpcnn.layers": 3,
    "xpcnn.initializers": 3,
    "xpcnn.parameters": 3,
    "xpcnn.calibration": 4,
    "xpcnn.losses": 4,
    "xpcnn.metrics": 4,
    "xpcnn.optimizers": 4,
    "xpcnn.schedules": 4,
    "xpcnn.targets": 4,
    "xpcnn.program": 5,
    "xpcnn.training": 6,
    "xpcnn.callbacks": 7,
    "xpcnn.distributed": 7,
    "xpcnn.model": 7,
    "xpcnn.presets": 7,
    "xpcnn.recipe": 8,
    "xpcnn.pretrained": 8,
    "xpcnn.formats": 8,
    "xpcnn.report": 8,
    "xpcnn.cli": 8,
    "xpcnn.estimator": 8,
    "xpcnn.__main__": 9,
}


def owner_of(module):
    return next((".".join(module.split(".")[:n]) for n in (3, 2) if ".".join(module.split(".")[:n]) in LAYERS), None)


def imports(path):
    """Yield the modules that a source imports, when it is loaded or later, those only type checkers see too."""

    def visit(node):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports name their module in full"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                late = xpcnn._HOMES.get(alias.name) if node.module == "xpcnn" else None
                yield late[0] if late else whole if whole in SOURCES else node.module
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")))


IMPORTS = {module: sorted(set(imports(path))) for module, path in SOURCES.items()}


@pytest.mark.parametrize("module", sorted(set(SOURCES) - {"xpcnn"}))
def test_a_layer_imports_only_from_those_below_it(module):
    assert owner_of(module) is not None, f"{module} needs a layer"
    layer = LAYERS[owner_of(module)]
    above = {
        other: LAYERS[owner_of(other)]
        for other in IMPORTS[module]
        if other.startswith("xpcnn.") and LAYERS[owner_of(other)] > layer
    }
    assert above == {}, f"{module} is in layer {layer}"


def circles(graph):
    """Return the sets of modules that can all be reached from one another: the strongly connected components."""

    def reached(start):
        found, waiting = set(), [start]
        while waiting:
            more = graph[waiting.pop()] - found
            found |= more
            waiting += more
        return found

    after = {module: reached(module) for module in graph}
    return {frozenset(other for other in after[module] if module in after[other]) for module in graph} - {frozenset()}


def test_a_circle_is_noticed():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}
    assert circles(graph) == {frozenset("bc"), frozenset("d")}


def test_no_modules_import_each_other_in_a_circle():
    """Imports for types are counted too."""
    parts = SOURCES.keys() - {"xpcnn"}  # whose names are all loaded when they are first used
    graph = {module: {*IMPORTS[module]} & parts for module in parts}
    assert circles(graph) == set()


def test_only_the_backend_knows_cupy():
    """Imports by name, and by a name in a text that is looked up."""
    for module, path in SOURCES.items():
        source = path.read_text(encoding="utf-8")
        if module == "xpcnn.backend":
            assert 'import_module("cupy")' in source
            continue
        assert not any(name.partition(".")[0] == "cupy" for name in IMPORTS[module]), module
        assert not re.search(r"import_module\(.*cupy|__import__", source), module


def test_data_stands_beside_the_layers():
    """It imports only the first layer and itself."""
    for module in SOURCES:
        if owner_of(module) == "xpcnn.data":
            others = {owner_of(other) for other in IMPORTS[module] if other.startswith("xpcnn.")}
            assert {LAYERS[other] for other in others - {"xpcnn.data"}} <= {1}, module


@pytest.mark.parametrize("module", SOURCES)
def test_nothing_runs_what_a_file_says(module):
    """No pickle, no eval, no objects in NumPy files."""
    tree = ast.parse(SOURCES[module].read_text(encoding="utf-8"))
    assert not {"pickle", "shelve", "marshal", "dill", "joblib", "code"} & {
        name.partition(".")[0] for name in IMPORTS[module]
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in ("eval", "exec", "compile", "__import__", "os.system"), name
            pickles = [k for k in node.keywords if k.arg == "allow_pickle"]
            assert all(isinstance(k.value, ast.Constant) and k.value.value is False for k in pickles), name
            assert name not in ("np.load", "numpy.load") or pickles, f"{module}: {name} says allow_pickle=False"


def test_the_types_are_there_for_others():
    assert (PACKAGE / "py.typed").is_file()


# Names that others rely on


def parameters(function):
    """Return {name: default} of a function's parameters but for self, and "needed" where there is no default."""
    return {
        name: "needed" if p.default is p.empty else p.default
        for name, p in inspect.signature(function).parameters.items()
        if name != "self"
    }


def test_the_models_signatures():
    model = xpcnn.Sequential
    assert parameters(model) == {"layers": (), "input_shape": None, "xp": None, "seed": 0}
    assert parameters(model.compile) == {
        "optimizer": "adam", "loss": "cross_entropy", "metrics": None, "precision": None,
    }  # fmt: skip
    fit = {
        "x": "needed", "y": None, "epochs": 1, "batch_size": 32, "validation_split": 0.0, "validation_data": None,
        "shuffle": True, "seed": 0, "callbacks": (), "verbose": 1, "shards": None, "threads": None,
        "class_weight": None, "sample_weight": None, "augment": None, "data_format": "channels_first",
            "communicator": None,
    }  # fmt: skip
    assert {name: default for name, default in parameters(model.fit).items() if name != "resume"} == fit
    assert [*parameters(model.evaluate)][:2] == ["x", "y"]
    assert parameters(model.predict)["batch_size"] == 256
    assert [*parameters(model.loss_and_gradients)][:2] == ["x", "y"]
    assert [*parameters(model.activations)] == ["x"]
    assert [*parameters(model.add)] == ["layer"]
    assert [*parameters(model.to)] == ["xp"]
    assert [*parameters(model.save)] == ["path"]
    assert [*parameters(model.set_weights)] == ["weights"]
    assert parameters(model.get_weights) == {}
    assert parameters(model.summary) == {"precision": False}
    assert isinstance(model.parameters, property)
    assert isinstance(model.backend, property)
    assert isinstance(model.precision, property)
    assert parameters(xpcnn.load) == {"path": "needed", "xp": None, "custom_layers": None}


def test_the_layers_signatures():
    convolution = parameters(layers.Conv2D)
    assert [*convolution][:2] == ["filters", "kernel_size"]
    defaults = {"strides": 1, "padding": "valid", "padding_mode": "zeros", "dilation": 1, "groups": 1, "use_bias": True}
    assert {name: convolution[name] for name in defaults} == defaults
    assert {"activation", "kernel_initializer"} <= convolution.keys()
    dense = parameters(layers.Dense)
    assert [*dense][:1] == ["units"]
    assert dense["use_bias"] is True
    for pool in (layers.MaxPool2D, layers.MinPool2D, layers.AveragePool2D):
        assert [*parameters(pool)][:3] == ["pool_size", "strides", "padding"]
    assert [*parameters(layers.Residual)][:1] == ["layers"]
    assert parameters(layers.Activation)["activation"] == "needed"


@pytest.mark.parametrize("name", [name for name in layers.__all__ if name not in ("Context", "Meeting")])
def test_every_layer_takes_a_name_and_an_array_module(name):
    taken = parameters(getattr(layers, name))
    assert taken["name"] is None
    assert taken["xp"] is None


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (layers, "Conv2D MaxPool2D MinPool2D AveragePool2D GlobalAveragePool2D GlobalMaxPool2D Upsample2D BatchNorm "
                 "Dropout Activation Softmax ReLU ReLU6 LeakyReLU ELU GELU SiLU HardSwish Tanh Sigmoid HardSigmoid "
                 "Flatten Reshape Dense Residual Branches SqueezeExcitation AdaptiveAveragePool2D Layer"),
        (losses, "CrossEntropy BinaryCrossEntropy MeanSquaredError Loss get"),
        (optimizers, "SGD RMSprop Adagrad Adam AdamW Optimizer get"),
        (schedules, "Constant StepDecay Exponential Cosine WarmUp OneCycle Schedule get"),
        (metrics, "Accuracy TopK Precision Recall F1 ConfusionMatrix Metric get confusion_matrix per_class "
                  "wilson_interval mcnemar"),
        (initializers, "HeNormal HeUniform GlorotNormal GlorotUniform LecunNormal LecunUniform Zeros Ones Constant "
                       "get"),
        (callbacks, "Callback EarlyStopping SaveBest SaveLast CSVLog LearningRate ReduceLROnPlateau EvaluateEvery "
                    "StopOnNaN"),
        (data, "load_digits load_mnist load_folder stratified_split augment Normalized Preprocessing Decoding"),
        (presets, "small blood blood_unpooled get"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value.__name__,
)  # fmt: skip
def test_every_public_name_is_there_and_says_what_it_is(module, names):
    for name in names.split():
        thing = getattr(module, name)
        assert inspect.getdoc(thing), name


def test_the_optimizers_and_the_losses_arguments():
    assert parameters(optimizers.Adam) == {
        "learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "clip_norm": None,
    }  # fmt: skip
    assert {"momentum", "nesterov", "weight_decay"} <= parameters(optimizers.SGD).keys()
    assert {"label_smoothing", "class_weights"} <= parameters(losses.CrossEntropy).keys()


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh", "softmax", "linear"])
def test_every_activation_can_be_had_by_name(name):
    model = xpcnn.Sequential(
        [layers.Flatten(), layers.Dense(2, activation=name), layers.Activation(name)], (1, 2, 2), np
    )
    assert model.predict(np.ones((1, 1, 2, 2))).shape == (1, 2)


def test_the_lines_of_the_readme_work(tmp_path, monkeypatch):
    readme = Path(__file__).parents[1] / "README.md"
    (code,) = re.findall(r"## Python\n\n```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines.py").write_text(code.replace("epochs=10", "epochs=1"), encoding="utf-8")
    assert "epoch 1/1" in run("lines.py")
    assert (tmp_path / "digits.safetensors").is_file()


@pytest.mark.slow  # and `nox -s examples` runs them all
def test_the_example_runs(tmp_path):
    example = Path(__file__).parents[1] / "examples" / "digits.py"
    assert "test accuracy 0." in run(str(example), "--epochs", "1")
