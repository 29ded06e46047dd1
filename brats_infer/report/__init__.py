"""The report of a run: report.json, report.csv, a picture a case, and a page with a viewer (docs/report.md).

Inference imports it only with --report.
"""

from brats_infer.report.comparison import compare_folders
from brats_infer.report.run_report import RunReport

__all__ = ["RunReport", "compare_folders"]
