//! `hearth run`, and `hearth` alone: answer once, or chat.

use std::ffi::OsString;

use clap::Parser;
use serde_json::json;

use crate::args::{Cli, Command, RunArgs};
use crate::builtin;
use crate::commands::chat;
use crate::conversation::Conversation;
use crate::failure::Failure;
use crate::printer::{self, Output};
use crate::prompt::{self, Prompt};

/// `hearth run MODEL [PROMPT]`
pub fn run(mut args: RunArgs, is_verbose: bool) -> Result<(), Failure> {
    // Standard input first: an empty prompt is told before a model is loaded.
    let prompt = prompt::gather(args.prompt.take())?;
    let system = args.system.clone();
    match prompt {
        Prompt::Once(text) => once(&text, system, Conversation::load(args, is_verbose)?),
        Prompt::Chat => chat::run(system, Conversation::load(args, is_verbose)?),
    }
}

/// `hearth` without a command: the built-in model, with a welcome when a person is there.
pub fn welcome(is_verbose: bool) -> Result<(), Failure> {
    // The defaults of the flags stand in their definitions only, so they are taken from there.
    let words: [OsString; 3] = ["hearth".into(), "run".into(), builtin::NAME.into()];
    let Ok(Cli {
        command: Some(Command::Run(args)),
        ..
    }) = Cli::try_parse_from(words)
    else {
        return Err(Failure::ours(
            "the command line for the built-in model is not valid",
        ));
    };
    let prompt = prompt::gather(None)?;
    let mut conversation = Conversation::load(args, is_verbose)?;
    match prompt {
        Prompt::Once(text) => once(&text, None, conversation),
        Prompt::Chat => {
            printer::note(format!(
                "Welcome to hearth {}. This is spark, a tiny model that is part of the program: it works offline, and\n\
                 nothing you write leaves this computer. For a larger model: hearth run ./model.gguf",
                env!("CARGO_PKG_VERSION")
            ));
            chat::greet();
            chat::talk(None, &mut conversation)
        }
    }
}

fn once(text: &str, system: Option<String>, mut conversation: Conversation) -> Result<(), Failure> {
    let tokens = if conversation.has_template() {
        let mut messages = chat::opening(system);
        messages.push(json!({ "role": "user", "content": text }));
        conversation.chat_tokens(&messages)?
    } else {
        conversation.raw_tokens(text)?
    };
    conversation.answer(tokens, &mut Output::new())?;
    conversation.interrupt().check()
}
