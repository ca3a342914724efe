//! The chat in the terminal: a line from the user, a streamed answer, and the conversation so far in between.

use rustyline::config::Behavior;
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor};
use serde_json::{Value, json};

use crate::conversation::Conversation;
use crate::failure::Failure;
use crate::printer::{self, Output};

const HELP: &str = "/help    this list\n/reset   forget the conversation and start a new one\n/exit    leave (or Ctrl-D)\n\
    Ctrl-C while an answer is written stops it; the arrow keys bring earlier lines back.";

/// Greets and talks until the user leaves.
pub fn run(system: Option<String>, mut conversation: Conversation) -> Result<(), Failure> {
    if conversation.has_template() {
        greet();
    } else {
        printer::note(
            "This model has no chat template: each line is completed by itself, and nothing is remembered. Ctrl-D leaves.",
        );
    }
    talk(system, &mut conversation)
}

/// How to use a chat, in a line.
pub fn greet() {
    printer::note("Write something and press Enter. /help lists the commands, Ctrl-D leaves.");
}

/// The messages that stand before the first turn.
pub fn opening(system: Option<String>) -> Vec<Value> {
    system
        .map(|content| json!({ "role": "system", "content": content }))
        .into_iter()
        .collect()
}

/// Talks until the user leaves.
pub fn talk(system: Option<String>, conversation: &mut Conversation) -> Result<(), Failure> {
    let mut editor = editor()?;
    let mut messages = opening(system.clone());
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(ReadlineError::Interrupted) => return Err(Failure::Interrupted),
            Err(error) => {
                return Err(Failure::ours("cannot read from the terminal").caused_by(&error));
            }
        };
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        // Memory only: what is said to a model is nobody's business after the chat. It refuses nothing worth a word.
        let _ = editor.add_history_entry(line);
        match line {
            "/exit" | "/quit" | "/bye" => return Ok(()),
            "/help" | "/?" => printer::note(HELP),
            "/reset" => {
                messages = opening(system.clone());
                printer::note("The conversation starts anew.");
            }
            _ if line.starts_with('/') => {
                printer::note(format!("There is no command '{line}'; /help lists them."))
            }
            text => turn(text, &mut messages, conversation)?,
        }
    }
}

/// One line and its answer. A line that cannot be answered is taken back; the chat goes on.
fn turn(
    text: &str,
    messages: &mut Vec<Value>,
    conversation: &mut Conversation,
) -> Result<(), Failure> {
    conversation.interrupt().reset();
    let n_before = messages.len();
    let result = if conversation.has_template() {
        messages.push(json!({ "role": "user", "content": text }));
        conversation
            .chat_tokens(messages)
            .and_then(|tokens| conversation.answer(tokens, &mut Output::new()))
    } else {
        conversation
            .raw_tokens(text)
            .and_then(|tokens| conversation.answer(tokens, &mut Output::new()))
    };
    match result {
        Ok(answer) => {
            if conversation.has_template() {
                messages.push(json!({ "role": "assistant", "content": answer.text }));
            }
            Ok(())
        }
        Err(failure @ Failure::Reported(_)) => {
            messages.truncate(n_before);
            failure.print();
            if conversation.has_template() {
                printer::note("/reset starts a new conversation.");
            }
            Ok(())
        }
        Err(failure) => Err(failure),
    }
}

fn editor() -> Result<Editor<(), MemHistory>, Failure> {
    // The prompt is drawn on the terminal itself, so that standard output holds answers only.
    let config = Config::builder().behavior(Behavior::PreferTerm).build();
    let history = MemHistory::with_config(&config);
    Editor::with_history(config, history).map_err(|error| {
        Failure::ours("cannot use this terminal for a chat")
            .caused_by(&error)
            .hint("give a prompt as an argument instead")
    })
}
