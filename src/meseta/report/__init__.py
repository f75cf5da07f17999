"""From records to a page: a comparison table, figures and one self-contained HTML file.

Reads records only, never a model: pages are rebuilt without torch. The names are imported on first use.
"""

from typing import TYPE_CHECKING

from meseta.lazy import lazy

if TYPE_CHECKING:
    from meseta.report.page import write_report
    from meseta.report.printed import write_figures
    from meseta.report.table import comparison_table, to_markdown, to_rich

__all__ = ["comparison_table", "to_markdown", "to_rich", "write_figures", "write_report"]

__getattr__ = lazy(
    __name__,
    {
        "comparison_table": "meseta.report.table",
        "to_markdown": "meseta.report.table",
        "to_rich": "meseta.report.table",
        "write_figures": "meseta.report.printed",
        "write_report": "meseta.report.page",
    },
)
