"""What lies on disk: cases, images, grids, output folders."""
