"""Sound means sound: no attack gets inside a certified radius, on trained and on random networks."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import F64, SMOOTH, conv_net, mlp, nearest_found
from torch import nn

from meseta.attacks import PGD
from meseta.autodiff.dense import dense_hessian
from meseta.certificates import CurvatureCertificate, HolderEstimate, LinearPiece, LipschitzCertificate
from meseta.data import DataConfig
from meseta.errors import UserError
from meseta.linalg import Lanczos
from meseta.models import Mlp
from meseta.objectives import AdversarialTraining, CurvatureBound
from meseta.threat import Threat

CERTIFICATES = {
    "published": CurvatureCertificate(bound="published"),
    "interval": CurvatureCertificate(bound="interval"),
    "interval-dual": CurvatureCertificate(bound="interval", dual=True),
    "local": CurvatureCertificate(),
    "local-dual": CurvatureCertificate(dual=True, steps=2),
    "lipschitz": LipschitzCertificate(),
    "lipschitz-global": LipschitzCertificate(local=False),
}


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from(sorted(SMOOTH)),
    st.integers(2, 4),
    st.integers(1, 9),
    st.integers(2, 4),
    st.floats(0.3, 5),
    st.integers(0, 10_000),
)
def test_no_attack_gets_inside_on_random_networks(activation, depth, width, classes, scale, seed):
    model = mlp(SMOOTH[activation], depth, width=width, classes=classes, scale=scale, seed=seed)
    x = torch.rand(6, 5, dtype=F64, generator=torch.Generator().manual_seed(seed))
    y = model(x).argmax(1)
    nearest = nearest_found(model, x, y, starts=3, steps=60)
    for name, certificate in CERTIFICATES.items():
        radius = certificate(model, x, y).value
        assert (radius <= nearest * (1 + 1e-9)).all(), name


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU])
def test_slopes_certify_piecewise_linear_networks_too(activation):
    for seed in range(5):
        model = mlp(activation, 3, seed=seed)
        x = torch.rand(20, 5, dtype=F64)
        y = model(x).argmax(1)
        radius = LipschitzCertificate()(model, x, y).value
        assert (radius <= nearest_found(model, x, y, starts=3) * (1 + 1e-9)).all()
        assert (radius > LipschitzCertificate(local=False)(model, x, y).value).any()


def trained(architecture, data, steps=120):
    """A network with a positive margin on most digits."""
    shape = data.input_shape, data.num_classes
    generator = torch.Generator().manual_seed(0)
    model = architecture.build(*shape, generator=generator) if architecture else small_conv_net(*shape)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    x, y = data.train[:]
    for step in range(steps):
        index = torch.arange(64) + 64 * (step % (len(x) // 64))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[index]), y[index]).backward()
        optimizer.step()
    return model.eval()


TRAINED = {
    "mlp-2-softplus": Mlp(activation="softplus", hidden=(32,)),
    "mlp-3-tanh": Mlp(activation="tanh", hidden=(32, 24)),
    "mlp-4-silu": Mlp(activation="silu", hidden=(32, 24, 16)),
    "mlp-2-gelu": Mlp(activation="gelu", hidden=(48,)),
    "mlp-3-softplus": Mlp(activation="softplus", hidden=(32, 24)),
    "conv-silu": None,
}


def small_conv_net(input_shape, classes):
    """Two strided convolutions and a linear layer."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.SiLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8 * (input_shape[1] // 4) ** 2, classes))


@pytest.mark.parametrize("name", TRAINED)
def test_no_attack_gets_inside_on_trained_networks(name):
    """90 digits each: descent on the margin to the boundary, and PGD in balls of the radii of all examples."""
    data = DataConfig(source="digits").load()
    model = trained(TRAINED[name], data)
    x, y = data.test[:90]
    exact = copy.deepcopy(model).double()  # PGD ends on the boundary, where float32 would decide
    wide = x.double()
    nearest = nearest_found(exact, wide, y, starts=4, steps=80)
    chosen = list(CERTIFICATES) if name == "mlp-2-softplus" else ["published", "local", "lipschitz"]
    for certificate in (CERTIFICATES[key] for key in chosen):
        found = certificate(model, x, y)
        right = found.correct
        assert right.double().mean() > 0.7
        assert (found.value[~right] == 0).all()
        assert (found.value[right] > 0).all()
        assert (found.value <= nearest * (1 + 1e-6)).all()
        for share in (0.5, 0.9):
            eps = float(found.value[right].quantile(share))
            inside = found.value > eps
            attack = PGD(threat=Threat("L2", eps, bounds=None), steps=10, restarts=2)
            adversarial = attack(exact, wide[inside], y[inside], generator=torch.Generator().manual_seed(0))
            assert (exact(adversarial).argmax(1) == y[inside]).all()


def test_no_point_has_more_curvature_than_the_certificate_allows():
    """Gradient ascent on the most negative eigenvalue of the one margin of a binary network, wherever it leads."""
    model = mlp(nn.SiLU, 3, scale=2, classes=2)
    x = torch.rand(8, 5, dtype=F64)
    y = model(x).argmax(1)
    sign = (1 - 2 * y).to(F64)
    allowed = CurvatureCertificate(bound="interval")(model, x, y).parts["curvature"]
    seen = torch.zeros_like(allowed)
    z = x.clone()
    for _ in range(60):
        z.requires_grad_()
        f = lambda p: sign * (model(p)[:, 0] - model(p)[:, 1])  # noqa: E731
        v = torch.linalg.eigh(dense_hessian(f, z.detach())).eigenvectors[:, :, 0]
        (gradient,) = torch.autograd.grad(f(z).sum(), z, create_graph=True)
        (product,) = torch.autograd.grad(gradient, z, v, create_graph=True)
        lowest = (v * product).sum(1)
        seen = torch.maximum(seen, -lowest.detach())
        (uphill,) = torch.autograd.grad(-lowest.sum(), z)
        z = (z + 0.2 * uphill / uphill.norm(dim=1, keepdim=True).clamp_min(1e-9)).detach()
    assert (seen <= allowed).all()
    assert (seen > 0.1 * allowed).all()


def test_bounds_get_tighter_in_their_order():
    """published <= interval <= local, and all below the estimate at the point and the linear piece's distance."""
    for activation in (nn.Softplus, nn.Tanh, nn.SiLU):
        model = mlp(activation, 3)
        x = torch.rand(10, 5, dtype=F64)
        y = model(x).argmax(1)
        published, interval, local = (CERTIFICATES[n](model, x, y).value for n in ("published", "interval", "local"))
        assert (published <= interval * (1 + 1e-6)).all()
        assert (interval <= local * (1 + 1e-6)).all()
        at_the_point = HolderEstimate(solver=Lanczos(which="smallest"))(model, x, y).value
        assert (local <= at_the_point * (1 + 1e-6)).all()
        assert (local <= LinearPiece()(model, x, y).value * (1 + 1e-6)).all()
        assert (local <= CurvatureCertificate(dual=True)(model, x, y).value * 1.02).all()


@pytest.mark.parametrize("model", [mlp(nn.Tanh, 2), conv_net(nn.GELU)], ids=["mlp", "conv"])
def test_logits_that_are_larger_alike_are_certified_alike(model):
    """The radius is a distance: multiplying the last layer changes margins, slopes and curvatures, not the boundary."""
    x = torch.rand(4, *((5,) if isinstance(model[0], nn.Linear) else (2, 8, 8)), dtype=F64)
    y = model(x).argmax(1)
    for certificate in (CurvatureCertificate(bound="interval"), CurvatureCertificate(), LipschitzCertificate()):
        before = certificate(model, x, y).value
        scaled = copy.deepcopy(model)
        with torch.no_grad():
            scaled[-1].weight *= 7
            scaled[-1].bias *= 7
        torch.testing.assert_close(certificate(scaled, x, y).value, before, rtol=1e-6, atol=0)


def test_training_with_the_bound_raises_certified_radii_on_held_out_data():
    data = DataConfig(source="digits").load()
    x, y = data.train[:]
    medians = {}
    for weight in (0.0, 0.1):
        model = Mlp(activation="softplus", hidden=(32,)).build(
            data.input_shape, data.num_classes, generator=torch.Generator().manual_seed(0)
        )
        optimizer, order = torch.optim.Adam(model.parameters(), 3e-3), torch.Generator().manual_seed(0)
        objective = CurvatureBound(weight=weight)
        for step in range(300):
            index = torch.arange(64) + 64 * (step % (len(x) // 64))
            optimizer.zero_grad()
            objective(model, x[index], y[index], generator=order).total.backward()
            optimizer.step()
        found = CurvatureCertificate(bound="published")(model, *data.test[:200])
        assert found.correct.double().mean() > 0.8
        medians[weight] = found.value.median(), found.parts["curvature"].nanmedian()
    assert medians[0.1][0] > 1.1 * medians[0.0][0]
    assert medians[0.1][1] < 0.3 * medians[0.0][1]


def test_the_published_objective_is_a_composition():
    model = Mlp(activation="softplus", hidden=(8,)).build((4,), 3)
    x, y = torch.rand(5, 4), torch.arange(5) % 3
    attack = PGD(threat=Threat("L2", 0.1), steps=2, drop_broken=False)
    value = AdversarialTraining(attack=attack, objective=CurvatureBound())(model, x, y)
    assert {"adversarial_cross_entropy", "adversarial_curvature_bound"} <= value.terms.keys()


def test_a_flat_input_is_certified_by_the_ball_that_it_is_flat_in():
    """1 - 100 relu(x - 1) - 100 relu(-x - 1) against 0: the slope is 0 at x = 0, and 100 from 1 on."""
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    model.load_state_dict(
        {
            "0.weight": torch.tensor([[1.0], [-1.0]]),
            "0.bias": torch.tensor([-1.0, -1.0]),
            "2.weight": torch.tensor([[-100.0, -100.0], [0.0, 0.0]]),
            "2.bias": torch.tensor([1.0, 0.0]),
        }
    )
    x, y = torch.tensor([[0.0], [1e-3]], dtype=F64), torch.tensor([0, 0])
    everywhere = LipschitzCertificate(local=False)(model, x, y).value
    local = LipschitzCertificate(steps=12)(model, x, y).value
    torch.testing.assert_close(everywhere, torch.full((2,), 0.01, dtype=F64), rtol=1e-6, atol=0)
    assert (local > 0.9).all()
    assert (local <= 1.01).all()


def test_weights_that_are_not_finite_certify_nothing():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh(), nn.Linear(1, 2, bias=False)).double()
    with torch.no_grad():
        model[0].weight.fill_(torch.inf)
        model[2].weight.copy_(torch.tensor([[1.0], [-1.0]]))
    x, y = torch.ones(1, 1, dtype=F64), torch.tensor([0])
    for certificate in CERTIFICATES.values():
        assert certificate(model, x, y).value == 0


def test_a_constant_network_is_certified_everywhere():
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([1.0, 0.0]))
    x, y = torch.rand(2, 2, dtype=F64), torch.tensor([0, 0])
    for certificate in (LipschitzCertificate(local=False), CurvatureCertificate(bound="published")):
        assert (certificate(model, x, y).value == torch.inf).all()


def test_what_rounding_decides_is_not_certified():
    """Logits near 1e6 that differ by 5e-4, less than 1e-9 of them: nothing is certain in float64 up to a constant."""
    model = nn.Linear(1, 2).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1e6 + 1], [1e6]]))
        model.bias.copy_(torch.tensor([-0.9995, 0.0]))
    x, y = torch.ones(1, 1, dtype=F64), torch.tensor([0])
    assert model(x).argmax(1) == 0
    assert LipschitzCertificate()(model, x, y).value == 0


def test_settings_that_would_be_ignored_are_refused():
    for make in (
        lambda: CurvatureCertificate(bound="interval", steps=3),
        lambda: LipschitzCertificate(local=False, steps=3),
        lambda: CurvatureCertificate(dual="no"),
        lambda: LipschitzCertificate(local="no"),
        lambda: CurvatureCertificate(bound="global"),
        lambda: CurvatureCertificate(steps=0),
    ):
        with pytest.raises(UserError):
            make()
