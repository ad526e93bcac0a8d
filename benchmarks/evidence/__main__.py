"""`python -m benchmarks.evidence`: docs/evidence.md from experiments/results."""

import sys

from benchmarks.evidence.page import main

sys.exit(main())
