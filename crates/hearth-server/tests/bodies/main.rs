//! What holds for every route that takes a body, walked along a table of bodies.

mod counts;
mod mutations;
mod places;
mod rules;
#[path = "../support/mod.rs"]
mod support;
mod table;
