"""What a config builds, stage by stage; the same as `backbone-kit shapes`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # works in a checkout that is not installed

from backbone_kit.cli import main

if __name__ == "__main__":
    sys.exit(main(["shapes", *sys.argv[1:]]))
