"""Predictions from images as a person has them equal those that Pillow and torchvision lead to."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from trainables.config import TrialConfig, UsageError
from trainables.resnet import ResNet, build_resnet, load_resnet, save_resnet

CONFIG = TrialConfig(width=4, depth=10, stem_kernel=3)
CLASSES = ("cat", "dog", "newt")
MEAN, STD = {1: [0.4], 3: [0.4, 0.5, 0.6]}, {1: [0.2], 3: [0.1, 0.2, 0.3]}


@pytest.fixture
def trained(tmp_path):
    """Makes a network for 16×16 images, plain and as it is loaded from its folder."""

    def make(channels: int, value_range=None):
        model = build_resnet(CONFIG, (channels, 16, 16), len(CLASSES))
        # Statistics as training leaves them, with which images differ in what is predicted.
        model.train()(torch.randn(64, channels, 16, 16, generator=torch.manual_seed(0)))
        places = MEAN[channels], STD[channels], model.state_dict(), value_range
        save_resnet(tmp_path / "best", CONFIG, (channels, 16, 16), CLASSES, *places)
        return model.eval(), load_resnet(tmp_path / "best")

    return make


def by_torchvision(model: ResNet, images: list[Image.Image]) -> np.ndarray:
    """Probabilities of images: small, square from the middle, normalised, softmax."""
    channels = model.stem.conv.in_channels
    prepare = transforms.Compose(
        [
            transforms.Resize(16),
            transforms.CenterCrop(16),
            transforms.Grayscale() if channels == 1 else transforms.Lambda(lambda image: image),
            transforms.ToTensor(),
            transforms.Normalize(MEAN[channels], STD[channels]),
        ]
    )
    with torch.no_grad():
        return model(torch.stack([prepare(image) for image in images])).softmax(1).numpy()


def picture(seed: int, *shape: int) -> Image.Image:
    """Blurred noise, so that what is predicted depends on the picture."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, *shape[2:]), dtype=np.uint8)
    return Image.fromarray(small).resize((shape[1], shape[0]))


def turned(path):
    """Lies on its side, which its EXIF data say."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1, 32, 64, 3).save(path, exif=exif)
    return picture(1, 32, 64, 3).rotate(-90, expand=True)


def transparent(path):
    image = picture(2, 64, 32, 4)
    image.save(path)
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def coloured(path):
    picture(3, 64, 32, 3).save(path)
    return picture(3, 64, 32, 3)


def grey(path):
    picture(4, 16, 16).save(path)
    return picture(4, 16, 16).convert("RGB")


@pytest.mark.parametrize("channels", [1, 3], ids=["grey network", "colour network"])
@pytest.mark.parametrize("write", [turned, transparent, coloured, grey], ids=lambda f: f.__name__)
def test_a_file(trained, tmp_path, channels, write):
    model, loaded = trained(channels)
    expected = by_torchvision(model, [write(tmp_path / "photo.png")])
    answer = loaded.predict(str(tmp_path / "photo.png"))
    # Cropped before or after resizing, in grey or in colours: pixels may be a rounding apart.
    tolerance = 1e-5 if write is grey else 0.02 if channels == 1 else 0.001
    assert answer.probabilities == pytest.approx(expected, abs=tolerance)
    assert answer.probabilities.sum() == pytest.approx(1)
    assert answer.classes == CLASSES
    assert answer.labels == [CLASSES[expected.argmax()]]
    assert (
        str(answer) == f"{tmp_path}/photo.png: {answer.labels[0]} {answer.probabilities.max():.1%}"
    )


def test_a_folder_file_by_file(trained, tmp_path):
    model, loaded = trained(3)
    for name in ("b/2.png", "a.png", "b/1.jpg"):
        (tmp_path / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(len(name), 32, 32, 3).save(tmp_path / "new" / name)
    (tmp_path / "new" / ".DS_Store").write_text("hidden")
    answer = loaded.predict(tmp_path / "new")
    assert answer.names == tuple(str(tmp_path / "new" / n) for n in ("a.png", "b/1.jpg", "b/2.png"))
    images = [Image.open(name) for name in answer.names]
    assert answer.probabilities == pytest.approx(by_torchvision(model, images), abs=1e-5)
    assert len(str(answer).splitlines()) == 3


@pytest.mark.parametrize("channels", [1, 3], ids=["grey network", "colour network"])
@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 1), (32, 48), (16, 16, 3), (48, 32, 3)])
def test_an_array(trained, channels, shape):
    model, loaded = trained(channels)
    pictures = [
        picture(seed, *shape[:2], *shape[2:]) if shape[-1] != 1 else picture(seed, 16, 16)
        for seed in range(300)
    ]
    array = np.stack([np.asarray(each) for each in pictures]).reshape(300, *shape)
    answer = loaded.predict(array)
    expected = by_torchvision(model, [each.convert("RGB") for each in pictures])
    assert answer.probabilities == pytest.approx(expected, abs=0.02 if channels == 1 else 1e-5)
    assert answer.names[:2] == ("0", "1")
    assert len({tuple(row.round(3)) for row in expected}) > 100, "pictures that do not differ"


def test_deep_images_are_scaled_as_in_training(trained, tmp_path):
    values = np.random.default_rng(0).integers(0, 5000, (16, 16)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    model, loaded = trained(1, value_range=(100.0, 4100.0))
    scaled = np.rint((values.astype(float) - 100) * 255 / 4000).clip(0, 255).astype(np.uint8)
    expected = by_torchvision(model, [Image.fromarray(scaled)])
    assert loaded.predict(tmp_path / "deep.png").probabilities == pytest.approx(expected, abs=1e-5)


def test_deep_images_are_refused_where_training_had_none(trained, tmp_path):
    Image.fromarray(np.zeros((16, 16), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UsageError, match=r"deep.png \(more than 8 bits per pixel"):
        trained(1)[1].predict(tmp_path / "deep.png")


def test_a_file_that_is_no_image_is_named(trained, tmp_path):
    (tmp_path / "new").mkdir()
    picture(0, 16, 16).save(tmp_path / "new" / "a.png")
    (tmp_path / "new" / "notes.txt").write_text("no image")
    with pytest.raises(
        UsageError, match=r"^images: unreadable files: .*/new/notes.txt \("
    ) as error:
        trained(1)[1].predict(tmp_path / "new")
    assert "a.png" not in str(error.value)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((2, 3, 16, 16), np.uint8),
        np.zeros((2, 16, 16, 3)),
        np.zeros((0, 16, 16), np.uint8),
        np.zeros((16, 16), np.uint8),
        "missing.png",
    ],
    ids=["one image", "channels first", "floats", "none", "one grey image", "no file"],
)
def test_what_are_no_images_is_refused(trained, images):
    with pytest.raises(UsageError, match=r"^images: invalid value .* expected an image, a"):
        trained(3)[1].predict(images)
