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
]
SPLIT = "split"  # the last column, where there are further splits
MEASURES = ("trainval_com", "dis", "dim", "com")
SEED_COLUMNS = ["seeds", *(f"{measure}_{what}" for measure in MEASURES for what in ("mean", "std"))]
