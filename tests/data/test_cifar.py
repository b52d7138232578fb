import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from dfad_fast.data import load_dataset

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
ARCHIVES = {"cifar10": "cifar-10-python.tar.gz", "cifar100": "cifar-100-python.tar.gz"}


def pixels(seed: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def batch(seed: int, key: str) -> dict:
    """Two images; the first has the label `seed`, the second the label 9."""
    return {"data": pixels(seed), key: [seed, 9], "batch_label": "a batch"}


def contents(name: str) -> dict[str, dict]:
    if name == "cifar100":
        names = {"fine_label_names": [f"fine {i}" for i in range(100)], "coarse_label_names": []}
        return {
            "train": batch(1, "fine_labels") | {"coarse_labels": [0, 0]},
            "test": batch(6, "fine_labels") | {"coarse_labels": [0, 0]},
            "meta": names,
        }
    files = {f"data_batch_{i}": batch(i, "labels") for i in range(1, 6)}
    names = {"label_names": [f"class {i}" for i in range(10)], "num_vis": 3072}
    return files | {"test_batch": batch(6, "labels"), "batches.meta": names}


def write_folder(folder: Path, name: str, changes: dict[str, dict] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in (contents(name) | (changes or {})).items():
        (folder / file).write_bytes(pickle.dumps(content, protocol=3))
    return folder


def member(path: str, data: bytes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(path)
    info.size = len(data)
    return info, io.BytesIO(data)


def write_archive(path: Path, name: str, prefix: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(*member(f"{prefix}{FOLDERS[name]}/readme.html", b"not wanted"))
        for file, content in contents(name).items():
            tar.addfile(*member(f"{prefix}{FOLDERS[name]}/{file}", pickle.dumps(content, protocol=2)))
    return path


def check(dataset, name: str) -> None:
    """The dataset holds what `contents` says, image for image."""
    seeds = [1] if name == "cifar100" else [1, 2, 3, 4, 5]
    expected = torch.from_numpy(np.concatenate([pixels(s) for s in seeds])).view(-1, 3, 32, 32)
    assert torch.equal(dataset.train_images, expected)
    assert dataset.train_images.is_contiguous()
    assert dataset.train_labels.tolist() == [label for s in seeds for label in (s, 9)]
    assert torch.equal(dataset.test_images, torch.from_numpy(pixels(6)).view(-1, 3, 32, 32))
    assert dataset.test_labels.tolist() == [6, 9]
    assert dataset.classes[3] == ("fine 3" if name == "cifar100" else "class 3")
    assert len(dataset.classes) == (100 if name == "cifar100" else 10)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_batches_are_found_in_each_place(name, tmp_path):
    for root in (tmp_path / "a", tmp_path / "b" / name):
        write_folder(root / FOLDERS[name], name)
    for data_dir in (tmp_path / "a", tmp_path / "a" / FOLDERS[name], tmp_path / "b"):
        check(load_dataset(name, data_dir), name)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_archive_is_read_in_each_place_and_nothing_is_unpacked(name, tmp_path):
    at_root = write_archive(tmp_path / "a" / ARCHIVES[name], name)
    write_archive(tmp_path / "b" / name / ARCHIVES[name], name, prefix="./")
    before = sorted(tmp_path.rglob("*"))
    for data_dir in (tmp_path / "a", at_root, tmp_path / "b"):
        check(load_dataset(name, data_dir), name)
    assert sorted(tmp_path.rglob("*")) == before


def test_rows_of_a_batch_are_red_green_blue_planes(tmp_path):
    data = np.zeros((2, 3072), np.uint8)
    data[0, 1024 + 32 * 5 + 7] = 200
    write_folder(tmp_path, "cifar10", {"data_batch_1": {"data": data, "labels": [0, 1]}})
    assert load_dataset("cifar10", tmp_path).train_images[0].nonzero().tolist() == [[1, 5, 7]]


def test_a_batch_stored_by_columns_gives_the_same_images(tmp_path):
    by_column = {"data": np.asfortranarray(pixels(1)), "labels": [1, 9]}
    check(load_dataset("cifar10", write_folder(tmp_path, "cifar10", {"data_batch_1": by_column})), "cifar10")


def test_missing_files_name_the_places_and_the_ways_to_get_them(tmp_path, usage_error):
    with usage_error(tmp_path / "cifar100", "cifar-100-python.tar.gz", "CIFAR100", "<class>/*.png"):
        load_dataset("cifar100", tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "part"),
    [
        ("data_batch_2", {"labels": [0, 1]}, "'data'"),
        ("data_batch_2", {"data": pixels(0)}, "'labels'"),
        ("data_batch_2", {"data": pixels(0), "labels": [0]}, "1 labels for 2 images"),
        ("data_batch_2", {"data": pixels(0), "labels": [0, 10]}, "found 10"),
        ("test_batch", {"data": pixels(0), "labels": [0, -1]}, "found -1"),
        ("test_batch", {"data": pixels(0), "labels": [0, 2**70]}, "0 to 9"),
        ("test_batch", {"data": pixels(0), "labels": [0, 0.5]}, "found 0.5"),
        ("test_batch", {"data": pixels(0), "labels": "01"}, "str"),
        ("test_batch", {"data": pixels(0)[:, :-1], "labels": [0, 1]}, "[2, 3071]"),
        ("test_batch", {"data": [1, 2], "labels": [0, 1]}, "list"),
        ("test_batch", {"data": pixels(0, 0), "labels": []}, "no images"),
        ("batches.meta", {"label_names": ["a"] * 9}, "10 names"),
        ("batches.meta", {"label_names": [1] * 10}, "10 names"),
        ("batches.meta", {"names\n": []}, "'label_names'"),
    ],
)
def test_a_damaged_batch_is_named(file, content, part, tmp_path, usage_error):
    write_folder(tmp_path, "cifar10", {file: content})
    with usage_error(tmp_path / file, part):
        load_dataset("cifar10", tmp_path)


def test_a_missing_batch_is_named(tmp_path, usage_error):
    (write_folder(tmp_path, "cifar10") / "data_batch_4").unlink()
    with usage_error(tmp_path / "data_batch_4"):
        load_dataset("cifar10", tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
def test_a_cut_archive_is_named(kept, tmp_path, usage_error):
    path = write_archive(tmp_path / ARCHIVES["cifar10"], "cifar10")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with usage_error(path, "fetch the file again"):
        load_dataset("cifar10", tmp_path)


def test_the_archive_of_the_other_cifar_is_refused(tmp_path, usage_error):
    path = write_archive(tmp_path / "my.tar.gz", "cifar100")
    with usage_error(path, "cifar-10-batches-py/data_batch_1", "cifar-10-python.tar.gz"):
        load_dataset("cifar10", path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_an_archive_are_not_followed(kind, tmp_path, usage_error):
    secret = tmp_path / "secret"
    secret.write_bytes(pickle.dumps(contents("cifar100")["train"], protocol=2))
    path = tmp_path / ARCHIVES["cifar100"]
    with tarfile.open(path, "w:gz") as tar:
        for file in ("test", "meta"):
            tar.addfile(*member(f"cifar-100-python/{file}", pickle.dumps(contents("cifar100")[file], 2)))
        # Within the archive this target is a good file: a reader that follows links would load the dataset.
        tar.addfile(*member("cifar-100-python/other", secret.read_bytes()))
        link = tarfile.TarInfo("cifar-100-python/train")
        link.type, link.linkname = (
            kind,
            {tarfile.SYMTYPE: "other", tarfile.LNKTYPE: "cifar-100-python/other"}[kind],
        )
        tar.addfile(link)
    with usage_error(path, "it lacks cifar-100-python/train"):
        load_dataset("cifar100", tmp_path)


def test_a_batch_that_would_run_code_runs_nothing(tmp_path, usage_error):
    class Harm:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'marker')!r}, 'w').close()",)

    write_folder(tmp_path, "cifar10", {"data_batch_1": {"data": Harm()}})
    with usage_error(tmp_path / "data_batch_1", "exec"):
        load_dataset("cifar10", tmp_path)
    assert not (tmp_path / "marker").exists()


IMAGES, LABELS = (
    np.arange(3 * 3072, dtype=np.uint8).reshape(3, 3, 32, 32),
    np.array([0, 9, 3], dtype=np.uint8),
)


@pytest.mark.parametrize("place", ["", "cifar10-half.npz"])
def test_test_images_alone_are_evaluated_on_and_not_trained_on(tmp_path, usage_error, place):
    np.savez(tmp_path / "cifar10-half.npz", images=IMAGES, labels=LABELS)
    dataset = load_dataset("cifar10", tmp_path / place)
    assert torch.equal(dataset.test_images, torch.from_numpy(IMAGES))
    assert dataset.test_labels.tolist() == [0, 9, 3]
    assert dataset.classes[9] == "truck"
    assert dataset.image_shape == (3, 32, 32)
    with usage_error("cifar10", "only test images", "--teacher"):
        dataset.train_batches(2, torch.Generator())


@pytest.mark.parametrize(
    ("arrays", "parts"),
    [
        ({"images": IMAGES}, ("labels",)),
        ({"images": IMAGES.astype(np.float32), "labels": LABELS}, ("uint8", "float32")),
        ({"images": IMAGES[:, 0], "labels": LABELS}, ("[N, 3, 32, 32]",)),
        ({"images": IMAGES, "labels": LABELS + 0.5}, ("integers",)),
        ({"images": IMAGES, "labels": LABELS + 1}, ("0 to 9", "10")),
        ({"images": IMAGES, "labels": LABELS[:2]}, ("2 labels for 3 images",)),
        ({"images": np.array([{}]), "labels": LABELS}, ("images",)),
    ],
)
def test_test_images_of_another_form_are_refused(tmp_path, usage_error, arrays, parts):
    np.savez(tmp_path / "cifar10.npz", **arrays)
    with usage_error("cifar10.npz", *parts):
        load_dataset("cifar10", tmp_path)


def test_of_several_files_of_test_images_none_is_chosen(tmp_path, usage_error):
    for name in ("cifar10-a.npz", "cifar10-b.npz"):
        np.savez(tmp_path / name, images=IMAGES, labels=LABELS)
    with usage_error("several cifar10*.npz"):
        load_dataset("cifar10", tmp_path)
