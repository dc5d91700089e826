import numpy as np
import pytest
import torch

from mer_pnao.encoders.manet import MANet, load_manet, preprocess


@pytest.mark.parametrize(("order", "golden"), [("forward", "manet_golden"), ("reverse", "manet_reverse_order_golden")])
def test_computes_what_the_published_network_computes(checkpoints, golden_weights, golden_images, order, golden):
    network = MANet(order=order)
    network.load_state_dict(golden_weights("manet"), strict=True)
    network.eval()
    expected = np.load(checkpoints / f"{golden}.npz")
    with torch.inference_mode():
        embedding = network.embed(golden_images).numpy()
        logits = network(golden_images)
    for half in (slice(0, 512), slice(512, 1024)):  # the global half is far larger and would hide the local
        scale = np.abs(expected["embedding"][:, half]).max()
        np.testing.assert_allclose(embedding[:, half], expected["embedding"][:, half], atol=1e-5 * scale)
    if "logits_local" in expected:
        for ours, key in zip(logits, ("logits_local", "logits_global"), strict=True):
            np.testing.assert_allclose(ours.numpy(), expected[key], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_official_file_computes_what_the_published_network_computes(
    checkpoints, golden_weights, golden_images, tmp_path
):
    path = tmp_path / "[02-08]-[21-19]-model_best-acc88.33.pth"
    state = {f"module.{key}": tensor for key, tensor in golden_weights("manet").items()}
    torch.save({"epoch": 7, "state_dict": state, "best_acc": torch.tensor(88.33), "optimizer": {}}, path)
    expected = np.load(checkpoints / "manet_golden.npz")["embedding"]
    with torch.inference_mode():
        embedding = load_manet(path).embed(golden_images).numpy()
    for half in (slice(0, 512), slice(512, 1024)):
        scale = np.abs(expected[:, half]).max()
        np.testing.assert_allclose(embedding[:, half], expected[:, half], atol=1e-4 * scale)


def test_has_the_published_keys_and_shapes(shapes):
    state = MANet().state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == shapes("manet")
    assert len(state) == 692
    assert sum(p.numel() for p in MANet().parameters()) == 50_547_214


def test_a_narrow_network_has_the_same_keys(shapes):
    assert MANet(width=8).state_dict().keys() == shapes("manet").keys()


def test_width_and_classes_are_read_from_the_checkpoint(tmp_path):
    network = MANet(width=8, classes=5)
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "m.pth")
    loaded = load_manet(tmp_path / "m.pth")
    images = torch.rand(2, 3, 224, 224)
    assert not loaded.training
    with torch.inference_mode():
        assert torch.equal(loaded.embed(images), network.eval().embed(images))
        assert loaded.embed(images).shape == (2, 128)
        assert loaded(images)[0].shape == (2, 5)


@pytest.mark.parametrize(("width", "order", "message"), [(6, "forward", "multiple of 4"), (8, "up", "order must")])
def test_impossible_networks_are_refused(width, order, message):
    with pytest.raises(ValueError, match=message):
        MANet(width=width, order=order)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="224"):
        MANet(width=4).embed(torch.zeros(1, 3, 192, 192))


def test_preprocessing_scales_to_one_and_resizes():
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    np.testing.assert_allclose(preprocess(images).numpy(), images.transpose(0, 3, 1, 2) / 255.0, rtol=1e-6)
    ramp = np.broadcast_to(np.arange(112, dtype=np.uint8)[None, :, None, None], (1, 112, 112, 3)).copy()
    grown = preprocess(ramp)[0, 0, :, 0].numpy() * 255
    # Doubled bilinearly with pixel centres: row i shows the ramp at (i + 0.5) / 2 - 0.5.
    np.testing.assert_allclose(grown[2:-2], ((np.arange(224) + 0.5) / 2 - 0.5)[2:-2], atol=1e-4)
