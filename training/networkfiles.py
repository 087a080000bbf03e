"""A fitted network as the files of a bundle: Keras' own, and an ONNX graph for hosts without a GPU."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pacs_guard.detect.networks import NETWORK, ONNX, check_pictures
from pacs_guard.detect.preprocess import network_input
from pacs_guard.errors import ConfigurationError
from training.classifiers import last_convolution

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_OPSET, _IR = 17, 8


def network_files(name: str, model: Any) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return a network's files, and what the manifest says of it: among it Keras' answer to fixed pictures.

    Parameters
    ----------
    name : str
        Of the network, for its preprocessing.
    model : keras.Model
        From the network's input to log-odds.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NETWORK
        model.save(path)
        content = path.read_bytes()
    rows, columns = model.inputs[0].shape[1:3]
    given = network_input(name, check_pictures((rows, columns)))
    answers = np.asarray(model(given, training=False), float)
    facts = {"model": "network", "network": name, "layer": last_convolution(model), "check": answers.tolist()}
    return {NETWORK: content, ONNX: onnx_graph(model)}, facts


def onnx_graph(model: Any) -> bytes:
    """Return a functional Keras network as an ONNX model with channels first, which is what its CPU kernels want.

    Written layer by layer: `keras.Model.export` needs tf2onnx, which looks for a maintainer, and takes minutes.

    Parameters
    ----------
    model : keras.Model
        With one input of shape (n, rows, columns, channels) and one output; made of the layers of the five networks.

    Raises
    ------
    ConfigurationError
        If there is a layer that has no translation here, or the package onnx is missing.
    """
    try:
        from onnx import checker, helper  # noqa: PLC0415  # only where bundles are made
    except ImportError as error:
        raise ConfigurationError([f"onnx cannot be loaded: {error}; pip install 'pacs-guard[training]'"]) from error
    graph = _Graph()
    graph.add("Transpose", ["pictures"], graph.name_of(model.inputs[0]), perm=[0, 3, 1, 2])
    for layer in model.layers:
        graph.translate(layer)
    last = graph.name_of(model.outputs[0])
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(np.float32))
    given = helper.make_tensor_value_info("pictures", kind, ["n", *model.inputs[0].shape[1:]])
    result = helper.make_tensor_value_info(last, kind, ["n", model.outputs[0].shape[-1]])
    whole = helper.make_graph(graph.nodes, "network", [given], [result], graph.constants)
    made = helper.make_model(whole, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    checker.check_model(made)
    return bytes(made.SerializeToString())


class _Graph:
    """Nodes and constants so far; each Keras tensor has a name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._names: dict[int, str] = {}

    def name_of(self, tensor: Any) -> str:
        return self._names.setdefault(id(tensor), f"t{len(self._names)}")

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        from onnx import helper  # noqa: PLC0415  # only where bundles are made

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def constant(self, values: NDArray[Any]) -> str:
        from onnx import numpy_helper  # noqa: PLC0415  # only where bundles are made

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def translate(self, layer: Any) -> None:
        kind = type(layer).__name__
        if kind == "InputLayer":
            return
        if kind not in _LAYERS or getattr(layer, "data_format", "channels_last") != "channels_last":
            raise ConfigurationError([f"{layer.name} ({kind}) has no ONNX form here; expected {', '.join(_LAYERS)}"])
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        names, output = [self.name_of(one) for one in inputs], self.name_of(layer.output)
        rectified = _rectified(layer)
        _LAYERS[kind](self, layer, names, f"{output}_linear" if rectified and kind not in _BARE else output)
        if rectified and kind not in _BARE:
            self.add("Relu", [f"{output}_linear"], output)


def _rectified(layer: Any) -> bool:
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if activation not in ("linear", "relu"):
        raise ConfigurationError([f"{layer.name} has activation {activation}; expected linear or relu"])
    return activation == "relu"


def _convolution(graph: _Graph, layer: Any, names: list[str], output: str) -> None:
    kernel, *bias = (np.asarray(one, np.float32) for one in layer.get_weights())
    values = [graph.constant(kernel.transpose(3, 2, 0, 1)), *(graph.constant(one) for one in bias)]
    graph.add(
        "Conv",
        [*names, *values],
        output,
        strides=list(layer.strides),
        dilations=list(layer.dilation_rate),
        group=layer.groups,
        auto_pad=_padding(layer),
    )


def _normalisation(graph: _Graph, layer: Any, names: list[str], output: str) -> None:
    values = [graph.constant(np.asarray(one, np.float32)) for one in layer.get_weights()]
    graph.add("BatchNormalization", [*names, *values], output, epsilon=float(layer.epsilon))


def _zeros_around(graph: _Graph, layer: Any, names: list[str], output: str) -> None:
    (top, bottom), (left, right) = layer.padding
    graph.add("Pad", [*names, graph.constant(np.array([0, 0, top, left, 0, 0, bottom, right]))], output)


def _pool(kind: str) -> Callable[[_Graph, Any, list[str], str], None]:
    def translated(graph: _Graph, layer: Any, names: list[str], output: str) -> None:
        size, strides = list(layer.pool_size), list(layer.strides)
        graph.add(kind, names, output, kernel_shape=size, strides=strides, auto_pad=_padding(layer))

    return translated


def _mean(graph: _Graph, _: Any, names: list[str], output: str) -> None:
    graph.add("GlobalAveragePool", names, f"{output}_map")
    graph.add("Flatten", [f"{output}_map"], output)


def _dense(graph: _Graph, layer: Any, names: list[str], output: str) -> None:
    values = [graph.constant(np.asarray(one, np.float32)) for one in layer.get_weights()]
    graph.add("Gemm", [*names, *values], output)


def _joined(graph: _Graph, _: Any, names: list[str], output: str) -> None:
    graph.add("Concat", names, output, axis=1)


def _sum(graph: _Graph, _: Any, names: list[str], output: str) -> None:
    graph.add("Add", names, output)


def _relu(graph: _Graph, _: Any, names: list[str], output: str) -> None:
    graph.add("Relu", names, output)


def _padding(layer: Any) -> str:
    # TensorFlow puts what is odd of it after the picture
    return "SAME_UPPER" if layer.padding == "same" else "VALID"


_BARE = ("Activation", "ReLU")
_LAYERS: dict[str, Callable[[_Graph, Any, list[str], str], None]] = {
    "Activation": _relu,
    "Add": _sum,
    "AveragePooling2D": _pool("AveragePool"),
    "BatchNormalization": _normalisation,
    "Concatenate": _joined,
    "Conv2D": _convolution,
    "Dense": _dense,
    "GlobalAveragePooling2D": _mean,
    "MaxPooling2D": _pool("MaxPool"),
    "ReLU": _relu,
    "ZeroPadding2D": _zeros_around,
}
