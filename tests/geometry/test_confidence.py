import torch

from meseta.geometry import Confidence


def confidence(logits, y):
    return Confidence()(lambda x: x, logits, y)


def test_equals_the_softmax_and_its_textbook_parts(batch):
    b = batch
    z = b.model(b.x).detach()
    p = z.softmax(1)
    own = p.gather(1, b.y[:, None]).squeeze(1)
    others = z.scatter(1, b.y[:, None], -torch.inf).amax(1)
    measured = Confidence()(b.model, b.x, b.y)
    torch.testing.assert_close(measured.value, p.amax(1))
    expected = {
        "doubt": 1 - p.amax(1),
        "label": own,
        "loss": -own.log(),
        "entropy": -(p * p.log()).sum(1),
        "margin": z.gather(1, b.y[:, None]).squeeze(1) - others,
    }
    assert measured.parts.keys() == expected.keys()
    for name, truth in expected.items():
        torch.testing.assert_close(measured.parts[name], truth, msg=name)


def test_confident_examples_keep_their_precision_in_float32():
    gaps = torch.tensor([0.5, 10.0, 20.0, 40.0, 80.0])
    logits = torch.stack([gaps, torch.zeros(5), -torch.ones(5)], 1)
    y = torch.zeros(5, dtype=torch.long)
    single, double = confidence(logits, y), confidence(logits.double(), y)
    assert single.value[-1] == 1
    for name in ("doubt", "entropy", "loss"):
        part = double.parts[name]
        assert (part > 0).all()
        torch.testing.assert_close(single.parts[name].double(), part, rtol=1e-5, atol=0)
    log_doubt = -gaps.double() + torch.tensor(1 + 2.718281828459045**-1).log()  # for large gaps
    torch.testing.assert_close(double.parts["doubt"][2:].log(), log_doubt[2:], rtol=1e-7, atol=0)


def test_ties_and_two_classes():
    measured = confidence(torch.zeros(1, 2), torch.tensor([1]))
    torch.testing.assert_close(measured.value, torch.tensor([0.5]))
    torch.testing.assert_close(measured.parts["entropy"], torch.tensor([2.0]).log())
    assert measured.parts["margin"] == 0


def test_an_infinite_logit_is_no_confidence():
    def model(x):
        return torch.where(x > 2, torch.inf, x)

    measured = Confidence()(model, torch.tensor([[3.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), torch.tensor([0, 0]))
    assert measured.value[0].isnan()
    assert all(part[0].isnan() and part[1].isfinite() for part in measured.parts.values())


def test_bfloat16_logits_are_taken_in_float32():
    logits = torch.tensor([[12.0, 0.0, 1.0]])
    measured = Confidence()(lambda x: x.bfloat16(), logits, torch.tensor([0]))
    torch.testing.assert_close(measured.parts["doubt"], confidence(logits, torch.tensor([0])).parts["doubt"])
