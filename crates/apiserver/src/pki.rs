//! The certificates and keys of a cluster.
