"""Tables and pages made from stage folders."""

from mipp.report.page import render
from mipp.report.table import result_table

__all__ = ["render", "result_table"]
