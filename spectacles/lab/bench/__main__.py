"""`python -m spectacles.lab.bench`."""

import sys

from spectacles.lab.bench import main

sys.exit(main())
