"""`python -m backbone_kit.cli`: the `backbone-kit` command."""

import sys

from . import main

sys.exit(main())
