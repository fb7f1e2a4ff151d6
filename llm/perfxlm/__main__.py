"""`python -m perfxlm`."""

from __future__ import annotations

import sys

from perfxlm.cli import main

sys.exit(main())
