import pytest
import torch
import torch.nn.functional as F

from meseta.autodiff import DLR, CrossEntropy, Decision, Logit, Margin, bind_all_rivals, value_and_gradient
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


def test_dlr_by_hand():
    """-(z_y - max of the others) / (z_(1) - z_(3)), and -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2)."""
    z = torch.tensor([[4.0, 1.0, 2.0, 0.0], [0.0, 5.0, 1.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(DLR().of_logits(z, Y), torch.tensor([-2 / 3, 4 / 4]).double())
    torch.testing.assert_close(DLR().towards(z, Y, torch.tensor([3, 3])), torch.tensor([-4 / 3.5, 2 / 4.5]).double())
    assert DLR().of_logits(Z, Y).tolist() == [-0.5, 4 / 5]
    assert DLR().towards(Z, Y, torch.tensor([1, 0])).tolist() == [-2 / 1.5, -1 / 4.5]  # second and third
    assert DLR().of_logits(Z[:, :2], torch.tensor([0, 1])).tolist() == [-2, -5]  # two: minus the margin
    assert DLR().towards(Z[:, :2], torch.tensor([0, 1]), torch.tensor([1, 0])).tolist() == [-2, -5]


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1e4, 1e30])
@pytest.mark.parametrize("classes", [3, 10])
def test_dlr_does_not_see_scale_and_shift(scale, classes):
    torch.manual_seed(0)
    z, y = torch.randn(50, classes), torch.randint(classes, (50,))
    t = (y + 1) % classes
    for f in (lambda v: DLR().of_logits(v, y), lambda v: DLR().towards(v, y, t)):
        value, gradient = value_and_gradient(f, z)
        scaled, slope = value_and_gradient(f, scale * z)
        torch.testing.assert_close(scaled, value)
        torch.testing.assert_close(slope * scale, gradient)
        torch.testing.assert_close(f(z.double() + 7), f(z.double()))


@pytest.mark.parametrize(
    "row", [[0.0, 0, 0, 0], [1, 1, 1, -2], [2, 2, 0, 0], [0, 1, 1, 1], [1, 0, -torch.inf, -torch.inf]]
)
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_dlr_at_ties_is_finite_with_a_finite_gradient(row, classes):
    z, y, t = torch.tensor([row[:classes]], dtype=torch.float32), torch.tensor([0]), torch.tensor([1])
    for f in (lambda v: DLR().of_logits(v, y), lambda v: DLR().towards(v, y, t)):
        value, gradient = value_and_gradient(f, z)
        assert value.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_what_leads_towards_a_target_rises_with_it(classes):
    torch.manual_seed(0)
    z = torch.randn(40, classes, dtype=torch.float64)
    y = z.argmax(1)
    t = (y + 1) % classes
    for field in (CrossEntropy(), Decision(), DLR()):
        _, gradient = value_and_gradient(lambda v, field=field: field.towards(v, y, t), z)
        assert (gradient.gather(1, t[:, None]) > 0).all()
        if field != DLR():  # a larger z_y widens the lead that DLR divides by as well
            assert (gradient.gather(1, y[:, None]) < 0).all()
    torch.testing.assert_close(CrossEntropy().towards(z, y, t), z.log_softmax(1).gather(1, t[:, None]).squeeze(1))
    torch.testing.assert_close(
        Decision().towards(z, y, t), (z.gather(1, t[:, None]) - z.gather(1, y[:, None])).squeeze(1)
    )


@pytest.mark.parametrize("field", [Margin(), Logit()])
def test_fields_without_a_form_for_targets_say_so(field):
    assert not field.has_targets
    with pytest.raises(UserError, match=f"`{type(field).__name__}` has no form for targets"):
        field.towards(Z, Y, torch.tensor([1, 0]))


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
