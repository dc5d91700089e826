"""The words and names of the blueprint are those of the modules that it does not import."""

from torch import nn

from mer_pnao.network.blueprint import SCORER_NAMES, TAKEN
from mer_pnao.network.gathering import SCORERS


def test_every_scorer_has_its_name() -> None:
    assert set(SCORER_NAMES) == set(SCORERS)


def test_no_set_can_take_the_name_of_what_torch_keeps_beside_it() -> None:
    """Other libraries hang methods of their own on torch's modules; those do not count."""
    parts = [vars(of) for of in nn.ModuleDict.__mro__ if of is not object] + [vars(nn.ModuleDict())]
    own = {
        name for part in parts for name, value in part.items() if getattr(value, "__module__", "torch")[:5] == "torch"
    }
    assert {name for name in own if not name.startswith("_")} == TAKEN
