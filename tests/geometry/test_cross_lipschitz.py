import pytest
import torch
from torch import nn

from meseta.autodiff import Margin, dense_jacobian
from meseta.geometry import CrossLipschitz, GradientNorm
from meseta.objectives import CrossLipschitz as Penalty


def test_equals_the_double_sum_over_the_dense_jacobian(batch):
    b = batch
    v = dense_jacobian(b.model, b.x).flatten(2)
    pairs = (v[:, :, None] - v[:, None]).norm(dim=3)
    measured = CrossLipschitz()(b.model, b.x, b.y)
    torch.testing.assert_close(measured.value, (pairs**2).mean((1, 2)).sqrt())
    torch.testing.assert_close(measured.parts["largest"], pairs[torch.arange(len(b.y)), b.y].amax(1))


def test_its_square_is_what_the_objective_penalises(batch):
    b = batch
    penalty = Penalty(estimator="exact")(b.model, b.x, b.y).terms["cross_lipschitz"]
    torch.testing.assert_close(CrossLipschitz()(b.model, b.x, b.y).value ** 2, penalty)


def test_for_two_classes_it_is_the_slope_of_the_margin():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    x, y = torch.rand(3, 4, dtype=torch.float64), torch.tensor([0, 1, 0])
    slope = GradientNorm(field=Margin())(model, x, y).value
    measured = CrossLipschitz()(model, x, y)
    torch.testing.assert_close(measured.value, slope / 2**0.5)
    torch.testing.assert_close(measured.parts["largest"], slope)


@pytest.mark.parametrize("classes", [3, 300])
def test_what_all_logits_share_drops_out_and_does_not_round_it_away(classes):
    """In float32, gradients that share a part 1000 times as long as what they differ by."""
    torch.manual_seed(0)
    model = nn.Linear(20, classes)
    weight = model.weight.detach().clone()
    x, y = torch.rand(4, 20), torch.tensor([0, 1, 2, 0])
    alone = CrossLipschitz()(model, x, y).value
    model.weight.data = weight.double().add(1000 * torch.rand(20, dtype=torch.float64)).float()
    truth = model.weight.detach().double()
    truth = (2 / classes) ** 0.5 * (truth - truth.mean(0)).norm()
    torch.testing.assert_close(CrossLipschitz()(model, x, y).value.double(), truth.expand(4), rtol=1e-5, atol=0)
    torch.testing.assert_close(alone.double(), truth.expand(4), rtol=1e-3, atol=0)  # what rounding the weights leaves
