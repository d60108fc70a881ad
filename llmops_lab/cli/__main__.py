"""``python -m llmops_lab.cli`` is the command ``llmops-lab``."""

import sys

from llmops_lab.cli import main

sys.exit(main())
