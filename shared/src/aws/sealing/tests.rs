//! Vectors and bindings.
