"""The figures of the papers, drawn from the records of `tests/report/report_factory.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "report"))
