"""A callable as a teacher: what it may answer, and that nothing is asked twice or beyond the budget."""

import errno
import json

import numpy as np
import pytest
import torch

from dfad_fast import BlackBoxTeacher, RunError, UsageError
from dfad_fast.models.black_box import OnnxSession, QueryBudgetSpent, kept
from tests.small_networks import make_net

CLASSES = 4


class Asked:
    """Probabilities of the images' first four pixels, and what was asked."""

    def __init__(self):
        self.batches = []

    def __call__(self, images):
        self.batches.append(images.clone())
        return images.flatten(1)[:, :CLASSES].softmax(1)

    @property
    def images(self):
        return sum(map(len, self.batches))


def images_of(seed, count=5):
    return torch.randn(count, 1, 3, 3, generator=torch.Generator().manual_seed(seed))


def answering(answer, kind="auto"):
    return BlackBoxTeacher(lambda images: answer(images), CLASSES, kind)


def test_logits_are_recovered_from_probabilities_but_for_their_mean():
    images = images_of(0)
    logits = images.flatten(1)[:, :CLASSES]
    teacher = BlackBoxTeacher(Asked(), CLASSES)
    torch.testing.assert_close(teacher(images), logits - logits.mean(1, keepdim=True))
    assert teacher.queries.kind == "probabilities"


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize(
    "rounded", [lambda p: p.round(decimals=3), lambda p: p.bfloat16(), lambda p: p.half()]
)
def test_rounded_probabilities_are_recognized(rounded, classes):
    logits = torch.randn(50, classes, generator=torch.Generator().manual_seed(0))
    teacher = BlackBoxTeacher(lambda x: rounded(logits.softmax(1)), classes)
    torch.testing.assert_close(teacher(images_of(0, 50)).softmax(1), logits.softmax(1), atol=2e-3, rtol=0.02)
    assert teacher.queries.kind == "probabilities"


@pytest.mark.parametrize(
    "row", [[0.5, 0.6, 0.0, 0.0], [1.5, 0.0, 0.0, 0.0], [0.0] * 4, [1.1, -0.1, 0.0, 0.0]]
)
def test_other_numbers_are_logits(row):
    teacher = answering(lambda x: torch.tensor([row] * len(x)))
    torch.testing.assert_close(teacher(images_of(0, 1)), torch.tensor([row]))
    assert teacher.queries.kind == "logits"


@pytest.mark.parametrize("as_array", [False, True])
def test_logits_are_taken_as_they_are(as_array):
    images = images_of(0)
    logits = images.flatten(1)[:, :CLASSES]
    teacher = answering(lambda x: logits.numpy() if as_array else logits)
    torch.testing.assert_close(teacher(images), logits, rtol=0, atol=0)
    assert teacher.queries.kind == "logits"


@pytest.mark.parametrize("as_array", [False, True])
def test_the_answers_of_a_convolution_are_logits(as_array):
    images = images_of(0)
    maps = images.flatten(1)[:, :CLASSES, None, None]
    teacher = answering(lambda x: maps.numpy() if as_array else maps)
    torch.testing.assert_close(teacher(images), maps[:, :, 0, 0], rtol=0, atol=0)


def test_hard_labels_are_those_of_a_sure_teacher():
    teacher = answering(lambda x: np.array([0, 3, 1]), "labels")
    answer = teacher(images_of(0, 3)).softmax(1)
    torch.testing.assert_close(answer, torch.eye(CLASSES)[[0, 3, 1]])


def test_a_module_as_a_callable_shows_no_weights():
    network = make_net(2)
    teacher = BlackBoxTeacher(torch.jit.script(network.eval()), CLASSES)
    assert not list(teacher.parameters())
    assert not teacher(torch.randn(2, 1, 8, 8)).requires_grad


def test_a_session_of_onnxruntime_is_a_callable(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network, images = make_net(2).eval(), torch.randn(2, 1, 8, 8)
    batch = {"x": {0: torch.export.Dim("batch")}}
    torch.onnx.export(
        network, (images,), tmp_path / "net.onnx", input_names=["x"], dynamic_shapes=({0: batch["x"][0]},)
    )
    teacher = BlackBoxTeacher(OnnxSession(tmp_path / "net.onnx"), CLASSES, "logits")
    torch.testing.assert_close(teacher(images), network(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (lambda x: torch.full((len(x), CLASSES), float("nan")), "auto", "NaN or numbers"),
        (
            lambda x: torch.full((len(x), CLASSES), 1e39, dtype=torch.float64),
            "auto",
            "NaN or .* infinite in float32",
        ),
        (lambda x: torch.zeros(len(x), CLASSES + 1), "auto", r"returned \[5, 5\] for 5 images"),
        (lambda x: torch.zeros(len(x) - 1, CLASSES), "auto", r"returned \[4, 4\] for 5 images"),
        (lambda x: torch.zeros(len(x), CLASSES, 1, 2), "auto", r"returned \[5, 4, 1, 2\] for 5 images"),
        (lambda x: "cat", "auto", "str instead of numbers"),
        (lambda x: torch.full((len(x),), CLASSES), "labels", "labels from 4 to 4"),
        (lambda x: torch.full((len(x),), 0.5), "labels", "labels from 0.5 to 0.5"),
        (lambda x: torch.zeros(len(x), CLASSES), "labels", "4 numbers per image, expected labels"),
        (
            lambda x: torch.zeros(len(x), dtype=torch.int64),
            "logits",
            "returned labels, expected logits",
        ),
        (lambda x: torch.zeros(len(x), dtype=torch.int64), "auto", "set answers='labels'"),
        (lambda x: torch.ones(len(x), CLASSES), "probabilities", "are not probabilities"),
        (lambda x: 1 / 0, "auto", "failed on images .*ZeroDivisionError"),
    ],
)
def test_bad_answers_are_one_line(answer, kind, said):
    with pytest.raises(RunError, match=said) as caught:
        answering(answer, kind)(images_of(0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ask": 3}, "is a callable"),
        ({"answers": "guess"}, "unknown kind of answers"),
        ({"classes": 1}, "classes must be at least 2"),
        ({"query_budget": 0}, "query_budget must be at least 1"),
        ({"max_batch": 0}, "max_batch must be at least 1"),
    ],
)
def test_bad_arguments_are_refused(change, said):
    with pytest.raises(UsageError, match=said):
        BlackBoxTeacher(**{"ask": Asked(), "classes": CLASSES, **change})


def test_nothing_is_asked_twice():
    asked = Asked()
    teacher = BlackBoxTeacher(asked, CLASSES, max_batch=3)
    images = images_of(0)
    first = teacher(torch.cat([images, images[:2]]))
    assert [len(batch) for batch in asked.batches] == [3, 2]
    torch.testing.assert_close(teacher(images.flip(0)), first[:5].flip(0), rtol=0, atol=0)
    assert asked.images == teacher.queries.count == 5
    teacher(images + 1e-6)
    assert asked.images == teacher.queries.count == 10


def test_the_budget_is_never_exceeded():
    asked = Asked()
    teacher = BlackBoxTeacher(asked, CLASSES, query_budget=8)
    teacher(images_of(0))
    with pytest.raises(QueryBudgetSpent, match="budget of 8 is used up: 5 images were sent and 5 more"):
        teacher(images_of(1))
    teacher(images_of(1)[:3])
    teacher(images_of(0))  # which was paid for
    assert asked.images == teacher.queries.count == 8


def test_a_journal_is_gone_on_with(tmp_path):
    first = BlackBoxTeacher(Asked(), CLASSES, query_budget=8)
    before = first(images_of(0, 2))  # what was asked before the journal stands in it too
    first.queries.begin_journal(tmp_path / "queries.jsonl")
    first(images_of(1, 3))
    asked = Asked()
    second = BlackBoxTeacher(asked, CLASSES, query_budget=8)
    second.queries.resume_journal(tmp_path / "queries.jsonl")
    assert (second.queries.count, second.queries.kind) == (5, "probabilities")
    torch.testing.assert_close(second(images_of(0, 2)), before, rtol=0, atol=0)
    second(images_of(1, 3))
    assert not asked.batches
    with pytest.raises(QueryBudgetSpent):
        second(images_of(2, 4))


def test_what_was_sent_and_not_answered_is_sent_again_and_counted_once(tmp_path):
    path, keys = tmp_path / "queries.jsonl", []

    def killed(images):
        raise KeyboardInterrupt

    first = BlackBoxTeacher(killed, CLASSES, query_budget=5)
    first.queries.begin_journal(path)
    with pytest.raises(KeyboardInterrupt):
        first(images_of(0))
    asked = Asked()
    second = BlackBoxTeacher(asked, CLASSES, query_budget=5)
    second.queries.resume_journal(path)
    assert second.queries.count == 5
    second(images_of(0))
    assert asked.images == second.queries.count == 5
    for line in path.read_text().splitlines():
        keys += [value for name, value in json.loads(line).items() if name in ("sent", "answered")]
    assert len(keys) == 2
    assert keys[0] == keys[1]  # one request, one key


def test_a_closed_one_answers_what_it_knows_alone():
    asked = Asked()
    teacher = BlackBoxTeacher(asked, CLASSES)
    teacher(images_of(0))
    teacher.queries.close()
    teacher(images_of(0))
    with pytest.raises(RunError, match="not by this command"):
        teacher(images_of(1))
    assert asked.images == 5


def test_a_torn_last_line_is_cut_off(tmp_path):
    path = tmp_path / "queries.jsonl"
    teacher = BlackBoxTeacher(Asked(), CLASSES)
    teacher.queries.begin_journal(path)
    teacher(images_of(0))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"sent": "ab')
    again = BlackBoxTeacher(Asked(), CLASSES)
    again.queries.resume_journal(path)
    assert again.queries.count == 5
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "line", ["{}", "[]", "1", '{"answered": "x", "rows": ""}', '{"sent": "x", "images": "?"}', "no"]
)
def test_another_bad_line_is_refused(tmp_path, line):
    path = tmp_path / "queries.jsonl"
    path.write_text(f'{{"run": "a"}}\n{line}\n')
    with pytest.raises(UsageError, match="line 2, is not a journal entry"):
        BlackBoxTeacher(Asked(), CLASSES).queries.resume_journal(path)


def test_nothing_is_sent_that_cannot_be_noted(tmp_path):
    asked = Asked()
    teacher = BlackBoxTeacher(asked, CLASSES)
    teacher.queries.begin_journal(tmp_path / "queries.jsonl")
    (tmp_path / "queries.jsonl").unlink()
    (tmp_path / "queries.jsonl").mkdir()
    with pytest.raises(RunError, match="cannot record the queries"):
        teacher(images_of(0))
    assert not asked.batches


def test_a_line_that_does_not_fit_on_the_disk_is_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "queries.jsonl"
    asked = Asked()
    teacher = BlackBoxTeacher(asked, CLASSES)
    teacher.queries.begin_journal(path)
    teacher(images_of(0))
    whole = path.read_bytes()

    def no_space(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("os.fsync", no_space)
        with pytest.raises(RunError, match="No space left on device"):
            teacher(images_of(1))
    assert asked.images == 5
    assert path.read_bytes() == whole
    teacher(images_of(1))
    again = BlackBoxTeacher(Asked(), CLASSES)
    again.queries.resume_journal(path)
    assert again.queries.count == 10


def test_nothing_is_sent_where_another_one_wrote_to_the_journal(tmp_path):
    path = tmp_path / "queries.jsonl"
    asked = Asked()
    teachers = [BlackBoxTeacher(asked, CLASSES) for _ in range(2)]
    teachers[0].queries.begin_journal(path)
    teachers[1].queries.resume_journal(path)
    teachers[1](images_of(0))
    for seed, change in ((1, lambda: None), (2, path.unlink)):
        change()
        with pytest.raises(RunError, match="is not as this run left it"):
            teachers[0](images_of(seed))
    assert asked.images == 5


def test_answers_beside_a_journal_do_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "_MOST", 100)  # bytes: one answer to 5 images, and not two
    path = tmp_path / "queries.jsonl"
    asked = Asked()
    teacher = BlackBoxTeacher(asked, CLASSES)
    before = teacher(images_of(0))
    teacher.queries.begin_journal(path)
    for seed in range(1, 9):
        teacher(images_of(seed))
    again = BlackBoxTeacher(asked, CLASSES)
    again.queries.resume_journal(path)
    for reader in (teacher, again):
        assert reader.queries._kept._bytes <= 100
        torch.testing.assert_close(reader(images_of(0)), before, rtol=0, atol=0)
    assert asked.images == 45
    teacher.queries.leave_journal()
    path.unlink()
    torch.testing.assert_close(teacher(images_of(0)), before, rtol=0, atol=0)
    with pytest.raises(RunError, match="cannot read answers from"):
        again(images_of(3))
