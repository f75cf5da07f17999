import itertools
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from meseta.errors import UserError
from meseta.models import (
    Activation,
    Architecture,
    Cnn4,
    ConvNetGap,
    LeNet5,
    LeNet300100,
    Mlp,
    Network,
    Normalization,
    ResNet18,
    ResNet31,
    SiluCnn,
    VggLike,
)
from meseta.models.base import groups_of

SMALL = [
    LeNet300100(),
    Mlp(hidden=(8,)),
    LeNet5(padding=2),
    Cnn4(hidden=(16,)),
    Cnn4(maps=(2, 3, 4, 5), hidden=(16,)),
    SiluCnn(hidden=()),
    ConvNetGap(),
    VggLike(width=4),
    ResNet18(width=4),
    ResNet31(width=4),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parameters(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def count(network: Network, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


@pytest.mark.parametrize(
    ("architecture", "shape", "expected"),
    [
        (LeNet300100(), (1, 28, 28), 784 * 300 + 300 + 300 * 100 + 100 + 1010),
        (LeNet5(), (1, 28, 28), 20 * 25 + 20 + 50 * 20 * 25 + 50 + 800 * 500 + 500 + 5010),
        (Cnn4(), (1, 28, 28), 320 + 9248 + 18496 + 36928 + 64 * 49 * 200 + 200 + 40200 + 2010),
        (Cnn4(padding=0), (1, 28, 28), 320 + 9248 + 18496 + 36928 + 64 * 16 * 200 + 200 + 40200 + 2010),
        (SiluCnn(), (1, 28, 28), 320 + 9248 + 18496 + 36928 + 64 * 49 * 200 + 200 + 40200 + 2010),
        (ConvNetGap(width=2), (3, 32, 32), 3 * 18 + 2 + 38 + 18 * 4 + 4 + 36 * 4 + 4 + 36 * 8 + 8 + 90),
        (ResNet18(), (3, 32, 32), 11_173_962),  # the figure of the usual CIFAR ResNet-18
        (ResNet31(), (3, 32, 32), 448 + 10 * 2320 + 4640 + 9 * 9248 + 18496 + 9 * 36928 + 650),
    ],
)
def test_parameter_counts(architecture: Architecture, shape: tuple[int, ...], expected: int) -> None:
    assert parameters(architecture.build(shape, 10)) == expected


@pytest.mark.parametrize(
    ("architecture", "convolutions", "linears"),
    [
        (LeNet300100(), 0, 3),
        (LeNet5(), 2, 2),
        (Cnn4(), 4, 3),
        (Cnn4(hidden=()), 4, 1),
        (ConvNetGap(), 5, 1),
        (VggLike(), 12, 2),
        (ResNet18(), 20, 1),
        (ResNet31(), 31, 1),
    ],
)
def test_layer_counts(architecture: Architecture, convolutions: int, linears: int) -> None:
    network = architecture.build((3, 32, 32), 10)
    assert (count(network, nn.Conv2d), count(network, nn.Linear)) == (convolutions, linears)


def test_modules_show_every_activation_and_normalisation() -> None:
    network = ResNet31(activation="gelu", norm="group").build((3, 32, 32), 10)
    assert count(network, nn.GELU) == 31
    assert count(network, nn.GroupNorm) == 31
    assert count(SiluCnn().build((1, 28, 28), 10), nn.MaxPool2d) == 0


@pytest.mark.parametrize("architecture", SMALL, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 9, 13)])
def test_takes_images_of_any_size(architecture: Architecture, shape: tuple[int, ...]) -> None:
    network = architecture.build(shape, 3, generator=seeded()).eval()
    logits = network(torch.rand(2, *shape, generator=seeded()))
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()


@pytest.mark.parametrize("architecture", [Mlp(), Mlp(hidden=()), LeNet300100(norm="group")])
def test_takes_vectors(architecture: Architecture) -> None:
    assert architecture.build((7,), 2)(torch.rand(5, 7)).shape == (5, 2)


@pytest.mark.parametrize("architecture", SMALL, ids=lambda a: type(a).__name__)
def test_examples_are_independent_in_eval_mode_and_float64(architecture: Architecture) -> None:
    network = architecture.build((1, 8, 8), 3, generator=seeded()).double().eval()
    x = torch.rand(4, 1, 8, 8, dtype=torch.float64, generator=seeded())
    alone = torch.cat([network(example[None]) for example in x])
    torch.testing.assert_close(network(x), alone)


@pytest.mark.parametrize("base", [Mlp, LeNet5, SiluCnn, ResNet31])
@pytest.mark.parametrize(("activation", "norm"), itertools.product(get_args(Activation), get_args(Normalization)))
def test_double_backward_is_finite(base: type[Architecture], activation: Activation, norm: Normalization) -> None:
    size = {LeNet5: {"padding": 2}, ResNet31: {"width": 4}}.get(base, {})
    architecture = base(activation=activation, norm=norm, **size)  # type: ignore[arg-type]
    network = architecture.build((1, 8, 8), 3, generator=seeded()).double()
    x = torch.rand(4, 1, 8, 8, dtype=torch.float64, generator=seeded(), requires_grad=True)
    loss = nn.functional.cross_entropy(network(x), torch.tensor([0, 1, 2, 0]))
    (slope,) = torch.autograd.grad(loss, x, create_graph=True)
    curved = torch.autograd.grad(slope.square().sum(), [*network.parameters()], allow_unused=True)
    assert slope.isfinite().all()
    assert slope.abs().max() > 0
    assert all(g.isfinite().all() for g in curved if g is not None)


@pytest.mark.parametrize("architecture", SMALL, ids=lambda a: type(a).__name__)
def test_smooth_networks_pass_gradgradcheck(architecture: Architecture) -> None:
    smooth = type(architecture)(activation="silu", **({"padding": 2} if isinstance(architecture, LeNet5) else {}))
    network = smooth.build((1, 8, 8), 2, generator=seeded()).double().eval()
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64, generator=seeded(), requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda z: network(z)[:, 0], (x,), fast_mode=True)


def test_softplus_has_its_sharpness() -> None:
    network = Mlp(activation="softplus", beta=20).build((3,), 2)
    assert [m.beta for m in network.modules() if isinstance(m, nn.Softplus)] == [20]


@pytest.mark.parametrize("shape", [(3, 4, 5), (3,)])
def test_normalisation_by_hand(shape: tuple[int, ...]) -> None:
    mean, std = [0.1, 0.2, 0.5], [0.3, 1.0, 2.0]
    network = Mlp().build(shape, 2, mean=mean, std=std)
    x = torch.rand(2, *shape, generator=seeded())
    for channel in range(3):
        by_hand = (x[:, channel] - mean[channel]) / std[channel]
        torch.testing.assert_close(network.normalize(x)[:, channel], by_hand)


def test_without_statistics_normalisation_is_the_identity() -> None:
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(Mlp().build((1, 8, 8), 2).normalize(x), x)


def test_seed_decides_the_weights_and_leaves_the_global_state() -> None:
    state = torch.get_rng_state()
    first, again = (Cnn4().build((1, 8, 8), 2, generator=seeded(3)) for _ in range(2))
    other = Cnn4().build((1, 8, 8), 2, generator=seeded(4))
    assert torch.equal(torch.get_rng_state(), state)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(first(x), again(x))
    assert not torch.equal(first(x), other(x))


def test_unnormalised_residual_branches_start_at_zero() -> None:
    network = ResNet31(width=4).build((3, 32, 32), 10)
    last = [block.branch[-1] for block in network.modules() if hasattr(block, "branch")]
    assert len(last) == 15
    assert all(not conv.weight.any() for conv in last)


@pytest.mark.parametrize("architecture", SMALL, ids=lambda a: type(a).__name__)
def test_every_parameter_is_trained_in_the_end(architecture: Architecture) -> None:
    network = architecture.build((1, 8, 8), 3, generator=seeded())
    x, y = torch.rand(8, 1, 8, 8, generator=seeded()), torch.arange(8) % 3
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    before = [parameter.clone() for parameter in network.parameters()]
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))


@given(st.integers(1, 600))
@settings(max_examples=50, deadline=None)
def test_groups_divide_the_channels(channels: int) -> None:
    groups = groups_of(channels)
    assert channels % groups == 0
    assert groups == 1 or (groups <= 32 and channels // groups >= 4)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([LeNet5(), Cnn4(padding=0), Cnn4(), SiluCnn()]))
@settings(max_examples=60, deadline=None)
def test_builds_exactly_where_the_arithmetic_allows(height: int, width: int, architecture: Architecture) -> None:
    with torch.device("meta"):
        fits = min(architecture.side(height), architecture.side(width)) >= 1  # type: ignore[attr-defined]
        if fits:
            network = architecture.build((1, height, width), 2)
            assert network(torch.empty(1, 1, height, width)).shape == (1, 2)
        else:
            with pytest.raises(UserError, match="needs images of at least"):
                architecture.build((1, height, width), 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "relus"}, r"activation: unknown name 'relus'\. Did you mean 'relu'\?"),
        ({"norm": "layer"}, "norm: unknown name 'layer'"),
        ({"beta": 2.0}, "`beta` is the sharpness of the softplus"),
        ({"activation": "softplus", "beta": 0.0}, "`beta` must be positive"),
        ({"activation": "softplus", "beta": float("nan")}, "`beta` must be positive"),
        ({"padding": 2}, "`padding` must be a whole number, from 0 to 1, got 2"),
        ({"hidden": (3, 0)}, "`hidden` must be a whole number, at least 1, got 0"),
        ({"hidden": 3}, "`hidden` must be a tuple"),
        ({"maps": (8, 8)}, "`maps` must be four widths"),
        ({"maps": (8, 8, 8, 0)}, "`maps` must be a whole number, at least 1, got 0"),
        ({"downsample": "pool"}, "downsample: unknown name 'pool'"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Cnn4(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((1, 8, 8), 1), "`classes` must be a whole number, at least 2, got 1"),
        (((), 2), "`input_shape` must name at least one axis"),
        (((1, 0, 8), 2), "`input_shape` must be a whole number"),
        (((64,), 2), r"Cnn4 takes images, \(channels, height, width\), got \(64,\)\. Use Mlp"),
        (((1, 3, 28), 2), "needs images of at least 4×4, got 3×28"),
    ],
)
def test_wrong_inputs_to_build(arguments: tuple[tuple[int, ...], int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Cnn4().build(*arguments)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.5], None, "`mean` and `std` belong together"),
        ([0.5], [1.0, 1.0], "`std` needs 1 values"),
        ([0.5], [0.0], "`std` must be positive"),
        ([float("nan")], [1.0], "`mean` must be finite"),
    ],
)
def test_wrong_statistics(mean: list[float], std: list[float] | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Mlp().build((1, 8, 8), 2, mean=mean, std=std)


def test_wrong_batch_shape() -> None:
    with pytest.raises(UserError, match=r"`x` must have the shape \(batch, 1, 8, 8\), got \(1, 8, 8\)"):
        Mlp().build((1, 8, 8), 2)(torch.rand(1, 8, 8))


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_the_layout_changes_speed_alone(norm):
    network = ConvNetGap(norm=norm).build((3, 8, 8), 4, generator=seeded()).double().eval()
    layouts = []
    network.body[1].register_forward_hook(lambda module, given, made: layouts.append(given[0].stride(1) == 1))
    x = torch.rand(5, 3, 8, 8, generator=seeded(1), dtype=torch.float64)
    torch.testing.assert_close(network(x), network.body(network.normalize(x)))
    assert layouts == [norm == "none", False]  # channels last only where no normalisation makes that slow


def test_transforms_of_torch_func_pass_through():
    network = SiluCnn(hidden=()).build((1, 8, 8), 3, generator=seeded()).eval()
    x = torch.rand(2, 5, 1, 8, 8, generator=seeded(1))
    torch.testing.assert_close(torch.func.vmap(network)(x), torch.stack([network(part) for part in x]))


def test_cnn4_has_the_maps_that_it_is_given() -> None:
    network = SiluCnn(maps=(2, 3, 4, 5), hidden=()).build((1, 8, 8), 3, generator=seeded())
    found = [layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert found == [2, 3, 4, 5]
