"""Tables and pages made from stage folders.

page       the report of a run, as HTML and by `markdown_page`; `run` reads the stage folders once
headline   what came out, in a sentence and in facts; `table` the networks of a run
notes      what a reader must know beside it; `advice` what to try next
groups     what became of each group; `units` of each unit, `whole` of what was left as it is
rounds, trade_off, programs, cost  tables of runs that have such
reproduce  the command that makes the run again
figures    what is drawn: `profile`, `pixels`, `plane`, and those of `trade_off`
drawing    the one style of all figures, files of them; `sweep_figures` those of a sweep
"""

from mipp.report.page import render
from mipp.report.table import result_table

__all__ = ["render", "result_table"]
