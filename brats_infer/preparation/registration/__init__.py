"""Places of scans: their grids, and rigid registration between them and to a template."""
