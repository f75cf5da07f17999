"""Shape annotations: jaxtyping's where it is loaded (under pytest, which enforces them), plain tensors elsewhere.

Axes: `b` batch, `c` classes, `*input` one example's shape, `k` Krylov.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or sys.modules.get("jaxtyping"):
    from jaxtyping import Bool, Float, Int
else:

    class Float:
        """Stand-in for jaxtyping's annotation: `Float[Tensor, "b"]` is `Tensor`."""

        def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
            return item[0]

    Bool = Int = Float

__all__ = ["Bool", "Float", "Int"]
