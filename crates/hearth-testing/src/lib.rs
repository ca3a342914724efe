//! Helpers for the tests of the other crates; never a dependency of what is shipped.

pub mod bench_model;
pub mod golden;
pub mod hostile;
pub mod peak;
pub mod tiny_chat;
pub mod tiny_model;

pub use tiny_model::TinyModel;
