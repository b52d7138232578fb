"""Tracing replaces how the modules of the whole process are called: nobody else may notice."""

import threading

import torch
from torch import nn

from dfad_fast.models.reading.data_flow import DataFlow


def test_other_threads_call_their_modules_meanwhile():
    inside, done = threading.Event(), threading.Event()

    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x):
            inside.set()
            assert done.wait(10)
            return self.relu(x)

    flows = []
    tracing = threading.Thread(target=lambda: flows.append(DataFlow(Slow())))
    tracing.start()
    assert inside.wait(10)
    other = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    try:
        answer = other(torch.ones(1, 3))
    finally:
        done.set()
        tracing.join()
    assert answer.shape == (1, 2)
    assert not flows[0].untraceable
