"""The curvature that users will measure: a trained CNN on real images, against dense eigenvalues."""

import torch

from meseta.autodiff import CrossEntropy, dense_hessian
from meseta.geometry import SpectralCurvature


def test_spectral_curvature_is_within_one_percent_of_dense_for_each_of_16_images(trained_cnn):
    model, x, y = trained_cnn
    x, y = x[:16], y[:16]
    measured = SpectralCurvature()(model, x, y)
    assert measured.converged.all()
    hessian = dense_hessian(CrossEntropy().bind(model, x, y), x)
    eigenvalues = torch.linalg.eigvalsh(hessian.double())
    truth = eigenvalues.gather(1, eigenvalues.abs().argmax(1, keepdim=True)).squeeze(1)
    torch.testing.assert_close(measured.value.double(), truth, rtol=0.01, atol=0)
