"""The per-example gradient of a scalar field at a batch of inputs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from meseta.autodiff.layers import lean_layers
from meseta.autodiff.scalar_fields import BoundField
from meseta.errors import NoGradient
from meseta.shapes import Float


def leaf(x: Tensor) -> Tensor:
    """Return the values of x as a fresh leaf, so that no gradient ever reaches the caller's tensor."""
    with torch.inference_mode(False):
        return x.clone().detach().requires_grad_()


@contextmanager
def derivatives_of_derivatives() -> Iterator[None]:
    """Build graphs that can be differentiated twice, whatever the caller's grad or inference mode.

    Attention runs on the math backend, the only one whose backward has a derivative; convolutions and SiLU on layers
    whose second derivatives are cheap.
    """
    with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), lean_layers():
        yield


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch autocast off, for what subtracts values or gradients at neighbouring points; also as `@full_precision()`.

    In bfloat16 such a difference is rounding: on a small CNN a Hessian product by finite difference at h = 1e-3 was
    wrong by 16 times its length, where the exact product was by 0.8 %.
    """
    with ExitStack() as stack:
        for device in ("cpu", "cuda", "mps", "xpu"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def value_and_gradient(
    f: BoundField, x: Float[Tensor, "b *input"], *, create_graph: bool = False
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b *input"]]:
    """Return f(x) and grad f(x), per example.

    The sum over the batch is differentiated, so an example's gradient does not depend on the batch size.

    Args:
        f: field (B, *input) -> (B,); examples must not influence one another (BatchNorm in train mode does that).
        x: inputs (B, *input); taken as a constant point, its own history and `.grad` stay untouched.
        create_graph: keep both differentiable with respect to the parameters of f.

    Cost:
        One forward and one backward to the input.

    Raises:
        UserError: f does not depend on x in a way that autograd can follow.
    """
    with derivatives_of_derivatives():
        point = leaf(x)
        value = f(point.clone())  # a model may work in place, which a leaf forbids
        gradient = gradient_of(value, point, create_graph=create_graph)
    return (value if create_graph else value.detach()), gradient


def gradient_of(
    value: Tensor, point: Tensor, *, create_graph: bool = False, retain_graph: bool | None = None
) -> Tensor:
    """Return d(sum value)/d(point); zero where value does not reach point.

    `create_graph` keeps the gradient differentiable, `retain_graph` the value, which the former implies.
    """
    if not value.requires_grad:
        raise NoGradient(
            "the model's output is cut off from its input (detached, no_grad or integer arithmetic inside the model), "
            "so it has no input gradient. Use a model that autograd can follow."
        )
    (gradient,) = torch.autograd.grad(
        value.sum(), point, create_graph=create_graph, retain_graph=retain_graph, materialize_grads=True
    )
    return gradient.contiguous()
