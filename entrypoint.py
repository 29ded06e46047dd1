"""The image's entrypoint: the same program as the installed `brats-opt`."""

from brats_infer.cli import main

if __name__ == "__main__":
    main()
