import math

import pytest
import torch

from dfad_fast.errors import UsageError
from dfad_fast.inspection.calibration import calibration


def logits_of(confidences, answers):
    """Two-class logits whose softmax gives ``answers`` these probabilities."""
    p = torch.tensor(confidences, dtype=torch.float64)
    log = torch.stack([p.log(), (1 - p).log()], 1)
    return torch.where(torch.tensor(answers)[:, None] == 0, log, log.flip(1))


def test_a_case_by_hand():
    # Bin (0.5, 0.75]: confidences 0.6 and 0.7, one right: |0.5 - 0.65|. Bin (0.75, 1]: 0.9 thrice, two right.
    measured = calibration(
        logits_of([0.6, 0.7, 0.9, 0.9, 0.9], [0, 1, 0, 1, 1]), torch.tensor([0, 0, 0, 1, 0]), bins=4
    )
    assert measured.counts == [0, 0, 2, 3]
    assert measured.error == pytest.approx(2 / 5 * 0.15 + 3 / 5 * (0.9 - 2 / 3))
    assert measured.confidence[2:] == pytest.approx([0.65, 0.9])
    assert measured.accuracy[2:] == pytest.approx([0.5, 2 / 3])
    assert all(math.isnan(x) for x in measured.confidence[:2] + measured.accuracy[:2])


def test_against_a_loop_over_images():
    source = torch.Generator().manual_seed(0)
    logits, labels = 3 * torch.randn(300, 5, generator=source), torch.randint(5, (300,), generator=source)
    bins: list[list[tuple[float, float]]] = [[] for _ in range(15)]
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        top = max(row)
        confidence = 1 / sum(math.exp(x - top) for x in row)
        bins[math.ceil(confidence * 15) - 1].append((confidence, float(row.index(top) == label)))
    gaps = [abs(sum(c for c, _ in held) - sum(r for _, r in held)) for held in bins]
    measured = calibration(logits, labels, bins=15)
    assert measured.counts == [len(held) for held in bins]
    assert measured.error == pytest.approx(sum(gaps) / 300)


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_not():
    logits = 1000 * torch.eye(3)
    assert calibration(logits, torch.arange(3), bins=10).error == 0
    assert calibration(logits, torch.tensor([1, 2, 0]), bins=10).error == 1


def test_less_than_one_bin_is_refused():
    with pytest.raises(UsageError, match="--bins must be at least 1, got 0"):
        calibration(torch.zeros(2, 3), torch.zeros(2), bins=0)
