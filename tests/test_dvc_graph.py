"""The pipeline files: each stage depends on exactly the code that it imports and reads its params."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
FILES = (ROOT / "dvc.yaml", *(ROOT / f"pipelines/{name}/dvc.yaml" for name in ("controls", "nested", "search")))
WORKERS = ("search/trial.py",)  # what the processes that the stage `search` starts do with params
# Not dependencies, and why: the values of params.yaml are tracked themselves; what MLflow is told changes no output.
LEFT_OUT = ("mer_pnao.params", "mer_pnao.tracking")
MOST, MOST_OF_STAGE = 51, 12  # code dependencies of dvc.yaml, and of a stage; a folder is one line


def stages() -> dict[str, dict[str, object]]:
    """Every stage of every pipeline file; they all run in the root, as their deps are written."""
    found: dict[str, dict[str, object]] = {}
    for path in FILES:
        content = YAML(typ="safe", pure=True).load(path.read_text())
        for name, stage in content["stages"].items():
            assert name not in found, f"two pipeline files have a stage {name}"
            assert (path.parent / stage.get("wdir", ".")).resolve() == ROOT, path
            found[name] = stage.get("do", stage)
    return found


def module_file(module: str) -> Path | None:
    base = SRC / Path(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.startswith("mer_pnao") and module_file(name)}


def closure(path: Path) -> set[Path]:
    files, waiting = set(), [path]
    while waiting:
        here = waiting.pop()
        files.add(here)
        for module in imported(here):
            file = module_file(module)
            if module.startswith(LEFT_OUT) or file is None or file in files:
                continue
            waiting.append(file)
    return {file for file in files if file.read_text().strip()}  # an empty __init__.py decides nothing


@pytest.mark.parametrize("name", stages())
def test_deps_are_the_import_closure(name: str) -> None:
    stage = stages()[name]
    script = re.search(r"pipelines/\w+\.py", str(stage["cmd"]))
    assert script
    code = [ROOT / dep for dep in stage["deps"] if str(dep).startswith(("src/", "pipelines/"))]  # type: ignore[attr-defined]
    assert all(path.exists() for path in code), "a dep that does not exist"
    needed = closure(ROOT / script[0])
    missing = {file for file in needed if not any(file == dep or dep in file.parents for dep in code)}
    assert not missing, "imported, but not in deps"
    idle = {dep for dep in code if not any(file == dep or dep in file.parents for file in needed)}
    assert not idle, "in deps, but not imported"


def params_read(tree: ast.AST, called: dict[str, ast.FunctionDef]) -> set[str]:
    """The sections of params that some code reads, itself or in the functions of the glue that it calls."""
    read = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "params":
            read.add({"data": "profile", "blueprint": "network"}.get(node.attr, node.attr))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in called:
            rest = {name: function for name, function in called.items() if name != node.func.id}
            read |= params_read(called[node.func.id], rest)
    return read


@pytest.mark.parametrize("name", stages())
def test_params_cover_what_the_script_reads(name: str) -> None:
    stage = stages()[name]
    declared = {str(param).split(".")[0] for param in stage["params"]}  # type: ignore[attr-defined]
    glue = [
        ast.parse((SRC / f"mer_pnao/{file}").read_text())
        for file in (
            *(f"systems/{name}.py" for name in ("train", "probe", "final", "optimisation", "dataset")),
            "controls/run.py",
            "nested/run.py",
            "search/run.py",
            *WORKERS,
        )
    ]
    functions = {node.name: node for tree in glue for node in tree.body if isinstance(node, ast.FunctionDef)}
    script = ROOT / str(re.search(r"pipelines/\w+\.py", str(stage["cmd"]))[0])  # type: ignore[index]
    read = params_read(ast.parse(script.read_text()), functions)
    if name == "search":
        read |= set().union(*(params_read(tree, functions) for tree in glue[-len(WORKERS) :]))
    if name == "train":
        read -= {"pnao"}  # the dense systems have no rounds, and their alpha is zero whatever params say
    assert read == declared, f"{name} reads {read}"


def test_every_stage_has_outs_and_every_script_a_stage() -> None:
    scripts = {re.search(r"pipelines/(\w+)\.py", str(stage["cmd"]))[1] for stage in stages().values()}  # type: ignore[index]
    assert scripts == {path.stem for path in (ROOT / "pipelines").glob("*.py")}
    assert all(stage.get("outs") for stage in stages().values())


def test_what_is_compared_is_committed_with_git() -> None:
    """So that HEAD has numbers for `dvc metrics diff`, `dvc plots diff` and `dvc exp show`."""
    evaluate = stages()["evaluate"]
    uncached = {
        kind: [path for out in evaluate[kind] if isinstance(out, dict) for path in out]  # type: ignore[attr-defined]
        for kind in ("outs", "metrics", "plots")
    }
    compared = ["reports/metrics.json", "reports/rounds.csv", "reports/table.csv"]
    # among `outs` one that is not cached would switch the run-cache of the stage off
    assert uncached == {"outs": [], "metrics": compared[:1], "plots": compared[1:]}
    options = [each for kind in ("metrics", "plots") for out in evaluate[kind] for each in out.values()]  # type: ignore[attr-defined]
    assert all(each["cache"] is False for each in options)
    others = ["reports/systems.json", "reports/index.html", "reports/predictions/enf.csv", "dvc_plots/index.html"]
    asked = subprocess.run(
        ["git", "check-ignore", "--no-index", *compared, *others], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert asked.stdout.split() == others


def test_a_stage_runs_the_code_beside_it() -> None:
    """Not the installed package, which is the workspace's: an experiment that waits in the queue has its own."""
    for name, stage in stages().items():
        assert str(stage["cmd"]).startswith("PYTHONPATH=$PWD/src python pipelines/"), name


def test_the_lists_of_code_stay_short() -> None:
    code = {name: [d for d in stage["deps"] if str(d).startswith("src/")] for name, stage in stages().items()}  # type: ignore[attr-defined]
    assert max(map(len, code.values())) <= MOST_OF_STAGE
    root = YAML(typ="safe", pure=True).load(FILES[0].read_text())["stages"]
    assert sum(len(code[name]) for name in root) <= MOST
