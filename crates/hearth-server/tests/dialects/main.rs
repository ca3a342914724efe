//! The dialects as their clients see them: a whole server in this process, on tiny models.

mod anthropic;
mod binding;
mod chat;
mod client;
mod completions;
mod notations;
mod random;
mod responses;
mod stops;
mod talk;
