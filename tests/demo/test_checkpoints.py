from pathlib import Path

import numpy as np
import torch

from mer_pnao.demo.checkpoints import write_demo_checkpoints
from mer_pnao.encoders.hubert import HubertLayers
from mer_pnao.encoders.manet import load_manet, preprocess
from mer_pnao.encoders.resnet import load_resnet
from mer_pnao.encoders.resnet import preprocess as preprocess_for_resnet


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_writes_the_same_bytes_whatever_the_random_state(demo, tmp_path):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        write_demo_checkpoints(tmp_path / "again", seed=7)
    finally:
        torch.set_num_threads(threads)
    assert contents(tmp_path / "again") == contents(demo)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_writes_other_weights(demo, tmp_path):
    write_demo_checkpoints(tmp_path, seed=8)
    for name in ("hubert/model.safetensors", "manet.safetensors", "resnet.safetensors"):
        assert (tmp_path / name).read_bytes() != (demo / name).read_bytes()


def test_faces_differ_by_more_than_bfloat16_rounds(demo):
    rng = np.random.default_rng(0)
    images = np.full((6, 224, 224, 3), 120, np.uint8)
    for image in images:  # the same disc with a bar of another height, as faces differ by a mouth
        rows, columns = np.mgrid[:224, :224]
        image[(rows - 112) ** 2 + (columns - 112) ** 2 < 90**2] = (200, 170, 150)
        middle = rng.integers(120, 190)
        image[middle : middle + 12, 80:144] = (120, 60, 60)
    for network, prepare in (
        (load_manet(demo / "manet.safetensors"), preprocess),
        (load_resnet(demo / "resnet.safetensors"), preprocess_for_resnet),
    ):
        with torch.inference_mode():
            exact = network.embed(prepare(images)).numpy()
            rough = network.bfloat16().embed(prepare(images).bfloat16()).float().numpy()
        assert exact.shape == (6, 128)
        between = np.linalg.norm(exact - exact.mean(axis=0))
        assert between > 3 * np.linalg.norm(rough - exact)
        assert 0.01 < np.abs(exact).mean() < 100


def test_sounds_of_another_timbre_differ_in_every_layer(demo):
    rng = np.random.default_rng(0)

    def hiss(smoothing: int) -> np.ndarray:
        noise = np.convolve(rng.standard_normal(16_000), np.ones(smoothing), mode="same")
        return (0.1 * noise / noise.std()).astype(np.float32)

    sounds = [hiss(1) for _ in range(8)] + [hiss(32) for _ in range(8)]
    vectors = HubertLayers(demo / "hubert", [0, 18, 20], "fp32")(sounds)
    for block in vectors.values():
        bright, dark = block[:8], block[8:]
        middle = (bright[:4].mean(axis=0) + dark[:4].mean(axis=0)) / 2
        axis = bright[:4].mean(axis=0) - dark[:4].mean(axis=0)
        assert ((bright[4:] - middle) @ axis > 0).all()  # sounds that the axis has not seen
        assert ((dark[4:] - middle) @ axis < 0).all()
