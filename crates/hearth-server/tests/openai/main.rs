//! OpenAI's dialect as its clients see it: a whole server in this process, on tiny models.

mod binding;
mod chat;
mod client;
mod completions;
mod talk;
