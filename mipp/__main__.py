"""`python -m mipp` is the `mipp` command."""

import sys

from mipp.cli import main

sys.exit(main())
