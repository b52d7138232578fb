import subprocess
import sys

import pytest

from dfad_fast.data import dataset_names, load_dataset


def test_an_unknown_name_is_answered_with_the_nearest_ones(usage_error):
    with usage_error("unknown dataset 'cifar-10'", "'cifar10'", "fashion-mnist"):
        load_dataset("cifar-10")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_a_data_folder_that_is_not_there_is_an_error_even_where_the_files_are_elsewhere(
    name, tmp_path, usage_error
):
    with usage_error(name, tmp_path / "typo"):
        load_dataset(name, tmp_path / "typo")


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_without_a_data_folder_the_error_says_how_to_get_the_files(name, usage_error):
    with usage_error(name, "torchvision.datasets", "download=True", "folder"):
        load_dataset(name)


def test_names():
    assert dataset_names() == ("cifar10", "cifar100", "digits", "fashion-mnist", "mnist")


def test_importing_the_module_brings_in_neither_scikit_learn_nor_pillow():
    code = "import sys, dfad_fast.data; print({'sklearn', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
