"""`python -m spectacles.lab.compare`."""

import sys

from spectacles.lab.compare import main

sys.exit(main())
