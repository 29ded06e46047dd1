"""The image's entrypoint: the same program as the installed `brats-opt`."""

from brats_infer.system.signals import end_at_once

if __name__ == "__main__":
    with end_at_once():
        from brats_infer.cli import main
    main()
