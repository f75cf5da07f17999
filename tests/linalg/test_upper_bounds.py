"""Upper bounds: never below the truth, and close to it where they are exact."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from meseta.linalg.upper_bounds import convolution_norm_bound, eigenvalue_bound, matrix_norm_bound

F64 = torch.float64


def dense(kernel, size, stride, padding, dilation):
    """The convolution as a matrix, column by column."""
    pixels = torch.eye(kernel.shape[1] * size[0] * size[1], dtype=F64).view(-1, kernel.shape[1], *size)
    return F.conv2d(pixels, kernel, None, stride, padding, dilation).flatten(1).T


def test_eigenvalues_and_norms_of_matrices_are_exact_but_for_rounding():
    torch.manual_seed(0)
    matrix = torch.randn(5, 7, 4, dtype=F64)
    norms = torch.linalg.matrix_norm(matrix, 2)
    bound = matrix_norm_bound(matrix)
    assert (bound >= norms).all()
    torch.testing.assert_close(bound, norms, rtol=1e-8, atol=0)
    torch.testing.assert_close(matrix_norm_bound(matrix.mT), norms, rtol=1e-8, atol=0)
    assert eigenvalue_bound(torch.zeros(2, 3, 3, dtype=F64)).tolist() == [0, 0]


def test_a_matrix_that_is_not_finite_has_no_finite_bound_and_leaves_its_neighbours_alone():
    matrix = torch.eye(3, dtype=F64).repeat(2, 1, 1)
    matrix[0, 0, 0] = torch.nan
    bound = eigenvalue_bound(matrix)
    assert bound[0] == torch.inf
    assert 1 <= bound[1] < 1 + 1e-8


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(st.integers(7, 9), st.integers(7, 9)),
    st.integers(0, 99),
)
def test_convolutions_of_every_shape_are_bounded(channels, kernel, stride, padding, dilation, size, seed):
    weight = torch.randn(*channels, *kernel, dtype=F64, generator=torch.Generator().manual_seed(seed))
    truth = torch.linalg.matrix_norm(dense(weight, size, stride, padding, dilation), 2)
    bound = convolution_norm_bound(weight, size, stride=stride, padding=padding, dilation=dilation)
    assert truth <= bound


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 1), (1, 0)])
def test_on_large_images_the_bound_is_tight(stride, padding):
    torch.manual_seed(0)
    weight, size = torch.randn(3, 2, 3, 3, dtype=F64), (16, 16)
    s, p = (stride, stride), (padding, padding)
    truth = torch.linalg.matrix_norm(dense(weight, size, s, p, 1), 2)
    assert convolution_norm_bound(weight, size, stride=s, padding=p) < 1.05 * truth


def test_a_torus_of_the_size_of_the_image_would_not_be_sound():
    """Why the torus must hold the padding: wrapped onto two pixels, the ends of this kernel cancel."""
    kernel = torch.tensor([[[[1.0, 1.0, -1.0]]]], dtype=F64)
    wrapped = torch.tensor([[[[1.0 - 1.0, 1.0]]]], dtype=F64)
    truth = torch.linalg.matrix_norm(dense(kernel, (1, 2), 1, (0, 1), 1), 2)
    assert torch.fft.fft2(wrapped).abs().max() < truth <= convolution_norm_bound(kernel, (1, 2), padding=(0, 1))
