"""The fused losses in a plain PyTorch loop: a student learns from a teacher on given images.

    python examples/own_loop.py

Everything is plain PyTorch except four ops of dfad_fast; its trainer is not used.
"""

import torch
from torch import nn

from dfad_fast.data import load_dataset
from dfad_fast.ops import boundary_hinge_loss, interpolated_l1, l1_discrepancy, mixup


class Network(nn.Module):
    """Returns logits, and the pre-activations of two stages."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.second = nn.Conv2d(width, 32, 3, padding=1, stride=2)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        first = self.first(x)
        second = self.second(first.relu())
        return self.head(second.relu().mean((2, 3))), [second]


def train(
    teacher: Network, images: torch.Tensor, labels: torch.Tensor, steps: int, batch: int = 128
) -> float:
    """Trains a teacher on labels; returns its last loss."""
    optimizer = torch.optim.Adam(teacher.parameters(), 3e-3)
    for _ in range(steps):
        chosen = torch.randint(len(images), (batch,))
        loss = nn.functional.cross_entropy(teacher(images[chosen])[0], labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def distill(teacher: Network, student: Network, images: torch.Tensor, steps: int, batch: int = 128) -> float:
    """Trains the student on the teacher's logits, hidden neurons, and logits for mixtures; returns its last loss."""
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    for _ in range(steps):
        x = images[torch.randint(len(images), (batch,))]
        lam, perm = torch.rand(batch), torch.randperm(batch)
        with torch.no_grad():
            answers, features = teacher(x)
        own, own_features = student(x)
        own_of_mixtures, _ = student(mixup(x, lam, perm))
        loss = (
            l1_discrepancy(own, answers)
            + 0.1 * boundary_hinge_loss(own_features, features, margin=1.0)
            + interpolated_l1(own_of_mixtures, answers, lam, perm)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def accuracy(network: Network, images: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.no_grad():
        return (network(images)[0].argmax(1) == labels).float().mean().item()


def main(steps: int = 400) -> float:
    """Returns the student's accuracy on test images."""
    torch.manual_seed(0)
    digits = load_dataset("digits")
    images, tests = (digits.normalize(x) for x in (digits.train_images, digits.test_images))
    teacher, student = Network(32), Network(8)
    train(teacher, images, digits.train_labels, steps)
    distill(teacher, student, images, steps)
    found = accuracy(student, tests, digits.test_labels)
    print(f"teacher {accuracy(teacher, tests, digits.test_labels):.1%}, student {found:.1%}")
    return found


if __name__ == "__main__":
    main()
