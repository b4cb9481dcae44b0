"""`python -m spectacles.lab.check`."""

import sys

from spectacles.lab.check import main

if __name__ == "__main__":
    sys.exit(main())
