"""`python -m benchmarks.validation`: cases whose answer is known."""

import sys

from benchmarks.validation.known_answers import main

sys.exit(main())
