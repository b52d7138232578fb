import threading

import pytest

from dfad_fast import DFADTrainer
from dfad_fast.errors import UsageError
from dfad_fast.networks.exclusive import used_alone
from tests.small_networks import make_net

SHAPE = (1, 8, 8)


def test_two_threads_with_one_network_are_told_so():
    teacher = make_net(8)
    trainer = DFADTrainer(teacher, make_net(4), SHAPE, "dfad", latent_dim=4, batch_size=4)
    inside, done = threading.Event(), threading.Event()

    def hold():
        with used_alone(teacher):
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(10)
    try:
        with pytest.raises(UsageError, match="another thread's trainer is using one of these networks"):
            trainer.step()
    finally:
        done.set()
        thread.join()
    trainer.step()
