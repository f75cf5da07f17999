import pytest
import torch
from torch import nn

from meseta import Threat
from meseta.attacks import PGD, FrankWolfe, Transfer
from meseta.attacks.base import misclassified
from meseta.autodiff import Decision
from meseta.errors import UserError


def seeded():
    return torch.Generator().manual_seed(0)


def linear(*rows):
    model = nn.Linear(len(rows[0]), len(rows), bias=False).double()
    model.weight.data = torch.tensor(rows).double()
    return model


def points(n=30, d=3):
    return 0.2 + 0.6 * torch.rand(n, d, generator=seeded(), dtype=torch.float64)


def test_the_point_is_the_one_the_attack_finds_on_the_source():
    target, source, x = linear([1.0, 0, 0], [0, 1.0, 0]), linear([1.0, 0, 0], [0, 0, 1.0]), points()
    y, threat = target(x).argmax(1), Threat("L2", 0.05)
    inner = PGD(threat=Threat(eps=0.5), steps=5, random_start=False, drop_broken=False)
    found = Transfer(threat=threat, models={"other": source}, attack=inner)(target, x, y)
    torch.testing.assert_close(found, inner.against(threat)(source, x, y))


def test_of_several_sources_the_one_with_the_lowest_margin_is_kept_in_any_order():
    """The aligned source breaks what can be broken; the useless one, whose gradient is along another entry, nothing."""
    target, x = linear([1.0, 0, 0], [0, 1.0, 0]), points()
    y, threat = target(x).argmax(1), Threat(eps=0.1)
    useless, aligned = linear([0, 0, 1.0], [0, 0, -1.0]), linear([2.0, 0, 0], [0, 2.0, 0])
    best = PGD(threat=threat, steps=20, drop_broken=False)(target, x, y, generator=seeded())
    for models in ({"a": useless, "b": aligned}, {"b": aligned, "a": useless}):
        found = Transfer(threat=threat, models=models)(target, x, y, generator=seeded())
        assert torch.equal(misclassified(target(found), y), misclassified(target(best), y))
        margin, least = (Decision().of_logits(target(p), y) for p in (found, best))
        standing = ~misclassified(target(best), y)
        torch.testing.assert_close(margin[standing], least[standing])


def test_what_a_source_breaks_is_not_attacked_again():
    target, x = linear([1.0, 0, 0], [0, 1.0, 0]), points()
    y, seen = target(x).argmax(1), []

    def second(inputs):
        seen.append(len(inputs))
        return target(inputs)

    threat = Threat(eps=0.1)
    first = Transfer(threat=threat, models={"a": target})(target, x, y, generator=seeded())
    left = int((~misclassified(target(first), y)).sum())
    Transfer(threat=threat, models={"a": target, "b": second})(target, x, y, generator=seeded())
    assert 0 < left < len(x)
    assert set(seen) == {1, left}


def test_without_models_it_is_the_attack_itself(batch):
    y = batch.model(batch.x).argmax(1)
    own = PGD(steps=20, drop_broken=False)(batch.model, batch.x, y, generator=seeded())
    torch.testing.assert_close(Transfer()(batch.model, batch.x, y, generator=seeded()), own)


def test_it_breaks_a_model_that_hides_its_gradient(trained_cnn):
    """Quantised inputs: white-box PGD sees nothing, and a copy without the quantisation is the source."""
    model, x, y = trained_cnn
    x, y, threat = x[:40], y[:40], Threat(eps=0.15)

    def hidden(inputs):
        return model((8 * inputs).round() / 8 + 0 * inputs)

    with torch.no_grad():
        right = ~misclassified(hidden(x), y)
        white, transferred = (
            misclassified(hidden(a(hidden, x, y, generator=seeded())), y)[right].float().mean()
            for a in (PGD(threat=threat, steps=10), Transfer(threat=threat, models={"copy": model}))
        )
    assert transferred > white + 0.3


def test_sources_keep_their_mode_and_gradients(batch):
    source = nn.Sequential(nn.Flatten(), nn.Linear(batch.x[0].numel(), batch.classes), nn.Dropout(0.5)).double().train()
    source[2].eval()
    Transfer(models={"s": source})(batch.model, batch.x, batch.y, generator=seeded())
    assert [m.training for m in source.modules()] == [True, True, True, False]
    assert all(p.grad is None for p in source.parameters())


def test_the_name_and_the_repr_name_the_sources_and_print_no_network():
    attack = Transfer(models={"erm": linear([1.0], [2.0]), "cnn": linear([1.0], [2.0])})
    assert attack.name == "Transfer from erm, cnn (PGD-20 CrossEntropy)"
    assert "models=['erm', 'cnn']" in repr(attack)
    assert "Linear" not in repr(attack)
    assert Transfer().name == "Transfer from itself (PGD-20 CrossEntropy)"
    assert repr(attack) == repr(attack.against(attack.threat))
    assert hash(attack) == hash(attack.against(attack.threat))


def test_another_number_of_classes_is_refused():
    x = points(4)
    with pytest.raises(UserError, match="`models`: 'three' has 3 classes and the model under attack 2"):
        Transfer(models={"three": linear([1.0] * 3, [0.0] * 3, [2.0] * 3)})(
            linear([1.0] * 3, [0.0] * 3), x, torch.zeros(4, dtype=torch.long)
        )


@pytest.mark.parametrize("bad", [{"models": [len]}, {"models": {"a": 3}}, {"models": {1: len}}, {"attack": "PGD"}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        Transfer(**bad)


def test_any_attack_crafts():
    x = points()
    target = linear([1.0, 0, 0], [0, 1.0, 0])
    found = Transfer(models={"a": target}, attack=FrankWolfe())(target, x, target(x).argmax(1))
    assert Threat().contains(found, x).all()
