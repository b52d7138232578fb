import pytest

from dfad_fast.wording import clock, counted


def test_one_is_no_plural():
    assert counted(1, "generated image") == "1 generated image"
    assert counted(0, "iteration") == "0 iterations"
    assert counted(12345, "iteration") == "12,345 iterations"
    assert counted(2, "batch", "batches") == "2 batches"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.4, "0:00 min"),
        (59.6, "1:00 min"),
        (65, "1:05 min"),
        (3599.4, "59:59 min"),
        (12345, "3:25 h"),
        (1e7, "2,777:46 h"),
    ],
)
def test_time_is_read_at_a_glance(seconds, expected):
    assert clock(seconds) == expected
