"""What the measures of the Hessian share."""

import torch

from meseta.autodiff import CrossEntropy, Hessian, dense_hessian
from meseta.geometry import second_order


def test_the_dense_matrix_is_the_twin(batch):
    f = CrossEntropy().bind(batch.model, batch.x, batch.y)
    torch.testing.assert_close(second_order.dense(Hessian(f, batch.x), batch.x), dense_hessian(f, batch.x))


def test_a_search_starts_from_the_gradient_or_from_one_direction_for_all():
    gradient = torch.zeros(3, 2, 2)
    gradient[1] = 5
    start = second_order.start(gradient)
    assert torch.equal(start[1], gradient[1])
    assert torch.equal(start[0], start[2])
    assert start[0].any()
    assert torch.equal(start[:1], second_order.start(gradient[:1]))


def test_a_batch_is_taken_whole_where_it_fits_and_one_by_one_where_nothing_does(monkeypatch):
    x, y = torch.rand(5, 2), torch.arange(5)
    monkeypatch.setattr(second_order, "ENTRIES", 8)
    for entries, sizes in ((1, [5]), (4, [2, 2, 1]), (100, [1] * 5)):
        parts = list(second_order.few_at_a_time(x, y, entries))
        assert [len(labels) for _, labels in parts] == sizes
        assert torch.equal(torch.cat([some for some, _ in parts]), x)
