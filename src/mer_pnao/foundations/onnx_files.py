"""Networks of torch as ONNX files. onnx and ONNX Runtime are an optional extra."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mer_pnao.foundations.errors import InputError

_OPSET = 17


def onnx_libraries(asked: str) -> tuple[Any, Any]:
    """onnx and onnxruntime. Raises InputError, saying what has asked for them, where one is not installed."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{asked} needs ONNX Runtime: install mer-pnao[onnx]") from error
    return onnx, onnxruntime


def write_onnx(network: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], path: Path) -> None:
    """Write a network in evaluation mode, of named examples (N, ...) and outputs (N, ...), for any N; opset 17."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the older exporter, which is the one that needs no further package, says so
        torch.onnx.export(
            network.eval(),
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: {0: "N"} for name in (*inputs, *outputs)},
            opset_version=_OPSET,
            dynamo=False,
        )
