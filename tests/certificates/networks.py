"""Small networks that certificates can read, trained and random."""

import torch
from torch import nn

F64 = torch.float64
SMOOTH = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "softplus": nn.Softplus, "silu": nn.SiLU, "gelu": nn.GELU}


def mlp(activation, depth, *, width=8, inputs=5, classes=3, scale=1.5, seed=0):
    """A multilayer perceptron with `depth` linear layers and weights steep enough for its curvature to matter."""
    torch.manual_seed(seed)
    layers = [nn.Linear(inputs, width), activation()]
    for _ in range(depth - 2):
        layers += [nn.Linear(width, width), activation()]
    return enlarged(nn.Sequential(*layers, nn.Linear(width, classes)), scale)


def conv_net(activation, *, seed=0, scale=1.5):
    """Convolutions with stride, padding, groups, BatchNorm in eval mode and average pooling, on 2 x 8 x 8."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        activation(),
        nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(4)),
        activation(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(16, 3),
    )
    norm = model[2][1]
    norm.running_var.uniform_(0.5, 2)
    norm.running_mean.uniform_(-0.5, 0.5)
    return enlarged(model, scale)


def enlarged(model, scale):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight") and parameter.dim() > 1:
                parameter.mul_(scale)
    return model.double().eval()


def margin(model, z, y):
    """The margin to the nearest rival."""
    logits = model(z)
    return logits.gather(1, y[:, None])[:, 0] - logits.scatter(1, y[:, None], -torch.inf).amax(1)


def nearest_found(model, x, y, *, starts=6, steps=150):
    """The distance of the nearest misclassified input that descents on the margin find, from x and from around it."""
    best = torch.full((len(x),), torch.inf, dtype=x.dtype)
    shape = (-1, *[1] * (x.dim() - 1))
    for start in range(starts):
        z = x + (0.2 * start) * torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(start))
        for _ in range(steps):
            z = z.detach().requires_grad_()
            value = margin(model, z, y)
            (gradient,) = torch.autograd.grad(value.sum(), z)
            with torch.no_grad():
                broken, distance = value < 0, (z - x).flatten(1).norm(dim=1)
                best = torch.where(broken, torch.minimum(best, distance), best)
                length = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
                newton = z - ((value.abs() + 1e-4) / length**2).clamp_max(1 / length).view(shape) * gradient
                z = torch.where(broken.view(shape), x + 0.98 * (z - x), newton)
    return best
