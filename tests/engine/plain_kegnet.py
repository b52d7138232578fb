"""KegNet written plainly: a loop for each generator, and then one for the student. It shares no code with the source.

Noise is drawn in the source's order, from a source like its own; networks and first weights are the trainer's.
"""

import copy

import torch
import torch.nn.functional as F


class PlainKegNet:
    """Copies the networks of ``trainer`` before they have moved; ``weights`` are those of the three terms."""

    def __init__(self, trainer, weights, classes):
        self.weights, self.classes = weights, classes
        networks, settings = trainer.networks, trainer.distiller.settings
        self.teacher, self.student = (copy.deepcopy(n) for n in (networks.teacher, networks.student))
        self.teacher.eval()
        made = copy.deepcopy(networks.generator)
        self.generators = [member.generator.train() for member in made.members]
        self.decoders = [decoder.train() for decoder in made.decoders]
        self.adams = [
            torch.optim.Adam([*generator.parameters(), *decoder.parameters()], lr=trainer.recipe.generator_lr)
            for generator, decoder in zip(self.generators, self.decoders, strict=True)
        ]
        self.sgd = torch.optim.SGD(
            self.student.parameters(), lr=trainer.recipe.student_lr, momentum=0.9, weight_decay=1e-4
        )
        self.noise = torch.Generator().manual_seed(settings.seed)
        self.shape = settings.batch_size, settings.latent_dim

    def draw(self):
        """Labels, generators and the rest of a batch of noise."""
        noise = torch.randn(self.shape, generator=self.noise, dtype=torch.float64)
        share = torch.distributions.Normal(0.0, 1.0).cdf(noise[:, :2])
        labels = (share[:, 0] * self.classes).long()
        return labels, (share[:, 1] * len(self.generators)).long(), noise[:, 2:]

    def image_loss(self, images, labels, noise, decoded):
        size = len(images)
        pairs = [(i, j) for i in range(size) for j in range(size)]
        apart = sum(
            (noise[i] - noise[j]).square().mean() * (images[i] - images[j]).abs().mean() for i, j in pairs
        )
        terms = {
            "label": -self.teacher(images).log_softmax(1)[torch.arange(size), labels].mean(),
            "reconstruction": (decoded - noise).square().mean(),
            "diversity": (-apart / size**2).exp(),
        }
        return sum(weight * terms[name] for name, weight in self.weights.items())

    def train_generators(self):
        """A step of each."""
        for generator, decoder, adam in zip(self.generators, self.decoders, self.adams, strict=True):
            labels, _, noise = self.draw()
            images = generator(torch.cat([torch.eye(self.classes, dtype=noise.dtype)[labels], noise], 1))
            adam.zero_grad()
            self.image_loss(images, labels, noise, decoder(images)).backward()
            adam.step()

    def teach(self):
        """A step of the student."""
        labels, owners, noise = self.draw()
        with torch.no_grad():
            told = torch.cat([torch.eye(self.classes, dtype=noise.dtype)[labels], noise], 1)
            made = [generator(told) for generator in self.generators]
            images = torch.stack([made[owner][row] for row, owner in enumerate(owners)])
            target = self.teacher(images).softmax(1)
        self.student.train()
        self.sgd.zero_grad()
        F.kl_div(self.student(images).log_softmax(1), target, reduction="batchmean").backward()
        self.sgd.step()
