"""Images of every form, read from files and fitted to the teacher's shape; and what is said of those that are none."""

import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from dfad_fast.errors import DFADFastWarning, UsageError
from dfad_fast.sources.folder.reading import image_set, read_images

GRAY, COLOR = (1, 8, 8), (3, 8, 8)


def read(path, shape=GRAY, limit=0, seed=0):
    return read_images(str(path), shape, limit, np.random.default_rng(seed))


def gray(count=12, height=8, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width), np.uint8)


def save_files(folder, images, ending="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:03}.{ending}")


def save_npz(path, images, **further):
    np.savez(path, images=images, **further)
    return path


def refused(path, said, **settings):
    with pytest.raises(UsageError, match=re.escape(said)):
        read(path, **settings)


def test_files_in_folders_in_the_folder_are_read_by_name(tmp_path):
    images = gray(14)
    save_files(tmp_path / "b" / "deep", images[6:])
    save_files(tmp_path / "a", images[:6])
    (tmp_path / "notes.txt").write_text("no image")
    save_files(tmp_path / ".hidden", images[:1])
    assert torch.equal(read(tmp_path).pixels, torch.from_numpy(images)[:, None])


@pytest.mark.parametrize("ending", ["png", "bmp", "gif", "tiff", "pgm", "webp", "jpg"])
def test_formats(tmp_path, ending):
    images = np.repeat(gray(10)[:, :1, :1], 8, 1).repeat(8, 2)  # of one value, which any compression keeps
    save_files(tmp_path, images, ending)
    pixels = read(tmp_path).pixels
    assert pixels.dtype == torch.uint8
    assert int((pixels.int() - torch.from_numpy(images)[:, None].int()).abs().max()) <= 2


@pytest.mark.parametrize("shape", [GRAY, COLOR])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_modes_become_gray_or_color(tmp_path, mode, shape):
    source = Image.fromarray(np.full((8, 8, 3), 255, np.uint8)).convert(mode)
    ending = "tiff" if mode == "CMYK" else "png"
    for number in range(10):
        source.save(tmp_path / f"{number}.{ending}")
    pixels = read(tmp_path, shape).pixels
    assert pixels.shape == (10, *shape)
    assert int(pixels.min()) >= 250


def test_images_are_cropped_around_their_center_and_resized_smoothly(tmp_path):
    image = np.zeros((16, 40), np.uint8)
    image[:, 12:28] = np.tile([[0, 200], [200, 0]], (8, 8))  # a chessboard, whose mean is 100
    image[:, :12] = 255
    save_files(tmp_path, [image] * 10)
    pixels = read(tmp_path).pixels.float()
    assert (
        float((pixels[:, :, :, 1:-1] - 100).abs().max()) <= 2
    )  # 255 where it was not cropped, 0 or 200 if picked


def test_a_photo_is_turned_as_its_camera_was_held(tmp_path):
    image = np.zeros((8, 8), np.uint8)
    image[:4] = 200
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned to the right
    for number in range(10):
        Image.fromarray(image).save(tmp_path / f"{number}.png", exif=turned)
    pixels = read(tmp_path).pixels
    assert int(pixels[:, :, :, 4:].min()) == 200
    assert int(pixels[:, :, :, :4].max()) == 0


def test_arrays_of_every_form_give_the_same_images(tmp_path):
    images = gray()
    expected = torch.from_numpy(images)[:, None]
    forms = {
        "bytes": images,
        "last": images[..., None],
        "first": images[:, None],
        "float32": images.astype(np.float32) / 255,
        "float64": images[:, None] / 255,
        "half": (images / 255).astype(np.float16),
        "fortran": np.asfortranarray(images),
        "color last": images[..., None].repeat(3, 3),
        "color first": images[:, None].repeat(3, 1),
    }
    for name, form in forms.items():
        pixels = read(save_npz(tmp_path / f"{name}.npz", form, labels=np.arange(12))).pixels
        assert torch.equal(pixels, expected), name
    np.savez_compressed(tmp_path / "packed.npz", images=images)
    assert torch.equal(read(tmp_path / "packed.npz").pixels, expected)
    color = read(tmp_path / "bytes.npz", COLOR).pixels
    assert torch.equal(color, expected.expand(-1, 3, -1, -1))


def test_files_and_arrays_are_fitted_alike(tmp_path):
    images = gray(12, 20, 31)
    save_files(tmp_path / "files", images)
    path = save_npz(tmp_path / "images.npz", images)
    assert torch.equal(read(tmp_path / "files").pixels, read(path).pixels)


def test_a_limit_draws_some_of_them_by_the_seed(tmp_path):
    images = gray(40)
    save_files(tmp_path / "files", images)
    path = save_npz(tmp_path / "images.npz", images)
    first, same, other = (read(tmp_path / "files", limit=11, seed=seed).pixels for seed in (0, 0, 1))
    assert len(first) == 11
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(first, read(path, limit=11).pixels)
    assert len(read(path, limit=100).pixels) == 40


def test_the_digest_knows_the_same_files_again(tmp_path):
    save_files(tmp_path / "a", gray())
    save_files(tmp_path / "b", gray())
    digest = read(tmp_path / "a").digest
    assert read(tmp_path / "b").digest == digest
    save_files(tmp_path / "b", gray(13))
    assert read(tmp_path / "b").digest != digest
    one, two = (save_npz(tmp_path / f"{seed}.npz", gray(seed=seed)) for seed in (0, 1))
    assert read(one).digest != read(two).digest


def test_files_that_cannot_be_read_are_left_out_and_named(tmp_path):
    save_files(tmp_path, gray(12))
    (tmp_path / "003.png").write_bytes((tmp_path / "003.png").read_bytes()[:60])
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "005.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    said = r"3 of 13 images cannot be read: .*003\.png.*005\.png: 16 bits.*link\.png: .*No such file"
    with pytest.warns(DFADFastWarning, match=said):
        pixels = read(tmp_path).pixels
    assert torch.equal(pixels, torch.from_numpy(np.delete(gray(12), [3, 5], 0))[:, None])


def test_a_folder_of_which_nothing_can_be_read_is_refused(tmp_path):
    for number in range(12):
        (tmp_path / f"{number}.jpg").write_bytes(b"no image")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(tmp_path, "12 of 12 images cannot be read: ")
        refused(tmp_path, "; and 9 more")


def test_paths_without_images_are_refused(tmp_path):
    refused(tmp_path / "missing", "no file or folder ")
    refused(tmp_path, "holds no image files (.bmp")
    save_files(tmp_path, gray(9))
    refused(tmp_path, "has 9 images to read: at least 10 are needed")
    refused(tmp_path, "the teacher's have 2 channels", shape=(2, 8, 8))


def test_archives_of_another_form_are_refused(tmp_path):
    path = tmp_path / "images.npz"
    path.write_bytes(b"PK no archive")
    refused(path, "images.npz: cannot be read as .npz")
    np.savez(path, pictures=gray(), labels=np.arange(12))
    refused(path, "expected an array 'images' (uint8, or floats from 0 to 1, [N, H, W]")
    refused(path, "got arrays: pictures, labels")
    for images in (gray().astype(np.int64), gray()[0], np.zeros((12, 4, 8, 8), np.uint8)):
        refused(save_npz(path, images), f"got {images.dtype} {list(images.shape)}")
    refused(save_npz(path, gray()[:0]), "images is empty")
    refused(save_npz(path, np.array([{"a": 1}] * 12)), "got object [12]")
    whole = save_npz(path, gray(200)).read_bytes()
    path.write_bytes(whole[:300] + bytes(200) + whole[500:])
    refused(path, "cannot be read as .npz")


@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "NaN"), (np.inf, "to inf"), (-0.5, "-0.5 to"), (255.0, "to 255")]
)
def test_floats_beyond_0_and_1_are_refused(tmp_path, value, said):
    images = gray() / 255
    images[7, 2, 3] = value
    path = save_npz(tmp_path / "images.npz", images)
    refused(path, "floats in images must be from 0 to 1, image 7 has ")
    refused(path, said)


def test_more_images_than_fit_into_memory_are_refused(tmp_path, monkeypatch):
    save_files(tmp_path / "files", gray(20))
    path = save_npz(tmp_path / "images.npz", gray(20))
    monkeypatch.setattr(image_set, "free_memory", lambda device: 1000)
    refused(
        tmp_path / "files", "20 images [1, 8, 8] take 0.0 GiB of memory, but 0.0 GiB are free: set a limit"
    )
    refused(path, "set a limit")
    assert len(read(tmp_path / "files", limit=12).pixels) == 12
