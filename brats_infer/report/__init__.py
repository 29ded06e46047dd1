"""What a person sees of a run: report.json and report.csv, a picture a case, and a page with a viewer (docs/report.md).

Inference imports this only when a report was asked for.
"""

from brats_infer.report.comparison import compare_folders
from brats_infer.report.run_report import RunReport

__all__ = ["RunReport", "compare_folders"]
