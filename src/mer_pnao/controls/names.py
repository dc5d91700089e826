"""What the controls are run with, and what they are called."""

PNAO, DENSE = "pnao", "dense"
GRADUAL = ("weight_rewinding", "fine_tuning", "random", "unstructured")  # shrink in every round, as PNAO does
AT_ONCE = ("scratch", "one_shot_l1", "group_norm")  # have their final size from the first or second segment on
METHODS = (PNAO, DENSE, *GRADUAL, *AT_ONCE)
TITLES = {
    PNAO: "PNAO",
    "dense": "Dense, trained on",
    "weight_rewinding": "Weight rewinding",
    "fine_tuning": "Fine-tuning",
    "random": "Random nodes",
    "unstructured": "Unstructured",
    "scratch": "From scratch",
    "one_shot_l1": "One-shot L1",
    "group_norm": "GroupNormPruner",
}
