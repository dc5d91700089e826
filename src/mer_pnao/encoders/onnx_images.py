"""Any network of images in an ONNX file, as face networks are published, run by ONNX Runtime.

onnx, which looks through the file before, and ONNX Runtime are an optional extra.

Legend of shapes: B images, S the side of a prepared image, D the width of an embedding.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.encoders.images import ImageNetwork, resize
from mer_pnao.encoders.model_folder import one_line
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.onnx_files import onnx_libraries, write_onnx

_OPERATORS = ("", "ai.onnx", "ai.onnx.ml")  # the domains of ONNX's own


def load_onnx_images(path: Path, config: EncoderConfig) -> ImageNetwork:
    """A network (B, 3, S, S) float32 -> (B, D), or (B, D, 1, 1), of one file, with images prepared as `config` says.

    It runs in the thread that calls it, so that no vector depends on how many cores there are. Raises InputError where
    ONNX Runtime is not installed, the file is no ONNX network, has custom operators or weights in other files, or does
    not take such images and give such embeddings.
    """
    session, taken = _session(path, config.output)
    alone = _takes_one(path, session, config.size)
    name = session.get_inputs()[0].name
    mean, std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (config.mean, config.std))

    def preprocess(images: NDArray[np.uint8]) -> Tensor:
        prepared = resize(images, (config.size, config.size)) / (255 / config.scale)
        return ((prepared.flip(1) if config.colours == "bgr" else prepared) - mean) / std

    def embed(images: Tensor) -> Tensor:
        # Many are exported for one image at a time.
        blocks = torch.split(images, 1 if alone else len(images))
        found = [session.run([taken], {name: block.contiguous().numpy()})[0] for block in blocks]
        return torch.from_numpy(np.concatenate(found)).float().flatten(1)

    count = 1 if alone else 2
    grey = preprocess(np.full((count, config.size, config.size, 3), 128, dtype=np.uint8))
    try:
        (tried,) = session.run([taken], {name: grey.contiguous().numpy()})
    except Exception as error:  # the runtime's own errors have no other base
        raise InputError(f"{path} does not take images of {config.size} pixels: {one_line(error)}") from error
    shape = np.shape(tried)
    if len(shape) < 2 or shape[0] != count or any(side != 1 for side in shape[2:]) or tried.dtype.kind != "f":
        raise InputError(f"{path}: {taken} must be (N, D) or (N, D, 1, 1) for N images, and is {shape} for {count}")
    return ImageNetwork(nn.Identity(), preprocess, embed, config.size, shape[1])


class _Embedding(nn.Module):
    """A network whose output is its embedding, as it is exported."""

    def __init__(self, network: ImageNetwork) -> None:
        super().__init__()
        self.module, self.embed = network.module, network.embed

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(images)


def exported(network: ImageNetwork, size: int) -> ImageNetwork:
    """A network of ours that takes (B, 3, S, S) with S = size, run by ONNX Runtime in float32.

    Raises InputError where ONNX Runtime is not installed.
    """
    onnx_libraries("runtime: onnx")  # the exporter would raise an error of its own
    with TemporaryDirectory() as place:
        path = Path(place) / "network.onnx"
        write_onnx(_Embedding(network), {"images": torch.zeros(1, 3, size, size)}, ["embedding"], path)
        loaded = load_onnx_images(path, EncoderConfig("onnx", str(path), size=size))
    return network._replace(module=loaded.module, embed=loaded.embed)


def _session(path: Path, output: str) -> tuple[Any, str]:
    """The runtime's session, and the name of the value that is taken."""
    onnx, onnxruntime = onnx_libraries("kind: onnx")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # of protobuf, which is not ours to import
        raise InputError(f"{path} is not a readable ONNX file: {one_line(error)}") from error
    _refuse_foreign_parts(path, model)
    outputs = [value.name for value in model.graph.output]
    if not output and len(outputs) != 1:
        raise InputError(f"{path} has the outputs {', '.join(outputs) or 'none'}: name the one to take in output")
    taken = output or outputs[0]
    if taken not in {*outputs, *(name for node in model.graph.node for name in node.output)}:
        raise InputError(f"{path} has no value {taken!r} for output; its outputs are {', '.join(outputs)}")
    # An inner value becomes the output, and what only the others need is never computed.
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=taken))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the extraction has a thread a core already
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # what goes wrong comes as an error, too
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own errors have no other base
        raise InputError(f"{path} cannot be run by ONNX Runtime: {one_line(error)}") from error
    return session, taken


def _refuse_foreign_parts(path: Path, model: Any) -> None:
    """Raises InputError for operators that are not ONNX's, and for weights that the file's digest says nothing of."""
    for function in model.functions:
        raise InputError(f"{path} has the custom operator {function.domain}.{function.name}, which is never run")
    for graph in _graphs(model.graph):
        for node in graph.node:
            if node.domain not in _OPERATORS:
                raise InputError(f"{path} has the custom operator {node.domain}.{node.op_type}, which is never run")
        attributes = [attribute for node in graph.node for attribute in node.attribute]
        sparse = [*graph.sparse_initializer, *(t for a in attributes for t in (a.sparse_tensor, *a.sparse_tensors))]
        dense = [*graph.initializer, *(t for a in attributes for t in (a.t, *a.tensors))]
        for tensor in [*dense, *(part for each in sparse for part in (each.values, each.indices))]:
            if tensor.external_data:
                place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
                raise InputError(f"{path} has weights in another file, {place!r}: save it as one file")


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph, and those that its nodes hold, as the branches of a condition."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _graphs(inner)


def _takes_one(path: Path, session: Any, size: int) -> bool:
    """Whether the network takes one image at a time, and not any number."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise InputError(f"{path} must have one input, and has {', '.join(each.name for each in inputs) or 'none'}")
    shape = inputs[0].shape  # of numbers, and of names or None where one is left open
    fixed = [
        has in (wanted, None) or isinstance(has, str) for has, wanted in zip(shape, (1, 3, size, size), strict=False)
    ]
    if inputs[0].type != "tensor(float)" or len(shape) != 4 or not all(fixed):
        raise InputError(
            f"{path}: its input must be (N, 3, {size}, {size}) float32, N being 1 or left open, "
            f"and is {tuple(shape)} {inputs[0].type}"
        )
    return bool(shape[0] == 1)
