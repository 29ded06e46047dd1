"""Files on disk: cases, images, grids, output folders."""
