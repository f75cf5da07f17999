import jaxtyping
import pytest
import torch

from meseta.autodiff import value_and_gradient


def test_annotations_are_enforced_here():
    with pytest.raises(jaxtyping.TypeCheckError):
        value_and_gradient(lambda x: x.sum(1), torch.ones(3, 2, dtype=torch.long))
