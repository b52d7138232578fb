import math

import torch

from dfad_fast.sources.inverted.source import Met


def test_the_lowest_loss_is_kept_and_nan_gives_way():
    first, second, third = (torch.full((1,), float(i)) for i in range(3))
    met = Met(torch.tensor(2.0), first)
    assert torch.equal(met.or_better(Met(torch.tensor(1.0), second)).images, second)
    assert torch.equal(met.or_better(Met(torch.tensor(3.0), second)).images, first)
    assert torch.equal(met.or_better(Met(torch.tensor(math.nan), second)).images, first)
    nan = Met(torch.tensor(math.nan), first)
    assert torch.equal(nan.or_better(Met(torch.tensor(9.0), third)).images, third)
