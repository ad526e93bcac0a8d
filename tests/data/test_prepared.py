"""Images of `data.prepare=weights` are those that the publisher evaluated, bit for bit."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from mipp.config import load_params
from mipp.data.frame import Frame, framed_image, framed_pixels
from mipp.errors import ConfigError, DataError
from mipp.models import images_of_weights
from mipp.stages.splits import load_splits
from mipp.vision import torchvision

SIZES = [(224, 224), (301, 240), (240, 301), (500, 333), (97, 260), (640, 225)]


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """A folder of JPEGs of many sizes, one of them grey; the test images' paths, in order."""
    root, generator = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for part in ("train", "test"):
        for number, (width, height) in enumerate(SIZES):
            folder = root / part / f"class{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            shape = (height, width, 3) if number else (height, width)
            pixels = generator.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.jpg")
    return root


def read(root, model, *more):
    """The test images as a stage has them."""
    sets = ("data.name=image-folder", f"data.root={root}", f"model.name={model}")
    params = load_params(overrides=[*sets, "data.calibration=2", "data.validation=0", *more])
    (images, _), *_ = load_splits(params).test.batches(64)
    return images


def opened(root):
    files = sorted((root / "test").rglob("*.jpg"))
    return [Image.open(file).convert("RGB") for file in files]


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet50", ""),
        ("resnet50", "IMAGENET1K_V1"),
        ("efficientnet_b1", ""),  # bicubic
        ("inception_v3", ""),  # 299 of 342
        ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"),  # 384 of 384
    ],
)
def test_images_are_those_of_torchvisions_weights(photographs, name, weights):
    known = torchvision.models.get_model_weights(name)
    transform = (known[weights] if weights else known.DEFAULT).transforms()
    wanted = torch.stack([transform(image) for image in opened(photographs)])
    asked = f"data.prepare=weights:{weights}" if weights else "data.prepare=weights"
    assert torch.equal(read(photographs, f"torchvision/{name}", asked), wanted)


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "vit_tiny_patch16_224.augreg_in21k_ft_in1k"])
def test_images_are_those_of_timms_weights(photographs, name):
    timm_data = pytest.importorskip("timm.data")
    import timm

    plain, _, tag = name.partition(".")
    config = timm_data.resolve_data_config(timm.get_pretrained_cfg(name).to_dict())
    transform = timm_data.create_transform(**config, is_training=False)
    wanted = torch.stack([transform(image) for image in opened(photographs)])
    assert torch.equal(read(photographs, f"timm/{plain}", f"data.prepare=weights:{tag}"), wanted)


def test_images_in_memory_too():
    transform = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    published = images_of_weights("torchvision/resnet18")
    frame = Frame.of(published.size, published.resize, published.interpolation)
    mean, std = torch.tensor(published.mean), torch.tensor(published.std)
    scaled = (framed_pixels(images, frame) / 255 - mean[:, None, None]) / std[:, None, None]
    assert torch.equal(scaled, transform(images))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", [None, 20])
def test_pixels_in_memory_are_scaled_in_every_way(channels, resize):
    images = torch.randint(0, 256, (5, channels, 32, 32), dtype=torch.uint8)
    shown = images.permute(0, 2, 3, 1).squeeze(3).numpy()
    for way, most in {"bilinear": 2, "bicubic": 24, "lanczos": 0}.items():
        frame = Frame.of(16, resize, way)
        found = framed_pixels(images, frame)
        assert found.shape == (5, channels, 16, 16)
        for image, pixels in zip(shown, found.permute(0, 2, 3, 1).squeeze(3), strict=True):
            wanted = np.asarray(framed_image(Image.fromarray(image), frame)).astype(int)
            off = abs(pixels.numpy().astype(int) - wanted)
            assert off.max() <= most  # Pillow cuts off between its two passes
            assert off.mean() < 1
    nearest = framed_pixels(images, Frame.of(16, resize, "nearest"))
    assert all(
        set(to.flatten().tolist()) <= set(of.flatten().tolist())
        for of, to in zip(images, nearest, strict=True)
    )


def test_what_is_set_wins_over_the_weights(photographs):
    model = "torchvision/resnet18"
    half = read(photographs, model, "data.prepare=weights", "data.size=112")
    transform = torchvision.models.ResNet18_Weights.DEFAULT.transforms(
        crop_size=112, resize_size=128
    )
    assert torch.equal(half, torch.stack([transform(image) for image in opened(photographs)]))
    plain = read(
        photographs, model, "data.prepare=weights", "data.mean=[0,0,0]", "data.std=[1,1,1]"
    )
    assert plain.min() >= 0
    assert plain.max() <= 1
    smooth = read(photographs, model, "data.prepare=weights", "data.interpolation=bicubic")
    assert smooth.shape == (6, 3, 224, 224)
    assert not torch.equal(smooth, read(photographs, model, "data.prepare=weights"))


def test_a_set_is_prepared_as_before_without_it(photographs):
    """The middle of an image that just covers the square."""
    plain = ("data.size=64", "data.mean=[0,0,0]", "data.std=[1,1,1]")
    found = read(photographs, "torchvision/resnet18", *plain)
    fit = [ImageOps.fit(i, (64, 64), Image.Resampling.BILINEAR) for i in opened(photographs)]
    wanted = torch.stack([torch.from_numpy(np.asarray(i).transpose(2, 0, 1) / 255) for i in fit])
    assert torch.allclose(found, wanted.float(), atol=1e-6)


@pytest.mark.parametrize(
    ("model", "prepare", "names"),
    [
        ("lenet5", "weights", "torchvision/NAME or timm/NAME"),
        ("torchvision/resnet18", "weights:IMAGENET1K_V9", "IMAGENET1K_V1"),
    ],
)
def test_a_network_without_such_weights_is_refused(photographs, model, prepare, names):
    with pytest.raises(ConfigError, match=r"(?s)data\.prepare=weights.*" + names):
        read(photographs, model, f"data.prepare={prepare}")


def test_timms_tags_are_looked_up(photographs):
    pytest.importorskip("timm")
    with pytest.raises(ConfigError, match="one of its tags, got 'nobodys'"):
        read(photographs, "timm/resnet18", "data.prepare=weights:nobodys")


def test_an_image_cannot_be_smaller_than_what_is_cropped_from_it(photographs):
    with pytest.raises(DataError, match=r"(?s)data\.resize 100 .*at least the side of 224"):
        read(photographs, "torchvision/resnet18", "data.resize=100", "data.size=224")
