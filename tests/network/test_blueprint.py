"""The words and names of the blueprint are those of the modules that it does not import."""

from torch import nn

from mer_pnao.network.blueprint import FUSION_NAMES, SCORER_NAMES, TAKEN
from mer_pnao.network.fusion import FUSIONS
from mer_pnao.network.gathering import SCORERS


def test_every_fusion_and_every_scorer_has_its_name() -> None:
    assert set(FUSION_NAMES) == set(FUSIONS)
    assert set(SCORER_NAMES) == set(SCORERS)


def test_no_set_can_take_the_name_of_what_torch_keeps_beside_it() -> None:
    assert {name for name in dir(nn.ModuleDict()) if not name.startswith("_")} == TAKEN
