//! Chat templates: a conversation in, the text a model was trained on out.
//!
//! The language is Jinja as the transformers library configures it; `minijinja`
//! interprets it. What Python does differently (JSON spelling, string methods,
//! number formatting, the clock) is added here, once for all templates: no
//! template is known by name.
//!
//! A template is a program from a stranger. It sees the values of its context
//! and nothing else: no host object, no file, no other template, no clock but
//! the one it is given. [`TemplateLimits`] bounds what it may use.

mod env;
mod error;
mod formatting;
mod generation;
mod guard;
mod json;
mod limits;
mod methods;
mod time;

#[cfg(test)]
mod hostile_tests;

pub use error::TemplateError;
pub use limits::TemplateLimits;
pub use time::{Timestamp, TimestampError};

use hearth_gguf::{Metadata, Value};

/// Metadata key of the template a model uses when none is named.
const DEFAULT_KEY: &str = "tokenizer.chat_template";

/// A checked chat template.
///
/// Cheap to keep; every [`render`](ChatTemplate::render) runs in a fresh sandbox.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    limits: TemplateLimits,
}

impl ChatTemplate {
    /// Takes the text of a template and checks its syntax.
    ///
    /// # Errors
    /// [`TemplateError::TooLarge`] above the size limit, [`TemplateError::Syntax`] when it does not parse.
    pub fn from_source(source: &str) -> Result<Self, TemplateError> {
        Self::with_limits(source, TemplateLimits::default())
    }

    /// Like [`from_source`](Self::from_source) with limits of the caller's choice.
    ///
    /// # Errors
    /// As [`from_source`](Self::from_source).
    pub fn with_limits(source: &str, limits: TemplateLimits) -> Result<Self, TemplateError> {
        if source.len() > limits.source_bytes {
            return Err(TemplateError::TooLarge {
                bytes: source.len(),
                limit: limits.source_bytes,
            });
        }
        let source = generation::replace_generation_blocks(source);
        let template = Self { source, limits };
        env::check_syntax(&template.source, &template.limits)?;
        Ok(template)
    }

    /// The template stored in a model file, or `None` when it has none.
    ///
    /// # Errors
    /// The key has another type than text, or the template does not parse.
    pub fn from_metadata(metadata: &Metadata) -> Result<Option<Self>, TemplateError> {
        Self::from_key(metadata, DEFAULT_KEY)
    }

    /// The variant stored as `tokenizer.chat_template.NAME`, or `None` when there is none of that name.
    ///
    /// # Errors
    /// As [`from_metadata`](Self::from_metadata).
    pub fn named(metadata: &Metadata, name: &str) -> Result<Option<Self>, TemplateError> {
        Self::from_key(metadata, &format!("{DEFAULT_KEY}.{name}"))
    }

    /// Names of the variants a model file carries beside its default template.
    pub fn variant_names(metadata: &Metadata) -> Vec<String> {
        metadata
            .iter()
            .filter_map(|(key, _)| key.strip_prefix(DEFAULT_KEY)?.strip_prefix('.'))
            .map(str::to_owned)
            .collect()
    }

    fn from_key(metadata: &Metadata, key: &str) -> Result<Option<Self>, TemplateError> {
        match metadata.get(key) {
            None => Ok(None),
            Some(Value::String(source)) => Self::from_source(source).map(Some),
            Some(other) => Err(TemplateError::NotText {
                key: key.to_owned(),
                found: other.describe_type(),
            }),
        }
    }

    /// The template's text as it runs (`generation` blocks are spelled as scopes).
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders the template.
    ///
    /// `context` is an object: `messages`, `tools`, `documents`, `add_generation_prompt`, `bos_token`, and so on.
    /// `now` is what `strftime_now` shows; without it the clock of this machine, in UTC.
    ///
    /// # Errors
    /// [`TemplateError::Raised`] carries the message of a template that refused the conversation. The others say
    /// what failed or which limit was reached.
    pub fn render(
        &self,
        context: &serde_json::Value,
        now: Option<Timestamp>,
    ) -> Result<String, TemplateError> {
        env::render(
            &self.source,
            &self.limits,
            context,
            now.unwrap_or_else(Timestamp::now_utc),
        )
    }
}
