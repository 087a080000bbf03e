"""A suspected study's findings as DICOM objects: a structured report (PS3.16 TID 1500) and secondary captures."""
