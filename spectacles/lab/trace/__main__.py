"""`python -m spectacles.lab.trace`."""

import sys

from spectacles.lab.trace import main

sys.exit(main())
