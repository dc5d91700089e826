"""What the outputs are called, for those who write them and those who only read them."""

SYSTEMS = ("linear_probe", "baseline", "enf", "pnao", "enf_pnao", "final")  # the rows of Table 1, in order
POSTERIOR, WEIGHT = "posterior_", "weight_"  # prefixes of predictions.csv's columns, before a label or a branch
