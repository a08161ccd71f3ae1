"""A TensorBoard plugin for sharpness, eigenvalue histories, spectra, landscapes and schedules."""
