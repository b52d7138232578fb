"""A bank at work in a run: whom a step asks, when the student starts, what is counted, and that a run goes on."""

import copy
import io
import shutil

import pytest
import torch

from dfad_fast import DFADTrainer, Levers
from dfad_fast.errors import RunError, UsageError
from dfad_fast.runs import bank_files
from dfad_fast.sources import SOURCES, Bank, as_source
from tests.sources.test_sources import Noise

SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setitem(SOURCES, "noise", Noise)


def trainer_of(pair, source, method="dfad", **settings):
    teacher, student = pair
    settings = {"latent_dim": 8, "batch_size": 8, **settings}
    return DFADTrainer(teacher, copy.deepcopy(student), SHAPE, method, source=source, **settings)


def bank_of(trainer):
    return trainer.distiller.source


def sealed(trainer):
    return bank_of(trainer)._store.sealed


def filled(trainer):
    while not any(name.startswith("student") for name in trainer.step()):
        assert trainer.iteration < 50
    return trainer


def shown_in(trainer):
    """What the student sees in an iteration's steps, with the teacher's logits that its terms get."""
    found = []
    probe = trainer.distiller.prober.probe

    def probed(images, view, rows, *others):
        if rows is trainer.method.student:
            found.append((images, view))
        return probe(images, view, rows, *others)

    trainer.distiller.prober.probe = probed
    trainer.step()
    trainer.distiller.prober.probe = probe
    return found


WAITING = [
    "bank(noise, images=640, prefill=250)",
    "bank(noise, images=3200, prefill=1)",
    "bank(noise, images=200, new=0)",
    "bank(inverted(steps=1), images=64, new=0, prefill=30)",
    "0.5*bank(noise, images=640, prefill=90) + 0.5*noise",
    "trained_first(steps=7)",
]


@pytest.mark.parametrize("source", WAITING)
def test_how_long_the_student_waits_is_known(pair, source):
    trainer = trainer_of(pair, source)
    trainer.step()
    expected, found = bank_of(trainer).waiting, 0
    while not any(name.startswith("student") for name in trainer.step()):
        found += 1
        assert bank_of(trainer).waiting == expected - found
    assert found == expected > 0
    assert bank_of(trainer).waiting == 0


@pytest.mark.parametrize(
    "source", [*WAITING, "bank(bank(noise, images=640, prefill=90), images=640, prefill=24)"]
)
def test_the_student_need_not_wait(pair, source):
    trainer = trainer_of(pair, source)
    trainer.step()
    bank_of(trainer).stop_waiting()
    while bank_of(trainer).waiting:
        trainer.step()
    assert any(name.startswith("student") for name in trainer.step())
    assert trainer.iteration <= 4


def test_a_step_on_stored_answers_asks_nobody(pair):
    trainer = filled(trainer_of(pair, "bank(noise, images=64, new=0)"))
    before = copy.copy(trainer.distiller.state)
    trainer.step()
    after = trainer.distiller.state
    assert after.teacher_passes == before.teacher_passes > 0
    assert after.student_passes == before.student_passes + 5 * 8
    assert trainer.notices == []


@pytest.mark.parametrize("augment", ["flip-shift", "crop-cutmix-mix"])
@pytest.mark.parametrize("store", ["uint8", "half"])
def test_what_the_student_learns_is_what_the_teacher_says_to_what_it_sees(pair, augment, store):
    trainer = filled(trainer_of(pair, f"bank(fresh, images=64, augment='{augment}', store={store})"))
    for _ in range(4):
        for images, view in shown_in(trainer):
            again = trainer.distiller.prober.look(images, (), graph=False).logits
            torch.testing.assert_close(view.logits, again, rtol=1e-3, atol=1e-3 if store == "half" else 1e-5)


def test_the_teacher_is_asked_about_each_view_once(pair):
    trainer = trainer_of(pair, "bank(noise, images=32, new=0, views=3)", student_terms="l1")
    filled(trainer)
    assert trainer.distiller.state.teacher_passes == 3 * 32
    trainer.step()
    assert trainer.distiller.state.teacher_passes == 3 * 32


@pytest.mark.parametrize(
    ("source", "iterations", "images"),
    [
        ("bank(noise, images=64)", 0, 8),
        (
            "bank(noise, images=64, prefill=60)",
            1,
            64,
        ),  # five batches in an iteration, as the student has steps
        ("bank(noise, images=60, prefill=60)", 1, 56),
        ("bank(noise, images=60, prefill=60, keep=random)", 1, 60),
        ("bank(noise, images=128, new=0)", 3, 128),
        ("bank(noise, images=64, new=0, prefill=16)", 0, 16),
        ("bank(fresh, images=64, prefill=24)", 2, 24),  # one batch with each of the generator's steps
        ("bank(fresh, images=64, prefill=24, new=2)", 1, 32),
    ],
)
def test_the_student_waits_until_the_bank_is_filled(pair, source, iterations, images):
    trainer = trainer_of(pair, source)
    before = copy.deepcopy(trainer.networks.student.state_dict())
    for _ in range(iterations):
        assert not any(name.startswith("student/") for name in trainer.step())
    for key, value in trainer.networks.student.state_dict().items():
        if "running" not in key and "num_batches" not in key:  # those of the generator's steps
            assert torch.equal(before[key], value), key
    assert "student/l1" in trainer.step()
    assert sealed(trainer).count == images


@pytest.mark.parametrize("older", [{"replay": 2}, {"generator_ema": 0.5}], ids=str)
def test_it_waits_with_older_images_too(pair, older):
    trainer = trainer_of(pair, "bank(fresh, images=64, prefill=24)", **older)
    for _ in range(2):
        assert not any(name.startswith("rehearsed/") for name in trainer.step())
    assert "rehearsed/l1" in trainer.step()


def test_what_is_made_is_counted_and_drawn_once_costs_nothing_later(pair):
    trainer = trainer_of(pair, "bank(fresh, images=64)")
    assert trainer.images_per_iteration == 2 * 8  # a new batch, and the generator's step
    trainer.step()
    assert trainer.generated_images == 16
    once = filled(trainer_of(pair, "bank(fresh, images=64, new=0)"))
    made = once.generated_images
    losses = once.step()
    assert once.generated_images == made
    assert not any(name.startswith("generator/") for name in losses)
    with pytest.raises(UsageError, match="no length in images: give iterations"):
        once.iterations_for(1000)


def test_a_batch_that_steps_would_share_is_kept_once(pair):
    trainer = trainer_of(pair, "bank(fresh, images=64, new=3)", speed="fast")
    trainer.step()
    assert "generators_batch" in str(trainer.method.source_spec)
    assert sealed(trainer).count == 8
    shared = trainer_of(
        pair, "bank(fresh, images=64, new=3)", speed=Levers(student_batches=1, winograd=False)
    )
    shared.step()
    assert sealed(shared).count == 3 * 8
    assert (
        torch.unique(
            torch.cat([s.packed.images(torch.float32) for s in sealed(shared).segments]), dim=0
        ).shape[0]
        == 24
    )


def test_without_stored_views_the_teacher_is_asked_about_what_is_shown(pair):
    trainer = filled(trainer_of(pair, "bank(noise, images=64, new=0, views=0)"))
    before = trainer.distiller.state.teacher_passes
    trainer.step()
    assert trainer.distiller.state.teacher_passes == before + 5 * 8


@pytest.mark.parametrize(
    ("terms", "per_step", "notice"),
    [
        ("l1 + virtual", 0, None),
        (
            "l1 + virtual(labels=teacher)",
            8,
            "virtual asks the teacher about images that are not in the bank, in each step",
        ),
        (
            "l1 + boundary",
            8,
            "boundary reads the teacher's hidden layers, which a bank does not keep: the teacher runs",
        ),
        ("l1 + boundary + attention", 8, "boundary and attention read the teacher's hidden layers"),
        ("l1 + batch_norm", 8, "batch_norm reads the teacher's hidden layers"),
    ],
)
def test_a_term_that_needs_more_than_logits_has_the_teacher_asked_and_that_is_said(
    pair, terms, per_step, notice
):
    trainer = filled(trainer_of(pair, "bank(noise, images=64, new=0)", student_terms=terms))
    before = trainer.distiller.state.teacher_passes
    losses = trainer.step()
    assert all(value.isfinite() for value in losses.values())
    assert trainer.distiller.state.teacher_passes == before + 5 * per_step
    found = [line for line in trainer.notices if "teacher" in line]
    assert len(found) == (notice is not None)
    assert notice is None or found[0].startswith(notice)


def test_the_hardest_are_known_from_the_students_steps(pair):
    trainer = filled(trainer_of(pair, "bank(noise, images=16, new=0, views=1, keep=hardest)"))
    bank_of(trainer).state_dict()  # which reads them from the device
    difficulty = torch.cat([torch.from_numpy(roll.difficulty) for roll in sealed(trainer).rolls])
    assert difficulty.isfinite().all()  # in five steps each of them came twice
    places = bank_of(trainer)._shown
    student, teacher = trainer.distiller.last.answers
    expected = (student - teacher).abs().mean(1)
    found = [sealed(trainer).rolls[s].difficulty[r] for s, r in zip(places.segment, places.row, strict=True)]
    torch.testing.assert_close(torch.tensor(found), expected)


def test_in_half_precision_the_answers_are_kept_as_they_were(pair):
    source = "bank(fresh, images=32, new=0)"
    trainer = filled(trainer_of(pair, source, speed=Levers(precision="bfloat16", winograd=False)))
    exact = trainer_of(pair, source)
    for images, view in shown_in(trainer):
        with torch.autocast("cpu", torch.bfloat16):
            again = trainer.networks.teacher(images).float()
        torch.testing.assert_close(view.logits, again, rtol=0.05, atol=0.05)
        assert not torch.equal(view.logits, exact.networks.teacher(images))
    assert all(value.isfinite() for value in trainer.step().values())


def test_memory_is_bounded_in_a_run_that_fills_its_bank_twice(pair):
    for keep in ("age", "random"):
        trainer = trainer_of(pair, f"bank(noise, images=64, keep={keep}, new=5)")
        per_image = 64 + 8 + 4 * (4 * 11 + 4 * 4)
        sizes = []
        for _ in range(10):
            trainer.step()
            sizes.append(bank_of(trainer)._store.size)
            assert sealed(trainer).count <= 64
        assert max(sizes) <= (64 + 8) * per_image * (1 if keep == "age" else 2)
        assert sealed(trainer)._next > 2 * 64 / 8


RUNS = {
    "age": {"source": "bank(fresh, images=48)"},
    "hardest": {"source": "bank(fresh, images=48, keep=hardest, augment='flip-shift-mix')"},
    "balanced": {"source": "bank(fresh, images=48, keep=balanced, store=half)"},
    "asking": {"source": "bank(fresh, images=48, views=0, keep=random)"},
    "mixed": {"source": "bank(0.5*noise + fresh, images=48, keep=hardest) + noise"},
    "filling": {"source": "bank(fresh, images=48, prefill=40, new=0)"},
    "replayed": {"source": "bank(fresh, images=48, keep=hardest)", "replay": 2, "generator_ema": 0.9},
}


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def is_the_same_run(found, expected):
    for network in ("student", "generator"):
        states = (getattr(trainer.networks, network).state_dict() for trainer in (found, expected))
        for (key, value), other in zip(next(states).items(), next(states).values(), strict=True):
            assert torch.equal(other, value), key
    first, second = (vars(trainer.distiller.state) for trainer in (found, expected))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


@pytest.mark.parametrize("memory", [1.0, 0.0], ids=["in memory", "on disk"])
@pytest.mark.parametrize("settings", RUNS.values(), ids=RUNS)
def test_its_state_is_all_that_it_goes_on_from(pair, tmp_path, settings, memory):
    settings = {"bank_memory": memory, **settings}
    trainer = trainer_of(pair, out=tmp_path / "run", **settings)
    other = trainer_of(pair, out=tmp_path / "other", **settings)
    for _ in range(9):
        trainer.step()
    state = through_a_file(trainer.distiller.state_of_all())
    snapshot = trainer.distiller.snapshot()
    if memory == 0:
        shutil.copytree(tmp_path / "run" / "bank", tmp_path / "other" / "bank")
    assert (tmp_path / "run" / "bank").exists() == (memory == 0)
    for _ in range(7):
        trainer.step()
    other.distiller.load_state_dict(other.distiller.own_part(state))
    for _ in range(7):
        other.step()
    is_the_same_run(other, trainer)
    other.distiller.load_state_dict(snapshot)
    for _ in range(7):
        other.step()
    is_the_same_run(other, trainer)


def test_a_run_goes_on_as_if_it_had_not_been_interrupted(pair, tmp_path):
    settings = {"source": "bank(fresh, images=48, keep=random)", "bank_memory": 0.0}
    whole = trainer_of(pair, **settings, out=tmp_path / "whole")
    whole.fit(9)
    half = trainer_of(pair, **settings, out=tmp_path / "run")
    half.planned_iterations = 9
    half.fit(5)
    resumed = trainer_of(pair, **settings, out=tmp_path / "run", resume=True)
    resumed.fit(4)
    is_the_same_run(resumed, whole)


def names_in(folder):
    return {path.stem for path in (folder / "bank").iterdir()}


def named_by(checkpoint):
    bank = torch.load(checkpoint, weights_only=True)["source"]["bank"]
    return {f"{segment['number']:08d}" for segment in bank["segments"]}


def test_files_that_a_kept_checkpoint_names_are_there_and_no_others(pair, tmp_path):
    trainer = trainer_of(
        pair, "bank(noise, images=24)", out=tmp_path, bank_memory=0.0, checkpoint_iterations=2
    )
    trainer.fit(21)
    older, last = (named_by(tmp_path / name) for name in ("checkpoint-1.pt", "checkpoint.pt"))
    assert older != last
    assert names_in(tmp_path) >= older | last
    assert len(names_in(tmp_path)) <= 3 + 3 + 2
    # From the older one it goes on too.
    (tmp_path / "checkpoint.pt").unlink()
    resumed = trainer_of(pair, "bank(noise, images=24)", out=tmp_path, bank_memory=0.0, resume=True)
    resumed.fit(1)


def test_a_disk_that_fills_up_ends_the_run_which_goes_on_later(pair, tmp_path, monkeypatch):
    settings = {"source": "bank(noise, images=24)", "bank_memory": 0.0}
    whole = trainer_of(pair, **settings, out=tmp_path / "whole")
    whole.fit(12)
    write = bank_files.write_tensors

    def full(path, *rest):
        if path.stem >= "00000007":
            raise RunError(f"cannot write {path}: No space left on device: make room, or give another folder")
        write(path, *rest)

    monkeypatch.setattr(bank_files, "write_tensors", full)
    trainer = trainer_of(pair, **settings, out=tmp_path / "run")
    trainer.planned_iterations = 12
    with pytest.raises(RunError, match=r"cannot write .*00000007.safetensors: No space left.*make room"):
        trainer.fit(12, log_every=2)
    monkeypatch.setattr(bank_files, "write_tensors", write)
    resumed = trainer_of(pair, **settings, out=tmp_path / "run", resume=True)
    assert 0 < resumed.iteration < 12
    resumed.fit(12 - resumed.iteration)
    for key, value in whole.networks.student.state_dict().items():
        assert torch.equal(resumed.networks.student.state_dict()[key], value), key


def test_where_it_lies_may_change_and_a_lost_file_is_named(pair, tmp_path):
    source = "bank(noise, images=24)"
    trainer_of(pair, source, out=tmp_path, bank_memory=0.0).fit(6)
    moved = trainer_of(pair, source, out=tmp_path, resume=True)
    moved.fit(1)
    assert named_by(tmp_path / "checkpoint.pt")
    for path in (tmp_path / "bank").iterdir():
        path.unlink()
    back = trainer_of(pair, source, out=tmp_path, bank_memory=0.0, resume=True)
    assert names_in(tmp_path) == named_by(tmp_path / "checkpoint.pt")
    back.fit(1)
    max((tmp_path / "bank").iterdir()).unlink()
    back.fit(1)  # which holds what it has opened, and writes it again
    assert names_in(tmp_path) >= named_by(tmp_path / "checkpoint.pt")
    for path in (tmp_path / "bank").iterdir():
        path.unlink()
    with pytest.raises(
        RunError, match=r"00000\d+.safetensors, which belongs to the run's bank, cannot be read"
    ):
        trainer_of(pair, source, out=tmp_path, bank_memory=0.0, resume=True)


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("images=0", "images must be at least 1, got 0"),
        ("repeats=0.5", "repeats must be a finite number of at least 1, got 0.5"),
        ("images=7", "images must be at least a batch of 8, got 7"),
        ("new=-1", "new must be at least 0, got -1"),
        ("prefill=-1", "prefill must be at least 0"),
        ("views=-1", "views must be at least 0"),
        ("images=64, prefill=65", "prefill must be at most images, 64, got 65"),
        ("augment=turn", "unknown augmentation 'turn'"),
        ("augment=flip-shift", "cannot read 'flip - shift' .* words with hyphens in quotes"),
        ("keep=oldest", "unknown way to keep images 'oldest'.*age"),
        ("store=float", "unknown form of stored images 'float'"),
        ("images=10**9", "cannot read"),
    ],
)
def test_settings_that_make_no_bank_are_refused(pair, inside, said):
    with pytest.raises(UsageError, match=said):
        trainer_of(pair, f"bank(noise, {inside})")


def test_a_bank_of_what_is_no_source_is_refused():
    with pytest.raises(UsageError, match=r"of must be a source, such as Fresh\(\), got 'fresh'"):
        Bank("fresh")


def test_a_bank_that_has_no_room_is_refused(pair, tmp_path):
    with pytest.raises(
        UsageError, match=r"a bank of 1,000,000 images may take 0\.\d\d GiB: give the run a folder"
    ):
        trainer_of(pair, "bank(noise, images=1000000)", bank_memory=0.1)
    trainer = trainer_of(pair, "bank(noise, images=1000000)", bank_memory=0.1, out=tmp_path)
    assert trainer.notices == [
        "a bank of 1,000,000 images may take 0.29 GiB: it is stored in the run's folder"
    ]


def test_it_is_written_as_it_is_read():
    text = "bank(noise, images=640, augment='flip-mix', keep=hardest, balance=True)"
    assert str(as_source(text)) == text
    assert as_source(text).images == 640
