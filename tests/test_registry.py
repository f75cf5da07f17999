import pytest

from meseta.errors import UserError
from meseta.registry import KINDS, methods, summary


def test_every_method_has_a_summary_and_works_with_its_defaults():
    for kind in KINDS:
        found = methods(kind)
        assert found
        for name, method in found.items():
            assert method.__name__ == name
            assert summary(method).endswith("."), name
            method()


def test_the_first_methods_are_found():
    assert {"Erm", "InputGradient", "CrossLipschitz", "AdversarialTraining"} <= set(methods("objectives"))
    assert {"FGSM", "PGD"} <= set(methods("attacks"))
    assert {"SpectralCurvature", "GradientNorm"} <= set(methods("measures"))
    assert {"LeNet300100", "LeNet5", "Cnn4", "SiluCnn", "ConvNetGap", "VggLike", "ResNet18", "ResNet31"} <= set(
        methods("models")
    )


def test_unknown_kind():
    with pytest.raises(UserError, match="Known: attacks"):
        methods("attack")
