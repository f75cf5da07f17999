"""Run every benchmark in turn; `make bench`."""

import attacks
import curvature
import eigenvalues
import exact_curvature
import import_time
import load
import masking
import memory
import precision
import report
import soundness
import surfaces
import training_step
from common import options


def main() -> None:
    given = options(__doc__)
    for benchmark in (
        import_time,
        training_step,
        attacks,
        curvature,
        eigenvalues,
        exact_curvature,
        soundness,
        masking,
        surfaces,
        memory,
        load,
        precision,
        report,
    ):
        benchmark.main(given)
    print(f"Results: {given.out}")


if __name__ == "__main__":
    main()
