"""Reading networks: the chain computes what the model does, and what it cannot read is named layer by layer."""

import pytest
import torch
from networks import F64, conv_net, mlp
from torch import nn

from meseta.certificates import CurvatureCertificate, LipschitzCertificate
from meseta.certificates.chain import read_chain
from meseta.errors import UserError
from meseta.models import Mlp, ResNet18, SiluCnn
from meseta.objectives import CurvatureBound


def read(model, x, **options):
    return read_chain(model, x, "Test", **{"curved": True} | options)


@pytest.mark.parametrize("make", [lambda: mlp(nn.Tanh, 3), lambda: conv_net(nn.SiLU)], ids=["mlp", "conv"])
def test_maps_are_what_autograd_says_they_are(make):
    model = make()
    x = torch.rand(4, 5, dtype=F64) if isinstance(model[0], nn.Linear) else torch.rand(4, 2, 8, 8, dtype=F64)
    chain = read(model, x)
    torch.testing.assert_close(chain(x), model(x))
    for affine in chain.maps:
        a = torch.randn(3, *affine.shape, dtype=F64)
        b = torch.randn(3, *affine.out_shape, dtype=F64)
        matrix = affine.matrix
        torch.testing.assert_close(affine.linear(a).flatten(1), a.flatten(1) @ matrix.T)
        torch.testing.assert_close(affine.transposed(b).flatten(1), b.flatten(1) @ matrix)
        assert (affine.absolute(a.abs()).flatten(1) >= a.abs().flatten(1) @ matrix.abs().T - 1e-12).all()
        assert (affine.absolute_transposed(b.abs()).flatten(1) >= b.abs().flatten(1) @ matrix.abs() - 1e-12).all()
        assert affine.norm >= torch.linalg.matrix_norm(matrix, 2)
        assert (affine.row_norms.flatten() >= matrix.norm(dim=1)).all()


@pytest.mark.parametrize("make", [lambda: mlp(nn.Tanh, 3), lambda: conv_net(nn.SiLU)], ids=["mlp", "conv"])
def test_maps_too_large_for_a_matrix_are_bounded_from_above(make, monkeypatch):
    model = make()
    x = torch.rand(4, 5, dtype=F64) if isinstance(model[0], nn.Linear) else torch.rand(4, 2, 8, 8, dtype=F64)
    exact = read(model, x).maps
    norms, rows = [affine.norm for affine in exact], [affine.row_norms for affine in exact]
    monkeypatch.setattr("meseta.certificates.affine.DENSE", 0)
    for affine, norm, row in zip(read(model, x).maps, norms, rows, strict=True):
        assert affine.matrix is None
        assert norm <= affine.norm * (1 + 1e-9) <= 2.5 * norm
        assert (row <= affine.row_norms * (1 + 1e-8)).all()


def test_networks_of_meseta_are_read_with_their_normalisation():
    for architecture, shape in ((SiluCnn(), (1, 28, 28)), (Mlp(activation="gelu", hidden=(6, 5)), (1, 4, 4))):
        network = architecture.build(shape, 4, mean=[0.3], std=[0.2], generator=torch.Generator().manual_seed(0))
        x = torch.rand(2, *shape)
        torch.testing.assert_close(read(network, x)(x.double()).float(), network(x), rtol=1e-4, atol=1e-4)


def test_every_layer_in_the_way_is_named():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(2, track_running_stats=False))
    )
    with pytest.raises(UserError) as error:
        CurvatureCertificate()(model, torch.rand(2, 1, 6, 6), torch.tensor([0, 1]))
    for part in (
        "CurvatureCertificate cannot cover 3 of its layers",
        "1 (ReLU): no second derivative at its kink",
        "2.0 (MaxPool2d): an unknown layer",
        "2.1 (BatchNorm2d): normalises by the statistics of the batch",
    ):
        assert part in str(error.value)
    with pytest.raises(UserError, match=r"body.3 \(ResidualBlock\)"):
        LipschitzCertificate()(ResNet18().build((3, 8, 8), 3), torch.rand(1, 3, 8, 8), torch.tensor([0]))
    with pytest.raises(UserError, match=r"needs the layers of an nn\.Module"):
        LipschitzCertificate()(lambda x: x, torch.rand(2, 3), torch.tensor([0, 1]))


def test_a_network_in_train_mode_is_certified_in_eval_mode_and_given_back():
    model = conv_net(nn.SiLU)
    x = torch.rand(3, 2, 8, 8, dtype=F64)
    y = model(x).argmax(1)
    expected = CurvatureCertificate()(model, x, y).value
    model.train()
    torch.testing.assert_close(CurvatureCertificate()(model, x, y).value, expected)
    assert model.training


class Shifted(nn.Sequential):
    def forward(self, x):
        return super().forward(x - 0.9)


class Rounded(nn.Linear):
    def forward(self, x):
        return super().forward(x.round())


def test_a_forward_that_is_not_its_layers_is_refused_however_small_its_logits():
    x, y = torch.ones(2, 5, dtype=F64), torch.tensor([0, 0])
    hooked = mlp(nn.Tanh, 2)
    hooked[2].register_forward_hook(lambda module, inputs, output: 3 * output)
    rounded = nn.Sequential(Rounded(5, 3)).double()
    shifted = Shifted(*mlp(nn.Tanh, 2, scale=1e-4))
    around = mlp(nn.Tanh, 2)
    around.register_forward_pre_hook(lambda module, inputs: (inputs[0] / 2,))
    for read_by in (CurvatureCertificate(), LipschitzCertificate()):
        with pytest.raises(UserError, match=r"model \(Sequential\): has hooks"):
            read_by(around, x, y)
    for model, name in ((hooked, r"2 \(Linear\)"), (rounded, r"0 \(Rounded\)"), (shifted, r"model \(Shifted\)")):
        training = () if model is hooked else (CurvatureBound(),)  # which takes hooks for observers
        for read_by in (CurvatureCertificate(), LipschitzCertificate(), *training):
            with pytest.raises(UserError, match=name + ": (has hooks|has a forward of its own|an unknown layer)"):
                read_by(model, x, y)


def test_a_module_used_twice_is_read_twice():
    torch.manual_seed(0)
    tanh, middle = nn.Tanh(), nn.Linear(4, 4)
    model = nn.Sequential(nn.Linear(5, 4), tanh, middle, tanh, middle, tanh, nn.Linear(4, 3)).double()
    x = torch.rand(2, 5, dtype=F64)
    chain = read(model, x)
    assert len(chain.activations) == 3
    torch.testing.assert_close(chain(x), model(x))


@pytest.mark.parametrize(
    "utility", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm, nn.utils.spectral_norm]
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_that_are_made_anew_are_read_as_they_are(utility):
    model = nn.Sequential(utility(nn.Linear(5, 6)), nn.Tanh(), nn.Linear(6, 3)).eval()
    state = {name: 3 * value if name.endswith("_g") else value for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    x = torch.rand(3, 5)
    y = model(x).argmax(1)
    assert (CurvatureCertificate()(model, x, y).value > 0).all()
    CurvatureBound()(model, x, y).total.backward()


def test_pooling_and_normalisation_of_every_shape_are_read_or_refused():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 4, 6, dtype=F64)
    for pool in (
        nn.AvgPool2d([2, 2]),
        nn.AdaptiveAvgPool2d([2, 2]),
        nn.AdaptiveAvgPool2d((None, 2)),
        nn.Conv2d(3, 2, 3, padding="valid"),
    ):
        model = nn.Sequential(pool, nn.Tanh(), nn.Flatten()).double()
        torch.testing.assert_close(read(model, images)(images), model(images))
    lengths = nn.Sequential(nn.BatchNorm1d(4), nn.Flatten()).double().eval()
    lengths[0].running_var.uniform_(0.5, 2)
    signals = torch.rand(2, 4, 4, dtype=F64)
    torch.testing.assert_close(read(lengths, signals)(signals), lengths(signals))
    with pytest.raises(UserError, match="windows of several sizes"):
        read(nn.Sequential(nn.AdaptiveAvgPool2d(3)), images)
