"""Axes: directions with the lengths and the meaning that they claim."""

from itertools import product

import pytest
import torch
from torch import nn

from meseta.attacks import PGD
from meseta.autodiff import CrossEntropy, Decision, Margin
from meseta.errors import UserError
from meseta.linalg.norms import norm
from meseta.registry import methods
from meseta.surfaces import (
    Adversarial,
    Eigenvector,
    Gradient,
    InputOrigin,
    ParameterOrigin,
    Random,
    Towards,
    Trajectory,
    attack_path,
    input_plane,
    parameter_plane,
)
from meseta.threat import Threat

NORMS = ("Linf", "L2", "L1")


def network(*shape, classes=4, seed=0):
    torch.manual_seed(seed)
    d = torch.Size(shape).numel()
    return nn.Sequential(nn.Flatten(), nn.Linear(d, 12), nn.SiLU(), nn.Linear(12, classes)).double()


def origin(norm="Linf", shape=(1, 4, 4), model=None, eps=0.1, others=5):
    torch.manual_seed(1)
    x = torch.rand(others, *shape, dtype=torch.float64)
    model = model or network(*shape)
    return InputOrigin(model, x[:1], model(x[:1]).argmax(1), Threat(norm, eps), x)


@pytest.mark.parametrize(("name", "norm_name", "shape"), product(sorted(methods("axes")), NORMS, [(1, 4, 4), (7,)]))
def test_every_axis_has_length_one_in_the_norm_and_leaves_the_model_alone(name, norm_name, shape):
    at = origin(norm_name, shape)
    at.model.train()
    before = {key: value.clone() for key, value in at.model.state_dict().items()}
    with torch.enable_grad():
        direction = methods("axes")[name]().of_input(at, 0)
    assert direction.shape == shape
    assert norm(direction[None], at.threat.p).item() == pytest.approx(1, abs=1e-12)
    assert not direction.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in at.model.state_dict().items())
    assert all(parameter.grad is None for parameter in at.model.parameters())
    assert torch.equal(direction, methods("axes")[name]().of_input(at, 0))


def test_random_goes_to_corners_in_linf_and_a_second_one_is_another():
    at = origin()
    first, second = Random().of_input(at, 0), Random().of_input(at, 1)
    assert (first.abs() == 1).all()
    assert not torch.equal(first, second)
    assert torch.equal(second, Random().of_input(at, 1))
    assert not torch.equal(first, Random(seed=1).of_input(at, 0))
    assert len(Random().of_input(origin("L2"), 0).abs().unique()) == 16


def test_gradients_of_losses_go_up_and_those_of_margins_down():
    at = origin("L2")
    for axis in (Gradient(), Gradient(field=Decision()), Adversarial(), Adversarial(field=Decision())):
        direction = axis.of_input(at, 0)
        step = 1e-4
        before, after = (Decision().of_logits(at.model(at.x + t * direction), at.y) for t in (0, step))
        assert after < before, axis.name


def test_adversarial_steps_are_the_signs_of_equation_3():
    weight = torch.tensor([[1.0, -2, 0.5], [0, 1, -1], [-3, 0.5, 2]], dtype=torch.float64)

    def linear(x):
        return x @ weight.T

    x = torch.tensor([[0.9, 0.1, 0.3]], dtype=torch.float64)  # logits 0.85, -0.2, -2.05
    at = InputOrigin(linear, x, torch.tensor([0]), Threat("Linf", 0.1))
    p = linear(x).softmax(1)[0]
    slope = (weight * p[:, None]).sum(0)
    torch.testing.assert_close(Adversarial().of_input(at, 0), (slope - weight[0]).sign())
    torch.testing.assert_close(Adversarial(target="least_likely").of_input(at, 0), (weight[2] - slope).sign())
    torch.testing.assert_close(Adversarial(target=1).of_input(at, 0), (weight[1] - slope).sign())
    torch.testing.assert_close(Adversarial(field=Decision()).of_input(at, 0), (weight[1] - weight[0]).sign())
    wrong = InputOrigin(linear, x, torch.tensor([2]), Threat("Linf", 0.1))  # whose label is the least likely of all
    assert torch.equal(Adversarial(target="least_likely").of_input(wrong, 0), Adversarial(target=1).of_input(wrong, 0))
    with pytest.raises(UserError, match=r"`target` must be a class of 0\.\.2 other than the label 0, got 0"):
        Adversarial(target=0).of_input(at, 0)


def test_eigenvectors_are_those_of_the_dense_hessian_in_their_order():
    at = origin("L2", (6,))
    h = torch.func.hessian(lambda v: CrossEntropy().of_logits(at.model(v[None]), at.y)[0])(at.x[0])
    values, vectors = torch.linalg.eigh(h)
    order = values.abs().argsort(descending=True)
    gradient = torch.func.grad(lambda v: CrossEntropy().of_logits(at.model(v[None]), at.y)[0])(at.x[0])
    for occurrence in range(3):
        found = Eigenvector().of_input(at, occurrence)
        assert (found @ vectors[:, order[occurrence]]).abs().item() == pytest.approx(1, abs=1e-3)
        assert found @ gradient >= 0


def test_eigenvectors_of_a_flat_margin_are_refused():
    at = origin("L2", (5,), nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).double())
    with pytest.raises(UserError, match="piecewise-linear"):
        Eigenvector(field=Margin()).of_input(at, 0)


@pytest.mark.parametrize("norm_name", NORMS)
def test_another_example_lies_at_its_distance(norm_name):
    at = origin(norm_name)
    distance = norm(at.others[3:4] - at.x, at.threat.p)
    torch.testing.assert_close(at.x[0] + distance * Towards(index=3).of_input(at, 0), at.others[3])
    with pytest.raises(UserError, match="below the 5 examples"):
        Towards(index=5).of_input(at, 0)


def test_the_plane_of_a_trajectory_holds_its_end_and_more_of_it_than_any_random_one():
    at = origin("L2", eps=1.5)
    attack = PGD(steps=12, random_start=False, drop_broken=False, alpha=0.3)
    plane = input_plane(at, [Trajectory(attack=attack), Trajectory(attack=attack)])
    path = attack_path(attack.against(at.threat), at.model, at.x, at.y)
    where, off = plane.coordinates(path)
    torch.testing.assert_close(where[-1, 1].item(), 0.0, atol=1e-9, rtol=0)
    assert off[-1] < 1e-9
    beside = input_plane(at, [Trajectory(attack=attack), Random()]).coordinates(path)[1]
    assert off.norm() < beside.norm()
    assert (plane.axes[0] * plane.axes[1]).sum().abs() < 1e-9


@pytest.mark.parametrize("norm_name", ["Linf", "L1"])  # in L2 the two are one
def test_a_leaning_axis_is_replaced_by_its_orthogonal_part_in_the_same_plane(norm_name):
    at = origin(norm_name)
    gradient, step = Gradient().of_input(at, 0), Adversarial().of_input(at, 0)
    plane = input_plane(at, [Gradient(), Adversarial()])
    first, second = plane.axes.flatten(1)
    assert plane.cosine == pytest.approx(torch.cosine_similarity(gradient.flatten(), step.flatten(), 0).item())
    assert plane.cosine > 0.3
    torch.testing.assert_close(first, gradient.flatten())
    assert (first @ second).abs() < 1e-12
    assert norm(plane.axes, at.threat.p).tolist() == pytest.approx([1, 1])
    assert plane.coordinates(at.x + step)[1].item() < 1e-12
    straight = input_plane(at, [Random(), Random()])
    assert torch.equal(straight.axes[1], Random().of_input(at, 1)) == (abs(straight.cosine) <= 0.1)


def test_what_spans_no_plane_is_refused():
    at = origin()
    with pytest.raises(UserError, match="twice is one direction"):
        input_plane(at, [Gradient(), Gradient()])
    with pytest.raises(UserError, match="point the same way"):
        input_plane(at, [Random(), _Opposite()])
    with pytest.raises(UserError, match="two axes"):
        input_plane(at, [Random()])
    flat = InputOrigin(lambda x: x.flatten(1)[:, :3] * 0, at.x, at.y * 0, at.threat)
    with pytest.raises(UserError, match="finds no direction"):
        input_plane(flat, [Gradient(), Random()])


class _Opposite(Random):
    """The way back of the first direction."""

    def of_input(self, origin, occurrence):
        return -Random().of_input(origin, 0)


def test_parameters_are_filter_normalised():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(27, 4)).eval()
    at = ParameterOrigin(model, torch.rand(6, 1, 4, 4), torch.randint(4, (6,)))
    direction = at.split(Random().of_parameters(at, 0))
    for name, weight in at.parameters.items():
        if weight.dim() > 1:
            torch.testing.assert_close(direction[name].flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1))
        else:
            assert not direction[name].any(), name
    gradient = Gradient().of_parameters(at, 0)
    torch.testing.assert_close(gradient.norm(), at.vector.norm())
    expected = torch.autograd.grad(CrossEntropy().of_logits(model(at.x), at.y).mean(), list(model.parameters()))
    flat = torch.cat([g.flatten() for g in expected])
    torch.testing.assert_close(gradient, flat * at.vector.norm() / flat.norm(), rtol=1e-4, atol=1e-5)


def test_eigenvectors_over_parameters_are_those_of_the_dense_hessian():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)).double()
    at = ParameterOrigin(model, torch.rand(6, 3, dtype=torch.float64), torch.randint(2, (6,)))
    h = torch.func.hessian(lambda v: at.mean(CrossEntropy())(v[None])[0])(at.vector)
    values, vectors = torch.linalg.eigh(h)
    found = Eigenvector().of_parameters(at, 0)
    top = vectors[:, values.abs().argmax()]
    assert (found @ top / found.norm()).abs().item() == pytest.approx(1, abs=1e-4)


def test_directions_of_inputs_have_no_meaning_over_parameters():
    at = ParameterOrigin(network(5), torch.rand(3, 5, dtype=torch.float64), torch.tensor([0, 1, 2]))
    for axis in (Adversarial(), Towards(), Trajectory()):
        with pytest.raises(UserError, match="is a direction of inputs"):
            parameter_plane(at, [Random(), axis])
