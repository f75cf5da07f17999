import pytest
import torch
from torch import nn

from meseta.errors import UserError
from meseta.training import Adam, AdamW, Sgd


def test_optimizers_take_torchs_steps():
    for ours, theirs in (
        (Sgd(lr=0.1, momentum=0.5, weight_decay=0.2), lambda p: torch.optim.SGD(p, 0.1, 0.5, weight_decay=0.2)),
        (Sgd(lr=0.1, nesterov=True), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=2e-4, nesterov=True)),
        (Adam(lr=0.1, weight_decay=0.2), lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.2)),
        (AdamW(lr=0.1, weight_decay=0.2), lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.2)),
    ):
        results = []
        for build in (ours.build, theirs):
            weight = nn.Parameter(torch.ones(3))
            optimizer = build([weight])
            for _ in range(3):
                optimizer.zero_grad()
                (weight**3).sum().backward()
                optimizer.step()
            results.append(weight.detach())
        assert torch.equal(*results)


@pytest.mark.parametrize(
    ("made", "bad"),
    [
        (Adam, {"lr": 0.0}),
        (Adam, {"weight_decay": -1.0}),
        (Sgd, {"momentum": 1.0}),
    ],
)
def test_bad_settings_are_refused(made, bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        made(**bad)
