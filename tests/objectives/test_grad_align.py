import pytest
import torch
import torch.nn.functional as F
from test_objectives import compare, trained
from torch import nn
from torch.autograd import gradcheck

from meseta import Threat
from meseta.attacks import FGSM
from meseta.autodiff import CrossEntropy, value_and_gradient
from meseta.errors import UserError
from meseta.objectives import AdversarialTraining, GradAlign, InputGradient, Sum
from meseta.objectives.grad_align import misalignment


def seeded():
    return torch.Generator().manual_seed(0)


def slow_gradient(b, x, y):
    point = x.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(b.model(point), y), point, create_graph=True)[0].flatten()


@pytest.mark.parametrize("threat", [Threat(eps=0.1), Threat("L2", 0.5), Threat("L1", 0.5)], ids=lambda t: t.norm)
def test_it_is_the_formula_one_example_at_a_time(batch, threat):
    b, attack = batch, FGSM(threat=threat)
    around, hard = threat.sample(b.x, generator=seeded()), attack(b.model, b.x, b.y)
    total = 0
    for i in range(len(b.x)):
        x, eta, worst, y = (t[i : i + 1] for t in (b.x, around, hard, b.y))
        cosine = torch.cosine_similarity(slow_gradient(b, x, y), slow_gradient(b, eta, y), 0)
        total = total + F.cross_entropy(b.model(worst), y) + 0.7 * (1 - cosine)
    value = GradAlign(weight=0.7, attack=attack)(b.model, b.x, b.y, generator=seeded())
    compare(value, total / len(b.x), b.model)


def test_in_a_sum_only_the_penalty_counts(smooth_batch):
    """Adversarial training with FGSM, and the alignment added to it, is the whole method."""
    b = smooth_batch
    whole = GradAlign()(b.model, b.x, b.y, generator=seeded())
    parts = Sum(parts=(AdversarialTraining(attack=FGSM()), GradAlign()))(b.model, b.x, b.y, generator=seeded())
    torch.testing.assert_close(parts.total, whole.total)


def test_misalignment_of_known_angles_and_of_zero():
    a = torch.tensor([[1.0, 0], [1, 0], [2, 0], [3, 0], [0, 0], [1, 0], [1, 0]], dtype=torch.float64)
    b = torch.tensor([[4.0, 0], [0, 1], [-1, 0], [1, 1], [1, 0], [0, 0], [1, 1e-9]], dtype=torch.float64)
    a, b = a.requires_grad_(), b.requires_grad_()
    value = misalignment(a, b)
    truth = torch.tensor([0, 1, 2, 1 - 0.5**0.5, 0, 0, 5e-19], dtype=torch.float64)
    torch.testing.assert_close(value, truth, rtol=1e-9, atol=1e-30)
    for gradient in torch.autograd.grad(value.sum(), (a, b)):
        assert gradient.isfinite().all()
        assert not gradient[4:6].any()


def test_tiny_gradients_do_not_overflow_the_derivative():
    for length in (1e-18, 1e-20, 1e-30, 1e-44):
        a, b = length * torch.tensor([[1.0, 2]]), length * torch.tensor([[1.0, -2]])
        (gradient,) = torch.autograd.grad(misalignment(a.requires_grad_(), b).sum(), a)
        assert gradient.isfinite().all()


def test_misalignment_passes_gradcheck():
    torch.manual_seed(0)
    a, b = (torch.randn(4, 3, dtype=torch.float64).requires_grad_() for _ in range(2))
    assert gradcheck(misalignment, (a, b))


def test_training_aligns_the_gradients_on_held_out_data():
    attack = FGSM(threat=Threat(eps=0.3))

    def misaligned(model, x, y):
        f = CrossEntropy().bind(model, x, y)
        around = attack.threat.sample(x, generator=seeded())
        return misalignment(value_and_gradient(f, x)[1], value_and_gradient(f, around)[1]).mean()

    plain = trained(AdversarialTraining(attack=attack))
    assert misaligned(*trained(GradAlign(weight=1.0, attack=attack))) < 0.7 * misaligned(*plain)


def test_bad_settings_and_inputs_outside_the_bounds_are_refused():
    with pytest.raises(UserError, match="`weight`"):
        GradAlign(weight=-1)
    for objective in (GradAlign(), Sum(parts=(InputGradient(), GradAlign()))):
        with pytest.raises(UserError, match="`x` must lie in the bounds"):
            objective(nn.Linear(3, 2), torch.full((2, 3), 1.5), torch.tensor([0, 1]))
