import numpy as np
import pytest
import torch

from mer_pnao.encoders.resnet import MEANS, ResNetFERPlus, load_resnet, preprocess


def test_computes_what_the_published_network_computes(checkpoints, golden_weights, golden_images):
    network = ResNetFERPlus()
    network.load_state_dict(golden_weights("resnet50_ferplus"), strict=True)
    network.eval()
    images = golden_images * 255 - torch.tensor(MEANS)[:, None, None]
    expected = np.load(checkpoints / "resnet50_ferplus_golden.npz")
    with torch.inference_mode():
        embedding, output = network.embed(images).numpy(), network(images).numpy()
    scale = np.abs(expected["feature_512"]).max()
    np.testing.assert_allclose(embedding, expected["feature_512"], rtol=1e-4, atol=1e-5 * scale)
    np.testing.assert_allclose(output, expected["output"], rtol=1e-4)


def test_has_the_published_keys_and_shapes(shapes):
    state = ResNetFERPlus().state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == shapes("resnet50_ferplus")


def test_width_depths_and_classes_are_read_from_the_checkpoint(tmp_path):
    network = ResNetFERPlus(width=8, depths=(1, 2, 1, 3), classes=5)
    torch.save(network.state_dict(), tmp_path / "r.pth")
    loaded = load_resnet(tmp_path / "r.pth")
    images = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(loaded.embed(images), network.eval().embed(images))
        assert loaded.embed(images).shape == (2, 64)
        assert loaded(images).shape == (2, 5)


@pytest.mark.parametrize("depths", [(1, 1, 1), (1, 0, 1, 1)])
def test_impossible_networks_are_refused(depths):
    with pytest.raises(ValueError, match="depths"):
        ResNetFERPlus(depths=depths)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="224"):
        ResNetFERPlus(8, (1, 1, 1, 1)).embed(torch.zeros(1, 3, 256, 256))


@pytest.mark.parametrize("size", [(256, 256), (256, 300), (300, 256)])
def test_preprocessing_cuts_the_centre_and_subtracts_the_means(size):
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
    centre = images[:, top : top + 224, left : left + 224].astype(np.float32) - np.float32(MEANS)
    np.testing.assert_allclose(preprocess(images).numpy(), centre.transpose(0, 3, 1, 2), atol=1e-4)


def test_preprocessing_resizes_the_short_side_first():
    image = np.zeros((1, 128, 256, 3), np.uint8)
    image[:, :, 64:192] = 200  # doubled, this covers the central 256 columns, so that the crop sees nothing else
    np.testing.assert_allclose(preprocess(image)[0, :, 112, 112].numpy(), 200 - np.array(MEANS), atol=1e-3)
    assert preprocess(image)[0, 0].std() < 1e-3
