import pytest

from mer_pnao.encoders.config import EncoderConfig


def test_sets_are_named_after_the_encoder_and_its_layers():
    assert EncoderConfig("hubert", "x", layers=(18, 20)).sets("voice") == ("voice-18", "voice-20")
    assert EncoderConfig("manet", "x").sets("manet") == ("manet",)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "bert"}, "kind must be one of hubert, image, manet, onnx, resnet, speech, text, got 'bert'"),
        ({"precision": "fp8"}, "precision must be one of auto, bf16, fp32, got 'fp8'"),
        ({"order": "up"}, "order must be one of forward, reverse, got 'up'"),
        ({"frames": 0}, r"frames must lie in \[1, 100000\], got 0"),
        ({"batch": 257}, r"batch must lie in \[1, 256\], got 257"),
        ({"checkpoint": ""}, "checkpoint must name a file or folder, got ''"),
        ({"layers": (1,)}, r"layers must be empty for manet, got \(1,\)"),
        ({"pool": "max"}, "pool must be one of cls, mean, pooled, got 'max'"),
        ({"colours": "grb"}, "colours must be one of bgr, rgb, got 'grb'"),
        ({"size": 7}, r"size must lie in \[8, 2048\], got 7"),
        ({"scale": 0.0}, r"scale must be greater than 0, got 0\.0"),
        ({"mean": (0.5, 0.5)}, r"mean must have a value for each of the three colours, got \(0\.5, 0\.5\)"),
        ({"mean": (0.0, 0.0, float("nan"))}, r"mean must lie in \[-1000000, 1000000\], got nan"),
        ({"std": (1.0, 0.0, 1.0)}, r"std must lie in \[1e-06, 1000000\], got 0\.0"),
        ({"kind": "onnx", "precision": "bf16"}, "precision must be fp32 or auto for ONNX Runtime, got 'bf16'"),
        ({"kind": "onnx", "layers": (1,)}, r"layers must be empty for onnx, got \(1,\)"),
        ({"batch_seconds": -1.0}, r"batch_seconds must lie in \[1, 3600\], got -1"),
        ({"window_seconds": 0.5}, r"window_seconds must lie in \[1, 3600\], got 0.5"),
        ({"kind": "speech"}, r"layers must name at least one layer and none twice, got \(\)"),
        ({"kind": "image", "layers": (1,)}, r"layers must be empty for image, got \(1,\)"),
        ({"kind": "hubert"}, r"layers must name at least one layer and none twice, got \(\)"),
        ({"kind": "hubert", "layers": (3, 3)}, r"none twice, got \(3, 3\)"),
        ({"kind": "hubert", "layers": (-1,)}, r"layers must lie in \[0, 96\], got -1"),
    ],
)
def test_wrong_values_are_refused_by_key_value_and_range(values, message):
    with pytest.raises(ValueError, match=message):
        EncoderConfig(**({"kind": "manet", "checkpoint": "x"} | values))
