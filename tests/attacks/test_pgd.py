import pytest
import torch
from rings import trained
from torch import nn

from meseta import Threat
from meseta.attacks import FGSM, PGD
from meseta.attacks.base import misclassified
from meseta.autodiff import DLR, CrossEntropy, Decision, Logit, value_and_gradient
from meseta.errors import UserError


def accuracy(model, x, y):
    return 1 - misclassified(model(x), y).float().mean().item()


def test_first_and_last_iterates_by_hand():
    """On a linear model with alpha = 0.01 from the input, three steps end at x + 0.03 sign(w_1 - w_0)."""
    model = nn.Linear(4, 2).double()
    model.bias.data = torch.tensor([9.0, 0.0]).double()
    x, y = torch.full((2, 4), 0.5, dtype=torch.float64), torch.tensor([0, 0])
    attack = PGD(threat=Threat(eps=0.1), steps=3, alpha=0.01, random_start=False)
    step = 0.03 * (model.weight[1] - model.weight[0]).sign().detach()
    torch.testing.assert_close(attack(model, x, y), x + step)


def test_more_steps_and_restarts_never_help_the_model():
    model, x, y = trained()
    threat = Threat("L2", 0.08)

    def robust(**settings):
        generator = torch.Generator().manual_seed(0)
        return accuracy(model, PGD(threat=threat, **settings)(model, x, y, generator=generator), y)

    one = accuracy(model, FGSM(threat=threat)(model, x, y), y)
    assert robust(steps=20) <= one + 0.01
    assert robust(steps=20, restarts=5) <= robust(steps=20)
    assert robust(steps=20, loss=Decision()) == pytest.approx(robust(steps=20), abs=0.02)


def test_dropping_broken_examples_costs_less_and_finds_no_less():
    model, x, y = trained()
    seen = []
    model.register_forward_hook(lambda m, i, o: seen.append(len(o)))
    results = {}
    for drop in (False, True):
        seen.clear()
        attack = PGD(threat=Threat("Linf", 0.1), steps=20, drop_broken=drop)
        adversarial = attack(model, x, y, generator=torch.Generator().manual_seed(0))
        results[drop] = (sum(seen), accuracy(model, adversarial, y))
    assert results[False][0] == 20 * len(x)
    assert results[True][0] < 0.7 * results[False][0]
    assert results[True][1] <= results[False][1]


def test_each_path_is_that_of_the_undropped_attack():
    model, x, y = trained()
    attacks = [PGD(threat=Threat("L2", 0.05), steps=10, drop_broken=drop) for drop in (False, True)]
    whole, dropped = (a(model, x, y, generator=torch.Generator().manual_seed(1)) for a in attacks)
    standing = ~misclassified(model(dropped), y)
    torch.testing.assert_close(whole[standing], dropped[standing])


def test_margin_attack_works_where_cross_entropy_is_saturated():
    """Logits times 1e4: the loss gradient vanishes in float32, the margin's does not."""
    model, x, y = trained()
    right = ~misclassified(model(x), y)
    x, y = x[right], y[right]

    def scaled(inputs):
        return 1e4 * model(inputs)

    broken = {
        loss: 1 - accuracy(scaled, PGD(threat=Threat("L2", 0.15), loss=loss, random_start=False)(scaled, x, y), y)
        for loss in (CrossEntropy(), Decision())
    }
    assert broken[Decision()] > broken[CrossEntropy()] + 0.2


def test_l1_spends_its_whole_radius_on_the_best_coordinates():
    """Greedy optimum on a linear model: the largest weights first, each moved to its bound."""
    weight = torch.linspace(1, 2, 20, dtype=torch.float64)

    def model(x):
        return torch.stack([-(x @ weight), x @ weight], 1)

    x, y = torch.full((1, 20), 0.5, dtype=torch.float64), torch.tensor([0])
    adversarial = PGD(threat=Threat("L1", 3.0), steps=40, random_start=False, drop_broken=False)(model, x, y)
    gain = ((adversarial - x) @ weight).item()
    optimum = 0.5 * weight.sort(descending=True).values[:6].sum().item()
    assert gain == pytest.approx(optimum, rel=0.01)


def test_l1_meets_the_optimum_inside_bounds_from_random_starts():
    """Of which it reached a third where entries that a bound stops were left to the projection."""
    torch.manual_seed(0)
    model = nn.Linear(30, 2).double()
    model.bias.data = torch.tensor([20.0, 0.0], dtype=torch.float64)
    x, y = torch.rand(20, 30, dtype=torch.float64), torch.zeros(20, dtype=torch.long)
    w, threat = (model.weight[1] - model.weight[0]).detach().expand_as(x), Threat("L1", 2.0)
    moved = PGD(threat=threat)(model, x, y, generator=torch.Generator().manual_seed(0)) - x
    assert ((moved * w).sum(1) >= 0.99 * ((threat.farthest(w, x) - x) * w).sum(1)).all()


def test_l2_moves_where_the_gradient_is_subnormal():
    def model(x):
        return x @ torch.tensor([[100.0, -100.0], [0.0, 0.0]])

    x, y = torch.tensor([[0.5, 0.5]]), torch.tensor([0])
    adversarial = PGD(threat=Threat("L2", 0.6, None), random_start=False)(model, x, y)
    assert misclassified(model(adversarial), y).all()


def test_restarts_work_where_the_model_answers_in_another_precision():
    model, x, y = trained()
    threat = Threat(eps=0.1)
    adversarial = PGD(threat=threat, steps=5, restarts=3)(lambda inputs: model(inputs).double(), x, y)
    assert adversarial.dtype == x.dtype
    assert threat.contains(adversarial, x).all()
    assert accuracy(model, adversarial, y) < accuracy(model, x, y)


def test_labels_of_every_integer_type_are_understood():
    model, x, y = trained()
    expected = PGD(random_start=False)(model, x[:50], y[:50])
    for dtype in (torch.int32, torch.uint8):
        assert torch.equal(PGD(random_start=False)(model, x[:50], y[:50].to(dtype)), expected)


def test_momentum_is_the_published_iteration():
    """MI-FGSM, from Dong et al. 2018, equations 6 and 7: g <- mu g + grad / ||grad||_1, x <- x + (eps / T) sign(g)."""
    model, x, y = trained()
    f, points, g = CrossEntropy().bind(model, x, y), x, torch.zeros_like(x)
    for _ in range(5):
        _, gradient = value_and_gradient(f, points)
        g = 0.9 * g + gradient / gradient.abs().sum(1, keepdim=True)
        points = (points + 0.01 * g.sign()).clamp(0, 1)
    settings = {"steps": 5, "alpha": 0.01, "random_start": False, "drop_broken": False}
    ours = PGD(threat=Threat(eps=0.05), momentum=0.9, **settings)
    torch.testing.assert_close(ours(model, x, y), points)
    assert ours.name == "BIM-5 momentum 0.9 CrossEntropy"
    assert not torch.equal(PGD(threat=Threat(eps=0.05), **settings)(model, x, y), points)


@pytest.mark.parametrize("loss", [CrossEntropy(), Decision(), DLR()])
@pytest.mark.parametrize("targets", [1, 2, 9])
def test_targets_are_the_likeliest_wrong_classes_and_no_more_than_there_are(loss, targets):
    """A run a target, counted by what the model sees: of three classes two are wrong."""
    seen = []

    def model(x):
        seen.append(len(x))
        return torch.stack([10 + 0 * x[:, 0], x[:, 0], 1 + x[:, 1]], 1)

    x, y = torch.full((4, 2), 0.5), torch.zeros(4, dtype=torch.long)
    attack = PGD(threat=Threat(eps=0.1), steps=3, loss=loss, targets=targets, random_start=False)
    adversarial = attack(model, x, y)
    runs = min(targets, 2)
    assert len(seen) == 1 + 3 * runs + (runs > 1) * runs
    assert attack.name == f"BIM-3 {type(loss).__name__} {targets} targets"
    torch.testing.assert_close(adversarial[:, 1], torch.full((4,), 0.6))  # the run to class 2 keeps the highest loss


def test_draws_are_averaged():
    """Where each pass tilts the slope at random, one pass goes astray and the mean of fifty does not."""
    noise = torch.Generator().manual_seed(0)

    def model(x):
        tilt = 10 * torch.randn(x.shape, generator=noise)
        margin = 9 - ((1 + tilt) * x).sum(1)
        return torch.stack([margin, 0 * margin], 1) * 100

    x, y = torch.zeros(8, 30), torch.zeros(8, dtype=torch.long)
    gains = [
        PGD(threat=Threat(eps=0.1, bounds=None), steps=10, draws=n, random_start=False, loss=Decision())(model, x, y)
        .sum(1)
        .mean()
        for n in (1, 50)
    ]
    assert gains[0] < 1.2
    assert gains[1] > 2
    assert PGD(draws=50, restarts=2).name == "PGD-40 CrossEntropy 50 draws x2"


def test_fields_without_a_target_are_refused():
    with pytest.raises(UserError, match=r"`targets` is 2, and Logit\(index=None\) has no form for targets"):
        PGD(loss=Logit(), targets=2)


@pytest.mark.parametrize(
    "bad",
    [
        *({"steps": 0}, {"steps": 2.5}, {"alpha": 0.0}, {"alpha": float("nan")}, {"restarts": 0}),
        *({"momentum": -0.1}, {"targets": -1}, {"targets": 0.5}, {"draws": 0}, {"loss": CrossEntropy}),
    ],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        PGD(**bad)


def test_fgsm_is_exact_on_a_binary_linear_model():
    model = nn.Linear(6, 2).double()
    x, y = torch.rand(20, 6, dtype=torch.float64), torch.randint(2, (20,))
    for norm in ("Linf", "L2", "L1"):
        threat = Threat(norm, 0.3, None)
        adversarial = FGSM(threat=threat)(model, x, y)
        drop = Decision().of_logits(model(x), y) - Decision().of_logits(model(adversarial), y)
        w = (model.weight[0] - model.weight[1]).detach()
        torch.testing.assert_close(drop, torch.full_like(drop, 0.3 * float(torch.linalg.vector_norm(w, threat.dual))))
