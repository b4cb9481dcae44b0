"""Client of this question: question 2's, unchanged. That is the point."""

import sys

from spectacles.q2_msq.client import main

if __name__ == "__main__":
    sys.exit(main())
