"""The default method, ``dfad-ar-vi-bn``, against the published loop with its two changes, written plainly."""

import pytest
import torch.nn.functional as F
from torch import nn

from benchmarks.faithful import OBJECTIVES, FaithfulLoop, mix
from tests.engine.test_parity import PAIRS, SPEEDS, follow


class PlainLoop(FaithfulLoop):
    """The teacher labels the mixtures, and its running statistics hold the generator, which sees the student in eval
    mode."""

    def __init__(self, trainer, weight=0.2):
        super().__init__(trainer, OBJECTIVES["dfad-ar-vi"])
        self.weight = weight

    def _virtual(self, images, teacher):
        lam, perm = self._draw_mixture(len(images))
        mixed = mix(images, lam, perm)
        return F.l1_loss(self.student(mixed), self.teacher(mixed).detach())

    def _generator_step(self):
        seen = []
        norms = [module for module in self.teacher.modules() if isinstance(module, nn.BatchNorm2d)]
        hooks = [norm.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for norm in norms]
        self.student.eval()
        self._generator_optimizer.zero_grad()
        images = self.generator(self._draw_noise())
        distance = F.l1_loss(self.student(images), self.teacher(images))
        statistics = sum(
            (x.mean((0, 2, 3)) - norm.running_mean).norm()
            + (x.var((0, 2, 3), unbiased=False) - norm.running_var).norm()
            for x, norm in zip(seen, norms, strict=True)
        )
        (self.weight * statistics - distance).backward()
        self._generator_optimizer.step()
        self.student.train()
        for hook in hooks:
            hook.remove()
        return {"generator/l1": distance.item(), "generator/batch_norm": statistics.item()}


@pytest.mark.parametrize("speed", SPEEDS)
def test_the_trainer_follows_the_plain_loop(speed):
    trainer = PAIRS["resnet"].trainer("dfad-ar-vi-bn", **SPEEDS[speed])
    follow(trainer, PlainLoop(trainer), iterations=10)


def test_a_small_error_is_seen():
    trainer = PAIRS["resnet"].trainer("dfad-ar-vi-bn", **SPEEDS["exact"])
    with pytest.raises(AssertionError):
        follow(trainer, PlainLoop(trainer, weight=0.4), iterations=5)
