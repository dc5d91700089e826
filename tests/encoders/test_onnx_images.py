"""ONNX networks of images, made here, against numpy and torch by hand."""

import json
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, external_data_helper, helper, load, numpy_helper, save
from safetensors.torch import save_file
from torch.nn import functional as F

from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.encoders.manet import MANet
from mer_pnao.encoders.model_folder import checkpoint_digest
from mer_pnao.encoders.onnx_images import load_onnx_images
from mer_pnao.encoders.resnet import ResNetFERPlus
from mer_pnao.extraction.clip_encoders import build_encoder
from mer_pnao.extraction.clip_reader import DecodedClip
from mer_pnao.extraction.shards import Clip, shard_folders
from mer_pnao.foundations.errors import InputError

SIZE, WIDTH = 16, 5
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
RNG = np.random.default_rng(3)
KERNEL, BIAS = RNG.normal(size=(WIDTH, 3, 3, 3)).astype(np.float32), RNG.normal(size=WIDTH).astype(np.float32)
HEAD = RNG.normal(size=(WIDTH, 2)).astype(np.float32)


def network(batch: int | str = "N", size: int | str = SIZE, channels: int = 3) -> ModelProto:
    """A convolution, its mean over the map `pooled` (N, 5, 1, 1), and class scores (N, 2) of that."""
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "bias"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "head"], ["scores"]),
    ]
    kernel = np.resize(KERNEL, (WIDTH, channels, 3, 3))
    weights = {"kernel": kernel, "bias": BIAS, "head": HEAD}
    graph = helper.make_graph(
        nodes,
        "faces",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, channels, size, size])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def written(model: ModelProto, folder: Path) -> Path:
    path = folder / "faces.onnx"
    path.write_bytes(model.SerializeToString())  # `save` refuses some that are written here
    return path


def config(path: Path, **values: object) -> EncoderConfig:
    return EncoderConfig(**({"kind": "onnx", "checkpoint": str(path), "size": SIZE} | values))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


def embedded(prepared: np.ndarray) -> np.ndarray:
    """By hand, from (B, S, S, 3)."""
    pixels = torch.from_numpy(np.ascontiguousarray(prepared.transpose(0, 3, 1, 2)).astype(np.float32))
    return F.conv2d(pixels, torch.from_numpy(KERNEL), torch.from_numpy(BIAS)).mean(dim=(2, 3)).numpy()


@pytest.mark.parametrize("batch", ["N", 1])
@pytest.mark.parametrize(
    ("output", "head"), [("", HEAD), ("scores", HEAD), ("embedding", np.eye(WIDTH)), ("pooled", np.eye(WIDTH))]
)
def test_embeds_as_by_hand_whichever_value_is_asked_for(images, tmp_path, capfd, batch, output, head):
    path = written(network(batch), tmp_path)
    model = load_onnx_images(path, config(path, mean=MEAN, std=STD, output=output))
    assert (model.width, model.crop_side) == (head.shape[1], SIZE)
    ours = model.embed(model.preprocess(images)).numpy()
    np.testing.assert_allclose(ours, embedded((images / 255 - MEAN) / STD) @ head, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(model.embed(model.preprocess(images[1:2])).numpy(), ours[1:2], atol=1e-5)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("values", "by_hand"),
    [
        ({}, lambda x: x / 255),
        ({"scale": 255.0}, lambda x: x),
        ({"colours": "bgr", "mean": MEAN, "std": STD}, lambda x: (x[..., ::-1] / 255 - MEAN) / STD),
        ({"colours": "bgr", "scale": 255.0, "mean": (91.4, 103.8, 131.0)}, lambda x: x[..., ::-1] - (91.4, 103.8, 131)),
        ({"scale": 2.0, "mean": (1, 1, 1)}, lambda x: x / 127.5 - 1),
    ],
)
def test_images_are_prepared_as_the_parameters_say(images, tmp_path, values, by_hand):
    path = written(network(), tmp_path)
    model = load_onnx_images(path, config(path, **values))
    np.testing.assert_allclose(
        model.preprocess(images).numpy(), by_hand(images.astype(np.float64)).transpose(0, 3, 1, 2), atol=1e-4
    )
    larger = np.repeat(np.repeat(images, 2, axis=1), 2, axis=2)
    assert model.preprocess(larger).shape == (3, 3, SIZE, SIZE)


def test_it_is_an_encoder_of_faces_whose_identity_is_the_file_and_its_preparation(images, tmp_path):
    path = written(network(), tmp_path)
    values = {"output": "embedding", "mean": MEAN, "std": STD}
    encoder = build_encoder("faces", config(path, **values))
    assert encoder.sets == {"faces": WIDTH}
    clips = [DecodedClip(images[:2]), DecodedClip(images[2:])]
    frames = embedded((images / 255 - MEAN) / STD)
    expected = [frames[:2].mean(axis=0), frames[2]]
    np.testing.assert_allclose(encoder.encode(clips)["faces"], expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(encoder.encode(clips)["faces"], encoder.encode(clips)["faces"])
    told = encoder.identity
    assert (told["checkpoint_sha256"], told["precision"]) == (checkpoint_digest(path), "float32")
    changes = {"size": 32, "colours": "bgr", "scale": 255.0, "mean": (0.0, 0.0, 1.0), "std": (1.0, 1.0, 2.0)}
    open_sides = written(network(size="S"), tmp_path)
    told = build_encoder("faces", config(open_sides, **values)).identity
    for key, value in ({"output": "pooled"} | changes).items():
        other = build_encoder("faces", config(open_sides, **values | {key: value})).identity
        assert {name for name in told if told[name] != other[name]} == {key}
    json.dumps(dict(told))


def without_shape(name: str) -> object:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def two_outputs(model: ModelProto) -> None:
    model.graph.output.append(without_shape("embedding"))


def two_inputs(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    model.graph.node.append(helper.make_node("Add", ["scores", "mask"], ["masked"]))


def custom(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Gelu", ["scores"], ["more"], domain="com.microsoft"))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def hidden(model: ModelProto) -> None:
    """A custom operator in the branches of a condition."""
    branch = helper.make_graph([helper.make_node("Run", [], ["x"], domain="evil")], "b", [], [without_shape("x")])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["more"], then_branch=branch, else_branch=branch))


def function(model: ModelProto) -> None:
    nodes, opset = [helper.make_node("Relu", ["x"], ["y"])], [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "Relus", ["x"], ["y"], nodes, opset))


def elsewhere(model: ModelProto) -> None:
    external_data_helper.set_external_data(model.graph.initializer[0], "../weights.bin")
    model.graph.initializer[0].ClearField("raw_data")


def constant_elsewhere(model: ModelProto) -> None:
    tensor = numpy_helper.from_array(HEAD, "c")
    external_data_helper.set_external_data(tensor, "/etc/hostname")
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def no_such_operator(model: ModelProto) -> None:
    model.graph.node[0].op_type = "Cnov"


def one_row_for_all(model: ModelProto) -> None:
    """As where the batch of one was written into the graph."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, -1]), "shape"))
    model.graph.node[-1].output[0] = "each"
    model.graph.node.append(helper.make_node("Reshape", ["each", "shape"], ["scores"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (two_outputs, "has the outputs scores, embedding: name the one to take in output"),
        (two_inputs, "must have one input, and has image, mask"),
        (custom, r"has the custom operator com\.microsoft\.Gelu, which is never run"),
        (hidden, r"has the custom operator evil\.Run, which is never run"),
        (function, r"has the custom operator own\.Relus, which is never run"),
        (elsewhere, r"has weights in another file, '\.\./weights\.bin': save it as one file"),
        (constant_elsewhere, "has weights in another file, '/etc/hostname'"),
        (no_such_operator, "cannot be run by ONNX Runtime: .*Cnov"),
        (one_row_for_all, r"scores must be \(N, D\) or \(N, D, 1, 1\) for N images, and is \(1, 4\) for 2"),
    ],
)
def test_a_network_that_cannot_be_taken_is_refused(tmp_path, capfd, change, message):
    model = network()
    change(model)
    path = written(model, tmp_path)
    with pytest.raises(InputError, match=message) as refusal:
        load_onnx_images(path, config(path))
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("shape", "values", "message"),
    [
        ({}, {"size": 32}, r"its input must be \(N, 3, 32, 32\) float32, .* and is \('N', 3, 16, 16\) tensor\(float\)"),
        ({"batch": 4}, {}, r"N being 1 or left open, and is \(4, 3, 16, 16\)"),
        ({"channels": 1}, {}, r"and is \('N', 1, 16, 16\)"),
        ({}, {"output": "map"}, r"map must be \(N, D\) or \(N, D, 1, 1\) for N images, and is \(2, 5, 14, 14\) for 2"),
        ({}, {"output": "absent"}, "has no value 'absent' for output; its outputs are scores"),
    ],
)
def test_images_or_embeddings_of_another_shape_are_refused(tmp_path, shape, values, message):
    path = written(network(**shape), tmp_path)
    with pytest.raises(InputError, match=message):
        load_onnx_images(path, config(path, **values))


@pytest.mark.parametrize("content", [b"", b"no network", b"\x08\x0a"])
def test_what_is_no_network_is_refused(tmp_path, content):
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.onnx (is not a readable ONNX file|has the outputs none)"):
        load_onnx_images(path, config(path))
    with pytest.raises(InputError, match="is not a readable ONNX file"):
        load_onnx_images(tmp_path, config(tmp_path))


def test_without_the_runtime_the_way_out_is_named(tmp_path, monkeypatch):
    path = written(network(), tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"needs ONNX Runtime: install mer-pnao\[onnx\]"):
        load_onnx_images(path, config(path))


def test_the_weights_of_one_file_are_those_of_two(images, tmp_path):
    """The way out that the refusal names."""
    save(network(), tmp_path / "two.onnx", save_as_external_data=True, size_threshold=0, location="two.data")
    with pytest.raises(InputError, match=r"has weights in another file, 'two\.data'"):
        load_onnx_images(tmp_path / "two.onnx", config(tmp_path / "two.onnx"))
    save(load(tmp_path / "two.onnx"), tmp_path / "one.onnx")
    one, plain = tmp_path / "one.onnx", written(network(), tmp_path)
    models = [load_onnx_images(path, config(path)) for path in (one, plain)]
    ours, theirs = (model.embed(model.preprocess(images)).numpy() for model in models)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("kind", "width"), [("manet", 8), ("resnet", 4)])
def test_our_own_networks_give_the_same_vectors_there(tmp_path, kind, width):
    torch.manual_seed(0)
    made = MANet(width) if kind == "manet" else ResNetFERPlus(width, (1, 1, 1, 1))
    with torch.no_grad():
        for norm in (module for module in made.modules() if isinstance(module, torch.nn.BatchNorm2d)):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    save_file(made.state_dict(), tmp_path / "own.safetensors")
    config = EncoderConfig(kind, "own.safetensors", precision="fp32", frames=3)
    encoders = [build_encoder(kind, each, tmp_path) for each in (config, replace(config, runtime="onnx"))]
    crops = np.random.default_rng(0).integers(0, 256, (7, 256, 256, 3), dtype=np.uint8)
    clips = [DecodedClip(crops[:3]), DecodedClip(crops[3:4]), DecodedClip(crops[4:])]
    ours, theirs = (encoder.encode(clips)[kind] for encoder in encoders)
    assert theirs.dtype == np.float32
    np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5 * np.abs(ours).max())
    assert (ours != theirs).any(), "both ran in torch"
    assert [encoder.identity.get("runtime") for encoder in encoders] == [None, "onnx"]
    clip = Clip("a", tmp_path / "own.safetensors")
    assert not shard_folders([clip], encoders[0], tmp_path).keys() & shard_folders([clip], encoders[1], tmp_path).keys()


def test_the_runtime_is_for_our_own_image_networks_in_float32():
    with pytest.raises(ValueError, match="runtime is for manet and resnet, got 'onnx' for image"):
        EncoderConfig("image", "x", runtime="onnx")
    with pytest.raises(ValueError, match="precision must be fp32 or auto for ONNX Runtime, got 'bf16'"):
        EncoderConfig("resnet", "x", runtime="onnx", precision="bf16")
    assert "runtime" in EncoderConfig("resnet", "x").unread()
    assert "runtime" not in EncoderConfig("resnet", "x", runtime="onnx").unread()


def test_another_version_of_the_runtime_makes_shards_of_its_own(tmp_path, monkeypatch):
    path = written(network(), tmp_path)
    encoder, clip = build_encoder("faces", config(path), tmp_path), Clip("a", path)
    before = set(shard_folders([clip], encoder, tmp_path))
    assert before == set(shard_folders([clip], encoder, tmp_path))
    monkeypatch.setattr("mer_pnao.extraction.shards.version", lambda name: "0" if "onnx" in name else version(name))
    assert not before & set(shard_folders([clip], encoder, tmp_path))
