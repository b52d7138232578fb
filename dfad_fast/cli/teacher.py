"""``dfad-fast teacher``."""

from __future__ import annotations

from pathlib import Path

import click

from dfad_fast.cli.options import quiet_option, seed_option, threads_option, within
from dfad_fast.cli.output import TeacherBar, open_console, say
from dfad_fast.cli.threads import set_threads
from dfad_fast.settings import EPOCHS


@click.command()
@click.option("--dataset", required=True, help="digits, mnist, fashion-mnist, cifar10, cifar100.")
@click.option("--data-dir", help="Folder with the dataset's files.")
@click.option("--network", help="A network's name (default: the dataset's).")
@click.option("--epochs", type=int, callback=within(EPOCHS), help="Epochs (default: the dataset's).")
@click.option("--learning-rate", type=float, help="Peak learning rate (default: the dataset's).")
@seed_option
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ...")
@threads_option()
@click.option("--teachers", default="runs/teachers", show_default=True, help="Folder to save it in.")
@quiet_option
def teacher(
    dataset: str,
    data_dir: str | None,
    network: str | None,
    epochs: int | None,
    learning_rate: float | None,
    seed: int,
    device: str,
    threads: int | None,
    teachers: str,
    quiet: bool,
) -> None:
    """Train a teacher on a dataset and save it."""
    from dfad_fast.data import load_dataset
    from dfad_fast.jobs.devices import choose_device
    from dfad_fast.jobs.teachers import find_or_train_teacher, training_on

    set_threads(threads)
    console = open_console(quiet)
    data = load_dataset(dataset, data_dir)
    training = training_on(dataset, network, epochs, learning_rate, seed)
    with TeacherBar(console) as bar:
        found = find_or_train_teacher(data, training, Path(teachers), choose_device(device), bar)
    say(console, f"teacher: {found.origin}")
