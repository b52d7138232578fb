"""A method for a teacher that returns only the class."""

from dataclasses import replace

from dfad_fast.methods.method import Method
from dfad_fast.terms import HardLabel, Weighted


def for_hard_labels(method: Method) -> Method:
    """``method`` for a teacher that returns labels and no scores, so terms that compare scores cannot be used.

    The student learns the labels by cross-entropy, and the generator looks for images on which it is large.
    """
    return replace(method, student=(Weighted(1.0, HardLabel()),), generator=(Weighted(-1.0, HardLabel()),))
