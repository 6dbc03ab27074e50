"""``python3 -m bootc_build.onhost`` is ``bootc``."""

import sys

from bootc_build.onhost.cli.main import main

sys.exit(main())
