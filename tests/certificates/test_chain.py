"""Reading networks: the chain computes what the model does, and what it cannot read is named layer by layer."""

import pytest
import torch
from networks import F64, conv_net, mlp
from torch import nn

from meseta.certificates import CurvatureCertificate, LipschitzCertificate
from meseta.certificates.chain import read_chain
from meseta.errors import UserError
from meseta.models import Mlp, ResNet18, SiluCnn


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


def test_a_forward_that_is_not_its_layers_is_noticed():
    model = mlp(nn.Tanh, 2)
    model.register_forward_hook(lambda module, inputs, output: 3 * output)
    with pytest.raises(UserError, match="logits are not those"):
        CurvatureCertificate()(model, torch.rand(2, 5, dtype=F64), torch.tensor([0, 1]))
