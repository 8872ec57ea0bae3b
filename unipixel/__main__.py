"""`python -m unipixel ...`"""

from __future__ import annotations

import sys

from unipixel.cli import main

sys.exit(main())
