//! `hearth tokenize`, `detokenize` and `template`: text in and out of a model's own rules, for tests and tools.

use std::io::{self, IsTerminal};
use std::path::Path;

use hearth_text::template::TimestampError;
use hearth_text::{ChatTemplate, Encode, Timestamp, Tokenizer};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::{DetokenizeArgs, TemplateArgs, TokenizeArgs};
use crate::failure::Failure;
use crate::model_ref::ModelRef;
use crate::printer::{Output, Visible};
use crate::prompt::{read_bytes, read_text};

/// The bytes of a token: text where they are UTF-8, a list of numbers where they are not.
#[derive(Serialize)]
#[serde(untagged)]
enum Piece<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl Piece<'_> {
    fn new(bytes: &[u8]) -> Piece<'_> {
        std::str::from_utf8(bytes).map_or(Piece::Bytes(bytes), Piece::Text)
    }
}

/// Turns standard input, byte for byte, into token ids.
pub fn tokenize(args: &TokenizeArgs) -> Result<(), Failure> {
    let tokenizer = tokenizer(&args.model)?;
    let text = read_bytes(&mut io::stdin().lock())?;
    let options = Encode {
        add_special: !args.no_special,
        parse_special: args.parse_special,
    };
    let tokens = tokenizer.encode_bytes(&text, options);
    let mut output = Output::new();
    if args.json {
        let pieces: Vec<Piece> = tokens
            .iter()
            .map(|&id| Piece::new(tokenizer.piece(id).unwrap_or_default()))
            .collect();
        output.json(&json!({ "tokens": tokens, "pieces": pieces }))?;
    } else {
        let ids: Vec<String> = tokens.iter().map(u32::to_string).collect();
        output.line(ids.join(","))?;
    }
    output.flush()
}

/// Turns token ids into text.
pub fn detokenize(args: &DetokenizeArgs) -> Result<(), Failure> {
    let tokenizer = tokenizer(&args.model)?;
    if let Some(id) = args
        .tokens
        .iter()
        .find(|&&id| id as usize >= tokenizer.n_vocab())
    {
        return Err(Failure::input(format!(
            "token {id} is outside the vocabulary of {}",
            tokenizer.n_vocab()
        ))
        .hint("token ids of a text come from 'hearth tokenize'"));
    }
    let bytes = tokenizer.decode(&args.tokens);
    let mut output = Output::new();
    match (args.json, std::str::from_utf8(&bytes)) {
        (false, Ok(text)) => output.bytes(visible().filter(text).as_bytes())?,
        (false, Err(_)) if io::stdout().is_terminal() => output.bytes(
            visible()
                .filter(&String::from_utf8_lossy(&bytes))
                .as_bytes(),
        )?,
        (false, Err(_)) => output.bytes(&bytes)?,
        (true, Ok(text)) => output.json(&json!({ "text": text }))?,
        // A text cut inside a character: the bytes stand beside it, since the text alone would hide them.
        (true, Err(_)) => {
            output.json(&json!({ "text": String::from_utf8_lossy(&bytes), "bytes": bytes }))?
        }
    }
    output.flush()
}

/// What a terminal may see of a file's text; files and pipes get every byte.
fn visible() -> Visible {
    Visible::new(io::stdout().is_terminal())
}

fn tokenizer(model: &std::ffi::OsStr) -> Result<Tokenizer, Failure> {
    let gguf = ModelRef::parse(model)?.open()?;
    Ok(Tokenizer::from_metadata(gguf.metadata())?)
}

/// Renders a chat template with the context on standard input.
pub fn template(args: &TemplateArgs) -> Result<(), Failure> {
    let template = match (&args.file, &args.model) {
        (Some(path), _) => template_of_file(path)?,
        (None, Some(model)) => template_of_model(&ModelRef::parse(model)?)?,
        (None, None) => unreachable!("clap requires a model or a file"),
    };
    let (context, now) = read_context()?;
    let rendered = template.render(&context, now);
    let mut output = Output::new();
    match rendered {
        Ok(text) if args.json => output.json(&json!({ "text": text }))?,
        Ok(text) => output.bytes(visible().filter(&text).as_bytes())?,
        // For a program, a template that refuses its input is an answer, not a failure of this command.
        Err(error) if args.json => output.json(&json!({ "error": error.to_string() }))?,
        Err(error) => return Err(Failure::from(error).hint("check the messages on standard input")),
    }
    output.flush()
}

fn template_of_file(path: &Path) -> Result<ChatTemplate, Failure> {
    let source = std::fs::read_to_string(path).map_err(|error| {
        Failure::input(format!("cannot read the template '{}'", path.display()))
            .caused_by(&error)
            .hint("--file takes a Jinja template as UTF-8 text")
    })?;
    ChatTemplate::from_source(&source)
        .map_err(|error| Failure::from(error).hint("--file takes a Jinja template"))
}

fn template_of_model(model: &ModelRef) -> Result<ChatTemplate, Failure> {
    let gguf = model.open()?;
    ChatTemplate::from_metadata(gguf.metadata())?.ok_or_else(|| {
        Failure::input(format!("'{model}' has no chat template"))
            .hint("give one with --file, or complete plain text with 'hearth run --raw'")
    })
}

/// The context and the moment that the template shall take for now: `{"context": {...}, "now": "..."}`, or the
/// context alone with `now` among its values.
fn read_context() -> Result<(Value, Option<Timestamp>), Failure> {
    let text = read_text(&mut io::stdin().lock())?;
    let input: Value = serde_json::from_str(&text).map_err(|error| {
        Failure::input(format!("standard input is not JSON: {error}")).hint(
            "give an object such as {\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}",
        )
    })?;
    split_context(input)
}

fn split_context(mut input: Value) -> Result<(Value, Option<Timestamp>), Failure> {
    let now = match input.get("now").and_then(Value::as_str) {
        Some(text) => Some(text.parse().map_err(|error: TimestampError| {
            Failure::input(format!("now: {error}"))
                .hint("for example \"now\": \"2026-01-15T09:30:00\"")
        })?),
        None => None,
    };
    let context = input
        .get_mut("context")
        .map_or_else(Value::default, Value::take);
    let context = if context.is_null() { input } else { context };
    if !context.is_object() {
        return Err(
            Failure::input("the context on standard input is not a JSON object").hint(
                "give an object such as {\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}",
            ),
        );
    }
    Ok((context, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_may_be_wrapped_or_bare() {
        let moment: Timestamp = "2026-01-15T09:30:00".parse().unwrap();
        let bare = json!({ "messages": [] });
        assert_eq!(split_context(bare.clone()).unwrap(), (bare.clone(), None));
        let wrapped = json!({ "context": bare, "now": "2026-01-15T09:30:00" });
        assert_eq!(split_context(wrapped).unwrap(), (bare, Some(moment)));
        assert!(split_context(json!({ "now": "yesterday" })).is_err());
        assert!(split_context(json!({ "context": "Hello" })).is_err());
        assert!(split_context(json!([1])).is_err());
    }

    #[test]
    fn pieces_are_text_or_bytes() {
        assert_eq!(
            serde_json::to_string(&[Piece::new(b"a\""), Piece::new(b"\xe2\x96")]).unwrap(),
            r#"["a\"",[226,150]]"#
        );
    }
}
