"""The factory of records, and a parser that reads a page back."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
