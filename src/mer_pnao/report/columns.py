"""The columns of `reports/table.csv`, for those who write it and those who only read it."""

COLUMNS = [
    "system",
    "trainval_com",
    "dis",
    "dim",
    "com",
    "com_low",
    "com_high",
    "p_better_than_baseline",
    "parameters",
    "parameters_ratio",
    "p_better_than_probe",
    "p_sign_flip",  # over the baseline, of fewer than ten speakers
    "uar",
    "wa",
    "macro_f1",
    "clips",
    "speakers",  # 0: not known, so clips were drawn
    "gain_low",  # of Com minus the baseline's
    "gain_high",
    "gain_over_probe_low",
    "gain_over_probe_high",
    "p_sign_flip_over_probe",
    "parameters_total",  # of all fold networks, whose mean decides
    "single_com",  # of a fold network by itself, mean over them
]
SPLIT = "split"  # the last column, where there are further splits
MEASURES = ("trainval_com", "dis", "dim", "com")
SEED_COLUMNS = [
    "seeds",
    *(f"{measure}_{what}" for measure in MEASURES for what in ("mean", "std")),
    # From here on each resample draws a seed, too: they hold for a training with any. Empty with fewer than three.
    "com_seeds_low",
    "com_seeds_high",
    "gain_seeds_low",
    "gain_seeds_high",
    "gain_seeds_over_probe_low",
    "gain_seeds_over_probe_high",
    "p_seeds_better_than_baseline",
    "p_seeds_better_than_probe",
    "p_sign_flip_seeds",
    "p_sign_flip_seeds_over_probe",
]
