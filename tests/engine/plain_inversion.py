"""Rounds of DeepInversion written plainly: one process, no lever, one loop. It shares no code with the source.

Random numbers are drawn in the source's order, from a source like its own.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class PlainInversion:
    """The rounds of ``trainer``, whose networks it copies before they have moved; ``weights`` by terms' names.

    A round begins with the next of ``drawings``, or else with noise. It ends with the images of the last step, or
    ``lowest``: with those of the lowest loss. The student's loss is KL at temperature 3, or ``l1``.
    """

    def __init__(self, trainer, weights, steps, shift, flip=True, lowest=True, drawings=None, l1=False):
        self.teacher, self.student = (
            copy.deepcopy(network) for network in (trainer.networks.teacher, trainer.networks.student)
        )
        self.teacher.eval()
        self.weights, self.steps, self.shift, self.flip = weights, steps, shift, flip
        self.lowest, self.drawings, self.l1 = lowest, drawings, l1
        settings = trainer.distiller.settings
        self.batch, self.shape = settings.batch_size, trainer.networks.image_shape
        self.rng = np.random.default_rng([settings.seed, 6])
        self.norms = [m for m in self.teacher.modules() if isinstance(m, nn.BatchNorm2d)]
        self.attention = [m for m in self.teacher.modules() if isinstance(m, nn.MultiheadAttention)]
        self.rate = trainer.recipe.generator_lr
        self.optimizer = torch.optim.SGD(
            self.student.parameters(), lr=trainer.recipe.student_lr, momentum=0.9, weight_decay=1e-4
        )

    def round(self, classes):
        if self.drawings:
            images = next(self.drawings).double()
        else:
            images = torch.from_numpy(self.rng.standard_normal((self.batch, *self.shape)))
        images.requires_grad_()
        whole, rest = divmod(self.batch, classes)
        drawn = np.concatenate([np.tile(np.arange(classes), whole), self.rng.permutation(classes)[:rest]])
        labels = torch.from_numpy(drawn)
        adam = torch.optim.Adam([images], lr=self.rate)
        best, lowest = None, float("inf")
        self.student.eval()
        for _ in range(self.steps):
            shown = self.jittered(images)
            loss = self.loss(shown, labels)
            if loss.item() < lowest:
                best, lowest = images.detach().clone(), loss.item()
            adam.zero_grad()
            loss.backward()
            adam.step()
        return best if self.lowest else images.detach()

    def jittered(self, images):
        height, width = self.shape[1:]
        down = int(self.rng.integers(-int(self.shift * height), int(self.shift * height) + 1))
        right = int(self.rng.integers(-int(self.shift * width), int(self.shift * width) + 1))
        mirrored = self.flip and self.rng.random() < 0.5
        rows, columns = (torch.arange(height) - down) % height, (torch.arange(width) - right) % width
        rolled = images[:, :, rows][:, :, :, columns]
        return rolled.flip(-1) if mirrored else rolled

    def loss(self, x, labels):
        inputs, outputs = [], []
        hooks = [m.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for m in self.norms]
        hooks += [m.register_forward_hook(lambda *call: outputs.append(call[2][0])) for m in self.attention]
        teacher = self.teacher(x)
        for hook in hooks:
            hook.remove()
        terms = {
            "label": F.cross_entropy(teacher, labels),
            "total_variation": (x[..., 1:] - x[..., :-1]).norm()
            + (x[..., 1:, :] - x[..., :-1, :]).norm()
            + (x[..., 1:, 1:] - x[..., :-1, :-1]).norm()
            + (x[..., 1:, :-1] - x[..., :-1, 1:]).norm(),
            "image_norm": x.flatten(1).norm(dim=1).mean(),
            "batch_norm": sum(
                (given.mean((0, 2, 3)) - norm.running_mean).norm()
                + (given.var((0, 2, 3), unbiased=False) - norm.running_var).norm()
                for given, norm in zip(inputs, self.norms, strict=True)
            ),
        }
        if "patch_entropy" in self.weights:
            terms["patch_entropy"] = sum(self.entropy(tokens[:, 1:]) for tokens in outputs) / len(outputs)
        if "js" in self.weights:
            p, q = ((logits / 3).softmax(1) for logits in (teacher, self.student(x)))
            m = (p + q) / 2
            terms["js"] = ((p * (p / m).log() + q * (q / m).log()).sum(1) / 2).mean()
        return sum(weight * terms[name] for name, weight in self.weights.items())

    def entropy(self, patches):
        similarities = F.cosine_similarity(patches[:, None], patches[:, :, None], dim=3).flatten(1)
        least, largest = similarities.min().item(), similarities.max().item()
        places = torch.linspace(least, largest, 10, dtype=torch.float64)
        kernel = torch.distributions.Normal(places[:, None], 0.01)
        entropies = []
        for of_image in similarities:
            density = kernel.log_prob(of_image).exp().mean(1) + 1e-4
            height = -density * density.log()
            entropies.append(((height[1:] + height[:-1]) / 2 * (places[1:] - places[:-1])).sum())
        return torch.stack(entropies).mean()

    def learn(self, images):
        """The student's step on a batch."""
        self.student.train()
        with torch.no_grad():
            target = self.teacher(images)
        answer = self.student(images)
        if self.l1:
            loss = F.l1_loss(answer, target)
        else:
            loss = 9 * F.kl_div((answer / 3).log_softmax(1), (target / 3).softmax(1), reduction="batchmean")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
