//! Admission: the checks and changes of a write that concern more than one resource.
