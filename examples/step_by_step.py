"""The trainer driven step by step from a custom loop.

python examples/step_by_step.py
"""

import torch

from dfad_fast import DFADTrainer
from dfad_fast.models import create_network


def main(iterations: int = 20) -> float:
    """Returns the last discrepancy between teacher and student."""
    torch.manual_seed(0)
    shape, classes = (1, 8, 8), 10
    teacher = create_network("resnet8-w16", shape, classes)  # in practice: a trained one
    student = create_network("resnet8-w16", shape, classes)
    trainer = DFADTrainer(teacher, student, shape, "dfad-ar-vi", batch_size=32)
    trainer.planned_iterations = iterations  # the length of the schedules of learning rates and weights
    for number in range(iterations):
        losses = trainer.step()  # tensors on the device: reading one waits for it
        if number % 5 == 4:
            print(f"iteration {trainer.iteration}: " + ", ".join(f"{k} {v:.3g}" for k, v in losses.items()))
    images = trainer.sample(16)
    print(f"{trainer.generated_images} images were generated, such as {list(images.shape)}")
    return losses["student/l1"].item()


if __name__ == "__main__":
    main()
