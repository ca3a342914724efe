//! Helpers for the tests of the other crates; never a dependency of what is shipped.

pub mod golden;
