"""What commands and stages import: half of a short command's time, so nothing that they do not use."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCIENCE = ("torch", "sklearn", "transformers", "matplotlib")  # what takes longest to import
NOT_MLFLOWS = (*SCIENCE, "scipy.stats", "mlflow.pyfunc", "cv2", "av")  # MLflow imports pandas and scipy.sparse itself
LABELS = "name,discrete,valence,split\na,happy,1,train\nb,sad,-1,test\n"

COMMANDS: dict[str, tuple[str, ...]] = {
    "--help": (*SCIENCE, "scipy", "mlflow", "pandas", "cv2", "av", "pooch", "mer_pnao.params"),
    "table": (*SCIENCE, "scipy", "mlflow", "cv2", "av", "mer_pnao.params"),
    "check": (*SCIENCE, "scipy", "mlflow", "huggingface_hub"),
    "profile": (*SCIENCE, "scipy", "mlflow", "pandas", "cv2", "av", "pooch", "huggingface_hub"),
    "init": (*NOT_MLFLOWS, "mer_pnao.params"),
    "registry": (*NOT_MLFLOWS, "mer_pnao.params"),
}
IMPORTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "mer fetch ravdess": (
        "import mer_pnao.commands.ravdess_archives",
        (*SCIENCE, "scipy", "mlflow", "pandas", "cv2", "av", "huggingface_hub"),
    ),
    "a rollback": (
        "import mer_pnao.tracking.promotion.rollback",
        (*SCIENCE, "mlflow.pyfunc", "safetensors", "mer_pnao.outs", "mer_pnao.params"),
    ),
    "mer predict": ("import mer_pnao.predict", ("sklearn", "scipy", "transformers", "matplotlib", "mlflow")),
    "a speech model": (
        "from mer_pnao.encoders.speech_models import CONFIG_MAPPING, MODEL_MAPPING, without_scipy\n"
        "with without_scipy():\n"
        "    MODEL_MAPPING[CONFIG_MAPPING['hubert']]",
        ("sklearn", "scipy", "matplotlib", "mlflow"),
    ),
    "synthesize": ("import synthesize", (*SCIENCE, "scipy", "mlflow", "pandas")),
    "manifest": ("import manifest", (*SCIENCE, "scipy", "mlflow", "cv2", "av")),
    "import_features": ("import import_features", (*SCIENCE, "scipy", "mlflow", "cv2", "av")),
    "features": ("import features", ("sklearn", "scipy", "transformers", "matplotlib", "mlflow")),
    "train": ("import train", ("transformers", "matplotlib", "mlflow", "cv2", "av")),
    "ensemble": ("import ensemble", ("sklearn", "scipy", "transformers", "matplotlib", "mlflow", "cv2", "av")),
    "evaluate": ("import evaluate", ("torch", "transformers", "mlflow", "cv2", "av")),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough of a project for the commands to get to their work."""
    root = tmp_path_factory.mktemp("project")
    (root / "params.yaml").write_bytes((ROOT / "profiles/demo.yaml").read_bytes())
    (root / "profiles").symlink_to(ROOT / "profiles")
    (root / "reports").mkdir()
    (root / "reports/table.csv").write_bytes((ROOT / "reports/table.csv").read_bytes())
    clips = root / "data/demo/clips"
    clips.mkdir(parents=True)
    (clips / "labels.csv").write_text(LABELS)
    for name in ("a", "b"):
        (clips / f"{name}.mp4").touch()
    return root


# What may follow one another in a process, whose imports take the time: who may import more comes later.
CHAINS = (
    ("--help", "table", "manifest", "import_features", "check"),
    ("profile", "mer fetch ravdess", "synthesize"),
    ("a rollback", "init", "registry"),
    ("ensemble", "features", "mer predict", "a speech model"),
    ("train",),
    ("evaluate",),
)


def code_of(step: str) -> str:
    if step in IMPORTS:
        return IMPORTS[step][0]
    end = 2 if step == "check" else 0  # the clips are empty files
    return f"try:\n    app([{step!r}])\nexcept SystemExit as end:\n    assert end.code == {end}"


@pytest.mark.parametrize("chain", CHAINS, ids=" then ".join)
def test_what_starts_often_imports_what_it_uses(chain: tuple[str, ...], project: Path) -> None:
    code = [f"import sys\nsys.path.append({str(ROOT / 'pipelines')!r})\nfrom mer_pnao.cli import app"]
    for step in chain:
        heavy = COMMANDS[step] if step in COMMANDS else IMPORTS[step][1]
        found = f"*(name for name in {heavy} if name in sys.modules)"
        code += [code_of(step), f"print('\\nimported by', {step!r}, {found})"]
    command = [sys.executable, "-c", "\n".join(code)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("imported by ")]
    assert said == [f"imported by {step}" for step in chain]


def test_no_start_is_left_out() -> None:
    assert sorted(step for chain in CHAINS for step in chain) == sorted([*COMMANDS, *IMPORTS])
