"""A round of model inversion written plainly: one process, no lever, one loop. It shares no code with the source.

Random numbers are drawn in the source's order, from a source like its own.
"""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class PlainRounds:
    """The rounds of ``trainer``, whose networks it copies before they have moved."""

    def __init__(self, trainer, spec, weights):
        networks = trainer.networks
        self.teacher, self.student, self.generator = (
            copy.deepcopy(network) for network in (networks.teacher, networks.student, networks.generator)
        )
        self.spec, self.weights, self.recipe = spec, weights, trainer.recipe
        self.batch, self.side = trainer.distiller.settings.batch_size, trainer.distiller.form.shape[1:]
        self.latent_dim = trainer.distiller.settings.latent_dim
        self.classes = networks.classes
        self.rng = np.random.default_rng([trainer.distiller.settings.seed, 5])
        self.noise = torch.Generator().manual_seed(trainer.distiller.settings.seed)
        normalization = trainer.distiller.form.normalization
        self.black = 0.0 if normalization is None else (-normalization[0] / normalization[1]).double()
        self.norms = [m for m in self.teacher.modules() if isinstance(m, nn.BatchNorm2d)]
        self.average = None
        self.rounds = 0
        self.meta_optimizer = torch.optim.Adam(
            [p.detach().clone().requires_grad_() for p in self.generator.parameters()],
            lr=self.recipe.generator_lr * spec.steps,
            betas=(0.5, 0.999),
        )
        self.student_optimizer = torch.optim.SGD(
            self.student.parameters(), self.recipe.student_lr, momentum=0.9, weight_decay=1e-4
        )
        self.head, self.head_optimizer, self.bank = None, None, []

    def contrast_by(self, head):
        """With a copy of this head as it is at first. The source drew its weights before anything else."""
        self.head = copy.deepcopy(head)
        self.head_optimizer = torch.optim.Adam(self.head.parameters(), self.recipe.generator_lr)
        for layer in (self.head[0], self.head[2]):
            for shape in (layer.weight.shape, layer.bias.shape):
                self.rng.random(shape)

    def iteration(self):
        """One round, and a step of the student on what it made."""
        images = self.round()
        self.student.train()
        self.student_optimizer.zero_grad()
        with torch.no_grad():
            target = F.softmax(self.teacher(images) / 20.0, dim=1)
        divergence = F.kl_div(
            F.log_softmax(self.student(images) / 20.0, dim=1), target, reduction="batchmean"
        )
        (divergence * 20.0**2).backward()
        self.student_optimizer.step()
        return images

    def round(self):
        spec = self.spec
        self.begin()
        order = [i % self.classes for i in range(self.batch // self.classes * self.classes)]
        labels = torch.tensor([*order, *self.rng.permutation(self.classes)[: self.batch - len(order)]])
        z = torch.randn(self.batch, self.latent_dim, generator=self.noise, dtype=torch.float64)
        z.requires_grad_()
        given = z if not spec.vectors else self.noisy_input(labels)
        groups = [{"params": list(self.generator.parameters())}]
        if spec.lr_noise:
            groups.append({"params": [z], "lr": spec.lr_noise})
        optimizer = torch.optim.Adam(groups, lr=self.recipe.generator_lr, betas=(0.5, 0.999))
        self.student.eval()
        lowest, best, best_features = math.inf, None, None
        for _ in range(spec.steps):
            self.generator.train()
            images = self.generator.generator(given()) if spec.vectors else self.generator(z)
            loss, features = self.loss(images, labels)
            if loss.item() < lowest:
                lowest, best, best_features = loss.item(), images.detach(), features
            optimizer.zero_grad()
            if self.head is not None:
                self.head_optimizer.zero_grad()
            loss.backward()
            for meta, p in zip(
                self.meta_optimizer.param_groups[0]["params"], self.generator.parameters(), strict=True
            ):
                meta.grad = p.grad.clone() if meta.grad is None else meta.grad + p.grad
            optimizer.step()
            if self.head is not None:
                self.head_optimizer.step()
        if spec.restart == "meta":
            self.meta_optimizer.step()
        self.meta_optimizer.zero_grad()
        if spec.memory:
            self.average = [(mean.detach(), variance.detach()) for mean, variance in self.seen]
        if best_features is not None:
            self.bank = [*self.bank, *best_features.half().double()][-spec.features :]
        self.rounds += 1
        return best

    def begin(self):
        if self.spec.restart == "meta":
            with torch.no_grad():
                for own, meta in zip(
                    self.generator.parameters(), self.meta_optimizer.param_groups[0]["params"], strict=True
                ):
                    own.copy_(meta)
        elif self.rounds % self.spec.every == 0:
            self.draw_weights()
        if self.spec.vectors:
            shape = self.generator.noisy_weight.shape
            drawn = self.rng.standard_normal(shape, dtype=np.float32)
            self.generator.noisy_weight.data.copy_(torch.from_numpy(drawn))
            self.generator.noisy_bias.data.zero_()

    @torch.no_grad()
    def draw_weights(self):
        for module in self.generator.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)) and self.spec.weights == "normal":
                module.weight.copy_(torch.from_numpy(self.rng.standard_normal(module.weight.shape) * 0.02))
                module.bias.zero_()
            elif isinstance(module, (nn.Linear, nn.Conv2d)):
                bound = module.weight[0].numel() ** -0.5
                for own in (module.weight, module.bias):
                    own.copy_(torch.from_numpy(self.rng.uniform(-bound, bound, own.shape)))
            elif isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
                normal = self.spec.weights == "normal"
                scale = self.rng.standard_normal(module.weight.shape) * 0.02 if normal else 0.0
                module.weight.copy_(torch.as_tensor(1.0 + scale))
                module.bias.zero_()

    def noisy_input(self, labels):
        """What goes into the generator after the noisy layers: image i goes through the layer i // classes."""
        noisy = self.generator

        def given():
            vectors = noisy.norm(noisy.vectors[labels])
            rows = [
                noisy.noisy_weight[i // self.classes] @ v + noisy.noisy_bias[i // self.classes]
                for i, v in enumerate(vectors)
            ]
            return torch.stack(rows)

        return given

    def loss(self, images, labels):
        weights = self.weights
        whole = self.moved(images)
        teacher, means, of_images = self.ask(whole)
        student = self.student(whole)
        same = (teacher.argmax(1) == student.argmax(1)).double()
        log_p, log_q = teacher.log_softmax(1), student.log_softmax(1)
        disagreement = (same * (log_p.exp() * (log_p - log_q)).sum(1)).mean()
        features = None
        total = weights["batch_norm"] * self.distance(means)
        if self.head is not None:
            *_, of_crops = self.ask(self.cropped(images))
            features = torch.cat([of_crops, of_images], 1).detach()
            total = total + weights["contrast"] * self.contrast(of_crops, of_images)
        total = total + weights["label"] * F.cross_entropy(teacher, labels)
        return total + weights["disagreement"] * disagreement, features

    def ask(self, images):
        """Logits, mean and variance at each norm, and the means of each image."""
        inputs = []
        hooks = [m.register_forward_pre_hook(lambda _, x: inputs.append(x[0])) for m in self.norms]
        logits = self.teacher(images)
        for hook in hooks:
            hook.remove()
        moments = [(x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)) for x in inputs]
        return logits, moments, torch.cat([x.mean((2, 3)) for x in inputs], 1)

    def distance(self, moments):
        share = self.spec.memory
        if self.average is not None:
            moments = [
                ((1 - share) * mean + share * m, (1 - share) * variance + share * v)
                for (mean, variance), (m, v) in zip(moments, self.average, strict=True)
            ]
        self.seen = moments
        return sum(
            (mean - norm.running_mean).norm() + (variance - norm.running_var).norm()
            for (mean, variance), norm in zip(moments, self.norms, strict=True)
        )

    def contrast(self, crops, wholes):
        own = len(crops)
        if self.bank:
            count = min(self.spec.compared, len(self.bank))
            chosen = self.rng.choice(len(self.bank), count, replace=False)
            former = torch.stack([self.bank[i] for i in chosen])
            crops = torch.cat([crops, former[:, : crops.shape[1]]])
            wholes = torch.cat([wholes, former[:, wholes.shape[1] :]])
        a, b = (F.normalize(self.head(x), dim=1) for x in (crops, wholes))
        costs = F.cross_entropy(a @ b.detach().T / 0.1, torch.arange(len(a)), reduction="none")
        return costs[:own].mean() + (costs[own:].mean() if len(costs) > own else 0.0)

    def moved(self, images):
        most = [int(self.spec.shift * length) for length in self.side]
        across = self.rng.integers(-most[1], most[1] + 1, self.batch)
        down = self.rng.integers(-most[0], most[0] + 1, self.batch)
        mirrored = self.rng.random(self.batch) < 0.5
        height, width = self.side
        moved = []
        for x, dx, dy, mirror in zip(images - self.black, across, down, mirrored, strict=True):
            border = F.pad(x, (most[1], most[1], most[0], most[0]))
            row, column = most[0] + dy, most[1] + dx
            part = border[:, row : row + height, column : column + width]
            moved.append(part.flip(2) if mirror else part)
        return torch.stack(moved) + self.black

    def cropped(self, images):
        area = self.rng.uniform(0.25, 1.0, self.batch)
        form = np.exp(self.rng.uniform(-np.log(4 / 3), np.log(4 / 3), self.batch))
        sides, places = [], []
        for squared in (area * form, area / form):
            sides.append(np.minimum(np.sqrt(squared), 1.0))
            places.append(self.rng.uniform(-1.0, 1.0, self.batch) * (1.0 - sides[-1]))
        mirrored = np.where(self.rng.random(self.batch) < 0.5, -1.0, 1.0)
        maps = torch.zeros(self.batch, 2, 3, dtype=torch.float64)
        maps[:, 0, 0], maps[:, 0, 2] = torch.as_tensor(sides[0] * mirrored), torch.as_tensor(places[0])
        maps[:, 1, 1], maps[:, 1, 2] = torch.as_tensor(sides[1]), torch.as_tensor(places[1])
        grid = F.affine_grid(maps, list(images.shape), align_corners=False)
        return F.grid_sample(images - self.black, grid, align_corners=False) + self.black
