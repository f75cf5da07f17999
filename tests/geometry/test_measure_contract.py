"""What every measure must keep: found through the registry."""

import pytest
import torch
from torch import nn

from meseta.errors import UserError
from meseta.linalg import Lanczos
from meseta.registry import methods

MEASURES = sorted(methods("measures").items())
every_measure = pytest.mark.parametrize("measure", [m for _, m in MEASURES], ids=[name for name, _ in MEASURES])


@every_measure
def test_gives_one_value_per_example_whatever_its_batch(measure, batch):
    whole = measure()(batch.model, batch.x, batch.y)
    assert whole.value.shape == (len(batch.x),)
    assert whole.value.isfinite().all()
    for i in range(len(batch.x)):
        single = measure()(batch.model, batch.x[i : i + 1], batch.y[i : i + 1])
        torch.testing.assert_close(single.value[0], whole.value[i], rtol=2e-2, atol=1e-12)


@every_measure
@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode])
def test_leaves_the_model_as_it_was(measure, outer, relu_batch):
    model = relu_batch.model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with outer():
        result = measure()(model, relu_batch.x.clone(), relu_batch.y)
    assert not result.value.requires_grad
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@every_measure
def test_one_bad_example_does_not_spoil_its_neighbours(measure):
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 3))

    def model(x):
        return inner(x) / (x[:, :1] > 0.2)  # 0/0 and x/0 for the second example

    x, y = torch.tensor([[0.5, 0.1, 0.2], [0.1, 0.2, 0.3], [0.3, 0.3, 0.4]]), torch.tensor([0, 1, 2])
    value = measure()(model, x, y).value
    assert not value[1].isfinite()
    torch.testing.assert_close(value[[0, 2]], measure()(inner, x, y).value[[0, 2]], rtol=2e-2, atol=1e-9)


@every_measure
def test_a_nan_without_a_gradient_is_no_flat_example(measure):
    """A guard inside the model may put a NaN or an infinity where no gradient comes through."""
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 3))
    x, y = torch.tensor([[0.5, 0.1, 0.2], [1.0, 0.2, 0.3], [0.3, 0.3, 0.4]]), torch.tensor([0, 1, 2])
    for odd in (torch.nan, torch.inf):
        found = measure()(lambda x, odd=odd: torch.where(x[:, :1] > 0.999, odd, inner(x)), x, y)
        assert found.value[1].isnan()
        assert found.value[[0, 2]].isfinite().all()
        assert found.converged is None or not found.converged[1]
        for part in found.parts.values():
            assert part[1].isnan().all()


@every_measure
def test_bad_input_is_refused(measure, batch):
    with pytest.raises(UserError, match="`x` holds NaN"):
        measure()(batch.model, batch.x * torch.nan, batch.y)
    with pytest.raises(UserError, match="`y` must hold class indices"):
        measure()(batch.model, batch.x, batch.y + 99)
    with pytest.raises(UserError, match="`model` must return logits"):
        measure()(lambda x: batch.model(x).sum(1), batch.x, batch.y)


@pytest.mark.parametrize("name", ["JacobianSpectral", "CurvatureEstimates", "NormalizedCurvature", "LevelSetCurvature"])
def test_a_norm_is_not_looked_for_at_the_wrong_end(name):
    with pytest.raises(UserError, match="`solver` must look for the largest_magnitude"):
        methods("measures")[name](solver=Lanczos(which="smallest"))
