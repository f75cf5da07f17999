"""From records to a page: a comparison table, figures and one self-contained HTML file.

Reads records only, never a model: pages are rebuilt without torch. The names are imported on first use.
"""

from typing import TYPE_CHECKING

from meseta.lazy import lazy

if TYPE_CHECKING:
    from meseta.report.figure_page import write_figure_page
    from meseta.report.formats import to_csv, to_latex, to_markdown, to_rerun, to_rich
    from meseta.report.notices import read_with_care
    from meseta.report.page import write_report
    from meseta.report.printed import write_figures
    from meseta.report.sweep_page import write_sweep_page
    from meseta.report.table import comparison_table

__all__ = [
    "comparison_table",
    "read_with_care",
    "to_csv",
    "to_latex",
    "to_markdown",
    "to_rerun",
    "to_rich",
    "write_figure_page",
    "write_figures",
    "write_report",
    "write_sweep_page",
]

__getattr__ = lazy(
    __name__,
    {
        "comparison_table": "meseta.report.table",
        "read_with_care": "meseta.report.notices",
        "to_csv": "meseta.report.formats",
        "to_latex": "meseta.report.formats",
        "to_markdown": "meseta.report.formats",
        "to_rerun": "meseta.report.formats",
        "to_rich": "meseta.report.formats",
        "write_figure_page": "meseta.report.figure_page",
        "write_figures": "meseta.report.printed",
        "write_report": "meseta.report.page",
        "write_sweep_page": "meseta.report.sweep_page",
    },
)
