"""A scanner's studies: finds the four contrasts among DICOM series and NIfTI files, and converts them to NIfTI."""
