"""What a term tells of each image has the term as its mean."""

import pytest
import torch

from dfad_fast.terms import JS, KL, L1, HardLabel, Probe


def probe_of(teacher, student):
    return Probe(
        images=torch.zeros(5, 1, 2, 2), teacher=teacher, student=student, ask_teacher=lambda images: teacher
    )


@pytest.mark.parametrize("term", [L1(), KL(), KL(2.0, "reverse"), KL(reduction="mean"), HardLabel()], ids=str)
def test_the_mean_over_images_is_the_term(term):
    source = torch.Generator().manual_seed(0)
    probe = probe_of(*torch.randn(2, 5, 4, generator=source))
    each = term.of_each_image(probe)
    assert term.gives_images_apart
    assert each.shape == (5,)
    torch.testing.assert_close(each.mean(), term(probe))
    one = probe_of(probe.teacher[2:3], probe.student[2:3])
    torch.testing.assert_close(each[2:3], term.of_each_image(one))


def test_cross_entropy_is_that_of_the_teachers_class():
    probe = probe_of(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 1.0]]))
    torch.testing.assert_close(HardLabel()(probe), torch.tensor(2.0).log())


def test_other_terms_say_that_they_do_not():
    assert not JS().gives_images_apart
    with pytest.raises(NotImplementedError, match="JS has no values for single images"):
        JS().of_each_image(probe_of(torch.zeros(1, 2), torch.zeros(1, 2)))
