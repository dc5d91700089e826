"""A cache as the hub's client lays it out, and no network."""

import os
from pathlib import Path

import huggingface_hub.constants
import pytest

from mer_pnao.encoders import hub
from mer_pnao.encoders.hub import fetch, resolve
from mer_pnao.encoders.hub_name import hub_name
from mer_pnao.encoders.model_folder import checkpoint_digest
from mer_pnao.foundations.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b'{"model_type": "hubert"}', "pytorch_model.bin": b"weights", "README.md": b"read me"}


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """`lab/voice` with one commit, which its branch main and its tag v1 name; offline."""
    root = tmp_path / "cache"
    repository = root / "models--lab--voice"
    snapshot = repository / "snapshots" / COMMIT
    for folder in (snapshot, repository / "refs", repository / "blobs"):
        folder.mkdir(parents=True)
    for name, content in FILES.items():
        blob = repository / "blobs" / f"blob-{name}"
        blob.write_bytes(content)
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
    for name in ("main", "v1"):
        (repository / "refs" / name).write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return root


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("lab/voice@main", "lab/voice", "main"),
        ("TencentGameMate/chinese-hubert-large@refs/pr/1", "TencentGameMate/chinese-hubert-large", "refs/pr/1"),
        ("data/hub/lab/voice_2.0@v1.5", "lab/voice_2.0", "v1.5"),
        ("/data/hub/lab/voice@main", "lab/voice", "main"),
    ],
)
def test_a_name_is_the_end_of_a_checkpoint(text, repository, revision):
    assert hub_name(text) == (repository, revision)


@pytest.mark.parametrize("text", ["lab/voice", "voice@main", "data/demo/encoders/hubert", "lab/voice@", "lab/vo ice@x"])
def test_what_names_nothing_on_the_hub(text):
    assert hub_name(text) is None


@pytest.mark.parametrize("revision", ["main", "v1", COMMIT])
def test_a_name_is_read_from_the_cache_at_its_revision(cache, revision):
    folder = resolve(f"lab/voice@{revision}")
    assert folder == cache / "models--lab--voice" / "snapshots" / COMMIT


def test_a_folder_comes_before_the_cache(cache, tmp_path):
    (tmp_path / "lab" / "voice@main").mkdir(parents=True)
    assert resolve("lab/voice@main", tmp_path) == tmp_path / "lab" / "voice@main"


@pytest.mark.parametrize("checkpoint", ["lab/voice@v2", "lab/other@main", "data/hub/lab/other@main"])
def test_what_is_not_in_the_cache_is_refused_with_the_way_out(cache, checkpoint):
    with pytest.raises(InputError, match=rf"^{checkpoint}: not there, and .* `mer fetch` downloads it$"):
        resolve(checkpoint)


def test_half_a_download_is_no_checkpoint(cache):
    (cache / "models--lab--voice" / "snapshots" / COMMIT / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match="not whole in the Hugging Face cache"):
        resolve("lab/voice@main")


def test_what_is_neither_a_path_nor_a_name_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"absent: no such checkpoint, and no name of the form"):
        resolve("absent", tmp_path)


def test_fetching_offline_is_one_sentence(cache):
    with pytest.raises(InputError, match=r"^lab/other@main cannot be downloaded: [^\n]+$"):
        fetch("lab/other@main")
    with pytest.raises(InputError, match="'voice' is no name of the form"):
        fetch("voice")


def test_fetching_puts_what_is_loaded_into_the_folder_and_replaces_what_was_there(cache, tmp_path):
    name = "data/hub/lab/voice@main"
    assert fetch("lab/voice@main", tmp_path) == resolve("lab/voice@main")
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / "stale").touch()
    folder = fetch(name, tmp_path)
    assert folder == tmp_path / name
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        key: FILES[key] for key in ("config.json", "pytorch_model.bin")
    }
    assert not any(path.is_symlink() for path in folder.iterdir())  # DVC would follow them out of the project
    assert checkpoint_digest(folder) == checkpoint_digest(resolve("lab/voice@main"))


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_only_one_kind_of_weights_is_downloaded(cache, tmp_path, monkeypatch, kind):
    """The client is replaced by one that copies what the patterns allow from what a repository holds."""
    from fnmatch import fnmatch

    held = ["config.json", "preprocessor_config.json", "pytorch_model.bin", "tf_model.h5", "fairseq.pt", "README.md"]
    held = held if kind == "pytorch_model.bin" else [*held, kind]
    asked = []

    def download(repository, revision, allow_patterns=None, local_files_only=False):
        if local_files_only:
            raise hub.LocalEntryNotFoundError("nothing here")
        asked.append((repository, revision))
        folder = tmp_path / "snapshot"
        folder.mkdir(exist_ok=True)
        for name in held:
            if any(fnmatch(name, pattern) for pattern in allow_patterns):
                (folder / name).write_text('{"model_type": "hubert"}')
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", download)
    folder = fetch("lab/voice@v3")
    assert set(asked) == {("lab/voice", "v3")}
    assert {path.name for path in folder.iterdir()} == {"config.json", "preprocessor_config.json", kind}
