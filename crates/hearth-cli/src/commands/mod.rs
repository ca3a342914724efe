//! One module per command or group of commands that share most of their work.

pub mod bench;
pub mod chat;
pub mod keys;
pub mod launch;
pub mod logits;
pub mod pages;
pub mod run;
pub mod serve;
pub mod show;
pub mod text;
