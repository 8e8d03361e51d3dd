"""Images whose true displacement is known: phantom subjects, and real images deformed by a drawn field.

Uses `clinic` (phantoms are written as DICOM), `spatial` and what lies below them.
"""
