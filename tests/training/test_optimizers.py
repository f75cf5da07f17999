import pytest
import torch
from torch import nn

from meseta.errors import UserError
from meseta.schedules import Constant, Cosine, Cyclic, StepDecay
from meseta.training import Adam, AdamW, Sgd


def test_schedules_by_hand():
    assert [StepDecay().factor(s) for s in (0, 0.49, 0.5, 0.75)] == pytest.approx([1, 1, 0.1, 0.01])
    assert [Cosine().factor(s) for s in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert [Cosine(warmup=0.2).factor(s) for s in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert [Cyclic(peak=0.25).factor(s) for s in (0, 0.125, 0.25, 0.625, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert Constant().factor(0.7) == 1


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
        (StepDecay, {"gamma": 0.0}),
        (StepDecay, {"gamma": 5.0}),
        (StepDecay, {"milestones": (100, 150)}),
        (Cyclic, {"peak": 1.0}),
        (Cosine, {"warmup": -1.0}),
    ],
)
def test_bad_settings_are_refused(made, bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        made(**bad)
