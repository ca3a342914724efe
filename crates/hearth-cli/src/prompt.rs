//! Where a prompt comes from: the argument, standard input, or both.

use std::io::{self, IsTerminal, Read};
use std::sync::mpsc;
use std::time::Duration;

use crate::failure::Failure;
use crate::printer;

/// What the user wants to say.
#[derive(Debug, PartialEq, Eq)]
pub enum Prompt {
    /// One text, to be answered once.
    Once(String),
    /// Nothing yet: a chat, because a person sits at the terminal.
    Chat,
}

/// Joins argument and standard input: `git diff | hearth run m.gguf "Summarise this"` asks first, then shows the text.
pub fn gather(argument: Option<String>) -> Result<Prompt, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return match argument {
            Some(text) => once(text),
            None => Ok(Prompt::Chat),
        };
    }
    let waiting = argument.is_some().then(note_when_waiting);
    let piped = read_text(&mut stdin.lock())?;
    drop(waiting);
    // The line break that every command prints at its end is not part of what it says.
    let piped = piped.strip_suffix('\n').map_or(piped.as_str(), |text| {
        text.strip_suffix('\r').unwrap_or(text)
    });
    once(join(argument, piped))
}

/// Says after a moment what `hearth run MODEL "prompt"` waits for: a script may start it with an input that nobody ends.
fn note_when_waiting() -> mpsc::Sender<()> {
    let (reading, read) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if read.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            printer::note(
                "Waiting for the end of standard input, which is part of the prompt; '</dev/null' gives none.",
            );
        }
    });
    reading
}

/// How long standard input may take before a word about it.
const PATIENCE: Duration = Duration::from_secs(2);

fn join(argument: Option<String>, piped: &str) -> String {
    match argument {
        Some(text) if piped.is_empty() => text,
        Some(text) => format!("{text}\n\n{piped}"),
        None => piped.to_string(),
    }
}

fn once(text: String) -> Result<Prompt, Failure> {
    if text.trim().is_empty() {
        return Err(Failure::input("the prompt is empty")
            .hint("give a prompt as an argument or on standard input; in a terminal, leave it out to chat"));
    }
    Ok(Prompt::Once(text))
}

/// The most text that is taken: more than any context holds, and far less than the memory that its tokens would need.
const MAX_INPUT_BYTES: usize = 16 << 20;

/// Everything on standard input, byte for byte.
pub fn read_bytes(input: &mut impl Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut limited = input.take(MAX_INPUT_BYTES as u64 + 1);
    limited.read_to_end(&mut bytes).map_err(|error| {
        Failure::input(format!("cannot read standard input: {error}"))
            .hint("give a text file or the output of a command")
    })?;
    if bytes.len() > MAX_INPUT_BYTES {
        return Err(Failure::input(format!(
            "standard input has more than {MAX_INPUT_BYTES} bytes, the most that is taken"
        ))
        .hint("give it in parts"));
    }
    Ok(bytes)
}

/// Everything on standard input, which must be UTF-8.
pub fn read_text(input: &mut impl Read) -> Result<String, Failure> {
    String::from_utf8(read_bytes(input)?).map_err(|error| {
        Failure::input(format!(
            "standard input is not UTF-8 text: byte {} is wrong",
            error.utf8_error().valid_up_to()
        ))
        .hint("convert it first, for example with: iconv -f latin1 -t utf-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argument_comes_first_then_a_blank_line_then_the_input() {
        assert_eq!(join(Some("ask".into()), "text"), "ask\n\ntext");
        assert_eq!(join(Some("ask".into()), ""), "ask");
        assert_eq!(join(None, "text"), "text");
    }

    #[test]
    fn blank_prompts_are_refused() {
        assert!(once(" \n".into()).is_err());
        assert_eq!(once("x".into()).ok(), Some(Prompt::Once("x".into())));
    }

    #[test]
    fn input_must_be_utf8() {
        assert!(read_text(&mut &b"caf\xc3\xa9"[..]).is_ok());
        assert!(read_text(&mut &b"caf\xe9"[..]).is_err());
    }

    #[test]
    fn input_without_an_end_is_refused() {
        assert!(read_text(&mut std::io::repeat(b'a')).is_err());
    }
}
