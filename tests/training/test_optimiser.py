"""SparseAdamW against torch's AdamW with the L1 norm in the autograd graph."""

import pytest
import torch
from torch import Tensor, nn

from mer_pnao.network.emotion_network import Blueprint, EmotionNetwork
from mer_pnao.training import optimiser
from mer_pnao.training.examples import Examples
from mer_pnao.training.fit import Fitted, TrainingConfig, fit
from mer_pnao.training.optimiser import SparseAdamW

ALPHA, DECAY = 0.02, 0.1
RATES = (0.01, 0.03, 0.002, 0.0005)


class Net(nn.Module):
    """Two matrices of different sizes, their biases, a parameter that no loss reaches and one without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.large, self.small = nn.Linear(8, 6), nn.Linear(6, 2)
        self.unused = nn.Parameter(torch.ones(3))
        self.frozen = nn.Parameter(torch.ones(()), requires_grad=False)

    def loss(self, step: int) -> Tensor:
        x = torch.randn(5, 8, generator=torch.Generator().manual_seed(step))
        return self.small(self.large(x).tanh()).square().sum() * self.frozen  # type: ignore[no-any-return]

    def split(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        matrices = [self.large.weight, self.small.weight]
        return matrices, [self.large.bias, self.small.bias, self.unused, self.frozen]


def reference() -> Net:
    net = Net()
    matrices, others = net.split()
    adamw = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}], foreach=False
    )
    for step, rate in enumerate(RATES):
        for group in adamw.param_groups:
            group["lr"] = rate
        adamw.zero_grad()
        (net.loss(step) + ALPHA * sum(matrix.abs().sum() for matrix in matrices)).backward()
        adamw.step()
    return net


@pytest.mark.parametrize("large", [1, 40, 10**9])  # both matrices step in the backward pass, one of them, none
@pytest.mark.parametrize("change", [False, True])
def test_the_updates_are_those_of_adamw_with_the_norm_in_the_graph(
    large: int, change: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimiser, "LARGE", large)
    net, seen = Net(), []

    def look() -> None:
        seen.append([parameter.grad is not None for parameter in (*net.split()[0], *net.split()[1])])

    with SparseAdamW(*net.split(), DECAY, ALPHA, [look] if change else []) as adamw:
        for step, rate in enumerate(RATES):
            adamw.start(rate)
            net.loss(step).backward()
            adamw.finish()
            assert all(parameter.grad is None for parameter in net.parameters())
    for (name, value), want in zip(net.named_parameters(), reference().parameters(), strict=True):
        torch.testing.assert_close(value, want, rtol=1e-5, atol=1e-7, msg=name)
    assert seen == ([[True, True, True, True, False, False]] * len(RATES) if change else [])


def test_a_change_of_the_gradients_counts_the_sparsity_term_included() -> None:
    net = Net()
    before = [parameter.detach().clone() for parameter in net.parameters()]

    def forget() -> None:
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()

    with SparseAdamW(*net.split(), 0.0, ALPHA, [forget]) as adamw:
        adamw.start(0.1)
        net.loss(0).backward()
        adamw.finish()
    assert all(torch.equal(value, old) for value, old in zip(net.parameters(), before, strict=True))


def test_no_hook_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimiser, "LARGE", 1)
    net = Net()
    with SparseAdamW(*net.split(), DECAY, ALPHA) as adamw:
        adamw.start(0.1)
    before = net.large.weight.detach().clone()
    net.loss(0).backward()
    assert net.large.weight.grad is not None
    assert torch.equal(net.large.weight, before)


def test_when_a_matrix_is_stepped_changes_no_bit(
    blueprint: Blueprint, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(large: int) -> Fitted:
        monkeypatch.setattr(optimiser, "LARGE", large)
        torch.manual_seed(0)
        return fit(EmotionNetwork(blueprint), examples, examples, TrainingConfig(epochs=2), 1e-3, seed=0)

    at_once, waiting = trained(1), trained(10**9)
    assert at_once.curves == waiting.curves
    assert all(torch.equal(at_once.state[name], waiting.state[name]) for name in waiting.state)
