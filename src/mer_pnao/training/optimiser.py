"""AdamW with the sparsity term, which steps a large matrix as soon as its gradient is there."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import torch
from torch import nn

from mer_pnao.training.objective import add_sparsity_gradient

# From this size on a matrix is stepped within the backward pass: its gradient is then still in the processor's cache,
# and the next gradient takes its memory. Smaller ones cost less in one call for all of them.
LARGE = 2**16


class SparseAdamW:
    """AdamW (Loshchilov and Hutter 2019; beta 0.9 and 0.999, eps 1e-8) of a loss plus alpha ||matrices||_1 (eq. 8).

    The sparsity term and the decoupled weight decay act on the matrices alone. A step is `start`, the backward pass of
    the loss, `finish`. Each parameter must take part in the loss once. `changes` are called in `finish` and may change
    the gradients, which then all wait for it; the updates are the same. As a context it leaves no hooks behind.
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        others: Sequence[nn.Parameter],
        weight_decay: float,
        alpha: float,
        changes: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._alpha, self._rate, self._changes = alpha, 0.0, changes
        large = [matrix for matrix in matrices if matrix.numel() >= LARGE and not changes]
        at_once = {id(matrix) for matrix in large}
        self._matrices = [matrix for matrix in matrices if id(matrix) not in at_once]
        self._waiting = (_AdamW(self._matrices, weight_decay), _AdamW(others, 0.0))
        self._hooks = [
            matrix.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                self._stepping(_AdamW([matrix], weight_decay))
            )
            for matrix in large
        ]

    def start(self, rate: float) -> None:
        """Take the step's learning rate."""
        self._rate = rate

    def finish(self) -> None:
        """Step what the backward pass has left, and forget the gradients."""
        add_sparsity_gradient(self._matrices, self._alpha)
        for change in self._changes:
            change()
        for part in self._waiting:
            part.step(self._rate)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def _stepping(self, part: "_AdamW") -> Callable[[nn.Parameter], None]:
        def step(matrix: nn.Parameter) -> None:
            add_sparsity_gradient([matrix], self._alpha)
            part.step(self._rate)

        return step


class _AdamW:
    """The moments of some parameters, and one fused operation that steps all of them."""

    def __init__(self, parameters: Sequence[nn.Parameter], weight_decay: float) -> None:
        self._weight_decay = weight_decay
        self._rows = [
            (parameter, torch.zeros_like(parameter), torch.zeros_like(parameter))
            for parameter in parameters
            if parameter.requires_grad
        ]
        self._step = torch.zeros(())

    def step(self, rate: float) -> None:
        """One update of every parameter that has a gradient (the same ones each time), which is gone afterwards."""
        present = [(row, row[0].grad) for row in self._rows if row[0].grad is not None]
        if not present:
            return
        self._step += 1
        parameters, first, second = ([row[column] for row, _ in present] for column in range(3))
        with torch.no_grad():
            # Called without torch.optim around it, which would cost as much as the arithmetic of a small parameter.
            torch._fused_adamw_(
                parameters,
                [gradient for _, gradient in present],
                first,
                second,
                [],
                [self._step] * len(present),
                amsgrad=False,
                lr=rate,
                beta1=0.9,
                beta2=0.999,
                weight_decay=self._weight_decay,
                eps=1e-8,
                maximize=False,
            )
        for parameter in parameters:
            parameter.grad = None
