"""Images of every mode, with the pixels that one sees."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from mipp.data.decode import Encoded, decode_images, own_channels_and_size
from mipp.errors import DataError

GREY = np.array([[0, 51], [128, 255]], np.uint8)
COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], np.uint8)
INDICES = np.array([[0, 1], [2, 3]], np.uint8)


def made(mode, values):
    return Image.frombytes(mode, (2, 2), values.tobytes())


def palette(transparent=None):
    image = made("P", INDICES)
    image.putpalette(COLOURS.reshape(-1).tolist())
    if transparent is not None:
        image.info["transparency"] = transparent
    return image


def with_alpha(pixels):
    alpha = np.array([[0, 255], [128, 1]], np.uint8)[..., None]
    return np.concatenate([pixels.reshape(2, 2, -1), alpha], 2)


def bytes_of(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated():
    """Noted by the camera: to be turned a quarter clockwise (6) to be upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return bytes_of(Image.fromarray(np.rot90(GREY)), exif=exif)


IMAGES = {  # file, channels, what is seen, (h, w, channels)
    "8 bits": (bytes_of(Image.fromarray(GREY)), 1, GREY),
    "one bit": (bytes_of(Image.fromarray(GREY > 100)), 1, 255 * (GREY > 100)),
    "16 bits, PNG": (bytes_of(Image.fromarray(GREY.astype(np.uint16) * 257)), 1, GREY),
    "16 bits, TIFF": (bytes_of(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"), 1, GREY),
    "16 bits, big-endian": (
        bytes_of(made("I;16B", GREY.astype(">u2") * 257), "TIFF"),
        1,
        GREY,
    ),
    "16 bits in 32": (bytes_of(Image.fromarray(GREY.astype(np.int32) * 257), "TIFF"), 1, GREY),
    "grey with alpha": (bytes_of(made("LA", with_alpha(GREY))), 1, GREY),
    "colours": (bytes_of(Image.fromarray(COLOURS)), 3, COLOURS),
    "colours with alpha": (bytes_of(Image.fromarray(with_alpha(COLOURS))), 3, COLOURS),
    "palette": (bytes_of(palette()), 3, COLOURS),
    "palette with a transparent colour": (bytes_of(palette(1), transparency=1), 3, COLOURS),
    "palette, GIF": (bytes_of(palette(), "GIF"), 3, COLOURS),
    "turned by the camera": (rotated(), 1, GREY),
    "16 bits as colours": (
        bytes_of(Image.fromarray(GREY.astype(np.uint16) * 257)),
        3,
        np.repeat(GREY[..., None], 3, 2),
    ),
    "printing inks": (
        bytes_of(
            Image.fromarray(255 - np.dstack([COLOURS, np.full_like(GREY, 255)]), "CMYK"), "TIFF"
        ),
        3,
        COLOURS,
    ),
}


def decoded(source, channels, size=2):
    chunks = [[Encoded(0, "image", source)]]
    return decode_images(chunks, 1, channels=channels, size=size, progress="")[0]


@pytest.mark.parametrize("name", IMAGES)
def test_pixels_are_those_that_one_sees(name):
    source, channels, seen = IMAGES[name]
    expected = torch.from_numpy(np.asarray(seen, np.uint8).reshape(2, 2, channels).copy())
    assert torch.equal(decoded(source, channels), expected.permute(2, 0, 1))


@pytest.mark.parametrize("name", [n for n in IMAGES if "as colours" not in n])
def test_channels_are_those_of_the_mode(name):
    source, channels, _ = IMAGES[name]
    grey_in_colour = name == "grey with alpha"
    found = own_channels_and_size([Encoded(0, "image", source)], otherwise=9)
    assert found == (3 if grey_in_colour else channels, 2)


REFUSED = {
    "floating point": (bytes_of(Image.fromarray(GREY / np.float32(255)), "TIFF"), "floating point"),
    "more than 16 bits": (
        bytes_of(Image.fromarray(GREY.astype(np.int32) * 1000), "TIFF"),
        "more than 16 bits",
    ),
    "cut short": (bytes_of(Image.fromarray(COLOURS), "BMP")[:-3], "truncated"),
    "no image": (b"hello", "cannot identify"),
    "nothing": (None, "no bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_images_are_refused(name):
    source, why = REFUSED[name]
    with pytest.raises(DataError, match=rf"image cannot be decoded.\n(.|\n)*{why}"):
        decoded(source, 3)


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    with pytest.raises(DataError, match="decompression bomb"):
        decoded(IMAGES["colours"][0], 3)
