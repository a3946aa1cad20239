"""See the package."""

import sys

from tests.end_to_end.independent.command import main

sys.exit(main())
