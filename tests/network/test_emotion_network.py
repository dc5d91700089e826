"""The network against a plain numpy forward pass, written from the formulas."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from mer_pnao.network.blueprint import GATHERED, OUTPUTS, Blueprint, NetworkConfig
from mer_pnao.network.decoding import JointDecoder
from mer_pnao.network.emotion_network import FUSIONS, EmotionNetwork, from_state
from mer_pnao.network.gathering import SCORERS
from mer_pnao.network.modality import ModalityMLP

PlainForward = Callable[[Blueprint, dict[str, np.ndarray], dict[str, np.ndarray]], dict[str, np.ndarray]]


def blueprint(scorer: str = "tanh", fusion: str = "entropy") -> Blueprint:
    widths = {"a": 5, "b": 3, "c": 2, "v": 4, "w": 6}
    return Blueprint(widths, ("a", "b", "c"), ("v", "w"), 4, fusion, NetworkConfig(8, 6, 0.3, scorer, temperature=2.5))


def features(plan: Blueprint, clips: int = 7) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return {name: torch.randn(clips, width, dtype=torch.float64) for name, width in plan.widths.items()}


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("branches", [1, 2, 3])
@pytest.mark.parametrize("visual", [(), ("v",), ("v", "w")])
def test_forward_follows_the_formulas(
    scorer: str, fusion: str, branches: int, visual: tuple[str, ...], plain_forward: PlainForward
) -> None:
    torch.manual_seed(branches)
    dense = replace(blueprint(scorer, fusion), acoustic=("a", "b", "c")[:branches], visual=visual)
    dense = replace(dense, widths={name: dense.widths[name] for name in (*dense.acoustic, *visual)})
    for gathered, output in product(GATHERED, OUTPUTS):
        plan = replace(dense, gathered=gathered, config=replace(dense.config, output=output))
        network = EmotionNetwork(plan).double().eval()
        clips = features(plan)
        network.fit_zscore({name: 3 * values + 1 for name, values in clips.items()})
        state = {name: value.numpy() for name, value in network.state_dict().items()}
        want = plain_forward(plan, state, {name: values.numpy() for name, values in clips.items()})
        got = network(clips)._asdict()
        assert set(got) == set(want)
        for name, values in want.items():
            np.testing.assert_allclose(got[name].detach().numpy(), values, rtol=1e-10, atol=1e-12, err_msg=name)


def test_decoder_listens_to_the_emotion_posterior() -> None:
    """With W_hv = 0 the valence depends on the fused vector through the posterior alone (eq. 4)."""
    torch.manual_seed(0)
    decoder = JointDecoder(4, 3)
    with torch.no_grad():
        decoder.valence_of_fused.weight.zero_()
        decoder.valence_of_fused.bias.zero_()
        decoder.emotion.weight.zero_()
    _, valence = decoder(torch.randn(5, 4))
    assert torch.allclose(valence, valence[0].expand(5))


def test_zscore_of_the_training_clips_is_standard_and_survives_constants() -> None:
    network = EmotionNetwork(blueprint())
    train = {name: values.float() for name, values in features(blueprint(), 50).items()}
    train["a"][:, 2] = 3.0
    network.fit_zscore(train)
    scaled = network.zscore["a"](train["a"])
    assert torch.allclose(scaled.mean(0), torch.zeros(5), atol=1e-5)
    assert torch.allclose(scaled.std(0, correction=0), torch.tensor([1.0, 1, 0, 1, 1]), atol=1e-5)


def test_zscore_is_relative_and_nothing_reaches_a_million() -> None:
    """Small units are scaled, float32's rounding of a constant is not, and a broken value stays near the others."""
    network = EmotionNetwork(blueprint())
    train = {name: values.float() for name, values in features(blueprint(), 50).items()}
    unit = train["a"][:, 0].clone()
    train["a"][:, 1] = unit * 1e-12
    train["a"][:, 2] = 1e6
    train["a"][::2, 2] += 0.0625  # float32's next number
    network.fit_zscore(train)
    scale = network.zscore["a"]
    assert torch.allclose(scale(train["a"])[:, 1], scale(train["a"])[:, 0], atol=1e-5)
    assert torch.equal(scale(train["a"])[:, 2], torch.zeros(50))
    broken = torch.tensor([[1e9, 5e-12, -1e9, 0.0, -3e38]])
    assert scale(broken)[0, [0, 2, 4]].tolist() == [100.0, 0.0, -100.0]
    assert 4 < float(scale(broken)[0, 1]) < 7


def test_no_training_clip_of_ten_thousand_is_cut() -> None:
    """Samuelson's inequality: one odd clip among N lies sqrt(N - 1) deviations off, and none farther."""
    network = EmotionNetwork(blueprint())
    train = {name: torch.zeros(10_000, width) for name, width in blueprint().widths.items()}
    train["a"][7, 0] = 1.0
    network.fit_zscore(train)
    assert float(network.zscore["a"](train["a"])[7, 0]) == pytest.approx(9999**0.5, rel=1e-5)


def test_networks_of_earlier_versions_are_read() -> None:
    """They did not record the scorers' nodes, which were never pruned."""
    for scorer in SCORERS:
        network = EmotionNetwork(blueprint(scorer)).eval()
        state = network.state_dict().items()
        before = {key: value for key, value in state if ".scorer." not in key or not key.endswith("_kept")}
        again = from_state(network.blueprint, before)
        inputs = {name: values.float() for name, values in features(blueprint()).items()}
        for got, want in zip(again(inputs), network(inputs), strict=True):
            assert torch.equal(got, want)


def test_state_dict_rebuilds_the_network_and_its_statistics() -> None:
    torch.manual_seed(3)
    network = EmotionNetwork(blueprint()).eval()
    network.fit_zscore({name: values.float() for name, values in features(blueprint(), 20).items()})
    again = from_state(network.blueprint, network.state_dict())
    inputs = {name: values.float() for name, values in features(blueprint()).items()}
    for got, want in zip(again(inputs), network(inputs), strict=True):
        assert torch.equal(got, want)


def test_prunable_layers_are_the_modality_layers_and_on_request_the_scorers_hidden_ones() -> None:
    names = set(EmotionNetwork(blueprint(fusion="attention")).prunable())
    expected = {
        f"branches.{branch}.gathering.modalities.{name}.{layer}"
        for branch in ("a", "b", "c")
        for name in (branch, "v", "w")
        for layer in ("inner", "outer")
    }
    assert names == expected
    hidden = {"tanh": {"project"}, "linear": set(), "mlp": {"inner", "outer"}, "mean": set()}
    for scorer, layers in hidden.items():
        asked = set(EmotionNetwork(blueprint(scorer)).prunable(scorers=True))
        assert asked == expected | {
            f"branches.{branch}.gathering.scorer.{layer}" for branch in "abc" for layer in layers
        }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": 0}, r"hidden must lie in \[1, 65536\], got 0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 0.95\], got 1.0"),
        ({"scorer": "max"}, "scorer must be one of linear, mean, mlp, tanh, got 'max'"),
    ],
)
def test_config_refuses_and_names_the_value(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**change)  # type: ignore[arg-type]


def test_a_branch_may_gather_every_set_its_own_first() -> None:
    widths = {"a": 3, "b": 4, "face": 5, "body": 2}
    blueprint = Blueprint(widths, ("a", "b"), ("face", "body"), 3, "entropy", gathered="all")
    assert blueprint.branches() == {"a": ("a", "b", "face", "body"), "b": ("b", "a", "face", "body")}
    own = Blueprint(widths, ("a", "b"), ("face", "body"), 3, "entropy")
    assert own.branches() == {"a": ("a", "face", "body"), "b": ("b", "face", "body")}
    torch.manual_seed(0)
    network = EmotionNetwork(blueprint).eval()
    features = {name: torch.randn(6, width) for name, width in widths.items()}
    before = network(features).log_posteriors
    after = network({**features, "b": torch.randn(6, 4)}).log_posteriors
    assert not torch.allclose(before[0], after[0]), "branch a reads the set b"


def test_a_linear_output_keeps_the_sign_of_h() -> None:
    torch.manual_seed(0)
    nodes = torch.arange(7), torch.arange(4)
    linear, relu = (ModalityMLP(3, *nodes, 0.0, output).double() for output in ("linear", "relu"))
    relu.load_state_dict(linear.state_dict())
    p = {name: value.numpy() for name, value in linear.state_dict().items()}
    x = torch.randn(6, 3, dtype=torch.double)
    inner = np.maximum(x.numpy() @ p["inner.weight"].T + p["inner.bias"], 0)
    expected = inner @ p["outer.weight"].T + p["outer.bias"]
    np.testing.assert_allclose(linear(x).detach().numpy(), expected, rtol=1e-12)
    assert (expected < 0).any()
    np.testing.assert_allclose(relu(x).detach().numpy(), np.maximum(expected, 0), rtol=1e-12)


def test_the_first_layers_multiply_in_the_type_of_the_features_and_the_rest_in_that_of_the_weights() -> None:
    torch.manual_seed(0)
    mlp = ModalityMLP(30, torch.arange(7), torch.arange(4), 0.0, "linear")
    x = torch.randn(6, 30)
    rounded = deepcopy(mlp)
    with torch.no_grad():
        for parameter in rounded.inner.parameters():
            parameter.copy_(parameter.bfloat16())
        exact = rounded.inner(x.bfloat16().float()).bfloat16().float()
    half = mlp.inner(x.bfloat16())
    assert half.dtype == mlp(x.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=2**-7, atol=2**-9)  # one rounding more or less
    assert not torch.equal(half, mlp.inner(x))
