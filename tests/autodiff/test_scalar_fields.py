import pytest
import torch
import torch.nn.functional as F

from meseta.autodiff import CrossEntropy, Decision, Logit, Margin, bind_all_rivals, value_and_gradient
from meseta.errors import UserError

Z = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]], dtype=torch.float64)
Y = torch.tensor([0, 2])


def test_values_by_hand():
    assert Margin().of_logits(Z, Y).tolist() == [1, -4]
    assert Margin(rival=1).of_logits(Z, Y).tolist() == [2, -4]
    assert Decision().of_logits(Z, Y).tolist() == [1, -4]
    assert Logit().of_logits(Z, Y).tolist() == [3, 1]
    assert Logit(index=1).of_logits(Z, Y).tolist() == [1, 5]
    f, z = bind_all_rivals(lambda inputs: inputs, Z, Y, 3)
    assert f(z).tolist() == [2, 1, 1, -4]


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_cross_entropy_equals_the_textbook_form_with_both_derivatives(classes):
    torch.manual_seed(0)
    z = (3 * torch.randn(50, classes, dtype=torch.float64)).requires_grad_()
    y = torch.randint(classes, (50,))
    ours, theirs = CrossEntropy().of_logits(z, y), F.cross_entropy(z, y, reduction="none")
    torch.testing.assert_close(ours, theirs)
    g, h = (torch.autograd.grad(v.sum(), z, create_graph=True)[0] for v in (ours, theirs))
    torch.testing.assert_close(g, h)
    u = torch.randn_like(z)
    torch.testing.assert_close(torch.autograd.grad((g * u).sum(), z)[0], torch.autograd.grad((h * u).sum(), z)[0])


def test_cross_entropy_at_a_tie_has_the_symmetric_gradient():
    z = torch.zeros(1, 2, requires_grad=True)
    (g,) = torch.autograd.grad(CrossEntropy().of_logits(z, torch.tensor([0])).sum(), z)
    assert g.tolist() == [[-0.5, 0.5]]


@pytest.mark.parametrize("margin", [20.0, 40.0, 80.0, -20.0, -40.0])
def test_cross_entropy_keeps_its_precision_where_float32_saturates(margin):
    def derivatives(dtype):
        z = torch.tensor([[margin, 0.0, -1.0]], dtype=dtype, requires_grad=True)
        loss = CrossEntropy().of_logits(z, torch.tensor([0]))
        (g,) = torch.autograd.grad(loss.sum(), z, create_graph=True)
        (h,) = torch.autograd.grad(g[0, 0], z)
        return [t.detach().double() for t in (loss, g, h)]

    for single, double in zip(derivatives(torch.float32), derivatives(torch.float64), strict=True):
        torch.testing.assert_close(single, double, rtol=1e-4, atol=0)


def test_rivals_that_are_ruled_out_leave_a_zero_gradient():
    z = torch.tensor([[0.0, -torch.inf]], requires_grad=True)
    loss = CrossEntropy().of_logits(z, torch.tensor([0]))
    (g,) = torch.autograd.grad(loss.sum(), z)
    assert loss.item() == 0
    assert g.tolist() == [[0, 0]]


def test_bound_margin_keeps_the_rival_of_its_base_point(smooth_batch):
    b = smooth_batch
    f = Margin().bind(b.model, b.x, b.y)
    torch.testing.assert_close(f(b.x), Decision().bind(b.model, b.x, b.y)(b.x))
    far = b.x + 5 * torch.randn_like(b.x)
    assert (f(far) >= Decision().bind(b.model, b.x, b.y)(far)).all()


def test_all_rivals_at_once_equal_one_at_a_time(smooth_batch):
    b = smooth_batch
    f, x = bind_all_rivals(b.model, b.x, b.y, b.classes)
    value, gradient = value_and_gradient(f, x)
    assert value.shape == (len(b.x) * (b.classes - 1),)
    for i in range(len(b.x)):
        for r, j in enumerate(k for k in range(b.classes) if k != b.y[i]):
            margin, single = value_and_gradient(
                Margin(rival=j).bind(b.model, b.x[i : i + 1], b.y[i : i + 1]), b.x[i : i + 1]
            )
            torch.testing.assert_close(value[i * (b.classes - 1) + r], margin[0])
            torch.testing.assert_close(gradient[i * (b.classes - 1) + r], single[0])


def test_bad_classes_are_named():
    with pytest.raises(UserError, match=r"`rival` must be a class index 0\.\.2, got 3"):
        Margin(rival=3).of_logits(Z, Y)
    with pytest.raises(UserError, match="label of some examples"):
        Margin(rival=0).of_logits(Z, Y)
    with pytest.raises(UserError, match="`index`"):
        Logit(index=-1).of_logits(Z, Y)
