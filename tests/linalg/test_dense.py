import torch

from meseta.linalg.dense import symmetric_eigenvalues


def test_ascending_in_float64_and_nan_for_bad_matrices_alone():
    matrix = torch.randn(3, 6, 6)
    matrix = matrix + matrix.mT
    truth = torch.linalg.eigvalsh(matrix.double())
    matrix[1, 2, 3] = torch.inf
    found = symmetric_eigenvalues(matrix)
    assert found.dtype == torch.float64
    assert found[1].isnan().all()
    torch.testing.assert_close(found[[0, 2]], truth[[0, 2]])


def test_what_rounding_made_unsymmetric_is_averaged():
    skew = torch.tensor([[[2.0, 1.0 + 1e-3], [1.0 - 1e-3, 2.0]]], dtype=torch.float64)
    torch.testing.assert_close(symmetric_eigenvalues(skew), torch.tensor([[1.0, 3.0]], dtype=torch.float64))
