//! Tests that cross crates: see the folder `tests`.
