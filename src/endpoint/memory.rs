//! An in-memory cluster with faults, behind the same contracts as the real one.
