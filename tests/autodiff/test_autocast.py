import torch
from torch import nn

from meseta.autodiff import CrossEntropy, FiniteDifferenceHessian, Hessian, full_precision
from meseta.linalg.norms import normalized


def problem():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.SiLU(), nn.Flatten(), nn.Linear(200, 4))
    return (
        CrossEntropy().bind(model, x := torch.rand(6, 1, 7, 7), torch.arange(6) % 4),
        x,
        normalized(torch.randn_like(x)),
    )


def relative(a, b):
    return float((a - b).norm() / b.norm())


def test_finite_differences_run_in_full_precision_under_autocast():
    f, x, v = problem()
    for central in (False, True):
        outside = FiniteDifferenceHessian(f, x, 1e-2, central=central)(v)
        with torch.autocast("cpu", torch.bfloat16):
            inside = FiniteDifferenceHessian(f, x, 1e-2, central=central)(v)
        assert torch.equal(inside, outside)


def test_exact_products_only_lose_the_rounding():
    f, x, v = problem()
    outside = Hessian(f, x)(v)
    with torch.autocast("cpu", torch.bfloat16):
        inside = Hessian(f, x)(v)
    assert 0 < relative(inside, outside) < 0.03


def test_full_precision_ends_with_its_block():
    model, x = nn.Linear(4, 3), torch.rand(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        with full_precision():
            assert model(x).dtype == torch.float32
        assert model(x).dtype == torch.bfloat16
