# SPDX-License-Identifier: Apache-2.0
"""``python -m physcon_ext.cli`` is ``physcon``."""

import sys

from physcon_ext.cli import main


if __name__ == "__main__":
    sys.exit(main())
