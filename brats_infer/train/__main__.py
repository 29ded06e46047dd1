"""`python -m brats_infer.train …` is `brats-opt train …`, for torchrun."""

import sys

from brats_infer.cli import main

sys.argv.insert(1, "train")
main()
