//! Every bound on what a client can make the server hold or do, in one place.
//!
//! Each limit stands once: name, default and meaning. `hearth serve --limits` prints the list, `--limit NAME=N`
//! changes one, `docs/reference/server.md` repeats it (a test compares).

use std::time::Duration;

macro_rules! limits {
    ($($name:ident: $default:expr, $meaning:literal;)*) => {
        /// The bounds of one server.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $(#[doc = $meaning] pub $name: usize,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Limits { $($name: $default,)* }
            }
        }

        impl Limits {
            /// Name, value and meaning of each.
            pub fn rows(&self) -> Vec<(&'static str, usize, &'static str)> {
                vec![$((stringify!($name), self.$name, $meaning.trim_ascii()),)*]
            }

            fn place(&mut self, name: &str) -> Option<&mut usize> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

limits! {
    body_bytes: 48 << 20, " bytes of a request's body";
    uploads_bytes: 1 << 30, " bytes of all bodies being read at one time";
    body_pause_s: 30, " seconds without a byte before a body is given up";
    body_s: 900, " seconds for all of a body";
    drain_bytes: 16 << 20, " bytes of a refused body that are still read, so that the connection stays usable";
    json_depth: 96, " levels of arrays and objects in a body";
    json_values: 1_000_000, " values in a body";
    head_bytes: 64 << 10, " bytes of a request's head";
    headers: 100, " header lines of a request";
    head_s: 60, " seconds to send a head, also the time a connection may idle";
    connections: 512, " connections; when they are used up, the one that has idled longest is closed, else one whose client reads nothing";
    queue: 256, " requests that wait for their turn, per model";
    sequences: 64, " answers written at the same time, per model";
    deadline_s: 6 * 3600, " seconds a request may take";
    messages: 10_000, " messages of a conversation";
    tools: 512, " tools of a request";
    images: 32, " images of a request";
    image_bytes: 20 << 20, " bytes of an image, decoded";
    n: 128, " answers to one prompt";
    prompts: 1024, " prompts of a completion";
    answers: 1024, " answers of one request: prompts times n";
    inputs: 2048, " texts of an embedding request";
    top_logprobs: 20, " alternatives beside a token's log-probability";
    stops: 64, " stop strings";
    stop_bytes: 4096, " bytes of a stop string";
    logit_bias: 4096, " entries of logit_bias";
    schema_bytes: 256 << 10, " bytes of a JSON schema or grammar";
    schema_depth: 64, " levels of a JSON schema";
    model_name_bytes: 256, " bytes of a model's name";
    stored_responses: 1000, " answers kept for previous_response_id; the oldest goes first";
    stored_bytes: 256 << 20, " bytes of those answers";
    notices: 32, " notices of an answer; of the others only the number is told";
}

/// Why a limit could not be changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// There is none of that name.
    #[error("there is no limit '{0}'")]
    Unknown(String),
    /// The value is no number above zero.
    #[error("limit '{name}' takes a whole number of at least 1, not '{value}'")]
    Value {
        /// The limit.
        name: String,
        /// What was given.
        value: String,
    },
    /// There is no equals sign.
    #[error("expected NAME=N, found '{0}'")]
    Form(String),
}

impl Limits {
    /// Changes the limit that `NAME=N` names.
    ///
    /// # Errors
    ///
    /// The text has another form, the name is unknown, or the number is not one.
    pub fn set(&mut self, text: &str) -> Result<(), LimitError> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| LimitError::Form(text.to_owned()))?;
        let place = self
            .place(name)
            .ok_or_else(|| LimitError::Unknown(name.to_owned()))?;
        match value.parse() {
            Ok(number) if number > 0 => *place = number,
            _ => {
                return Err(LimitError::Value {
                    name: name.to_owned(),
                    value: value.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// The longest a request may take.
    pub fn deadline(&self) -> Duration {
        seconds(self.deadline_s)
    }

    /// The longest a head may take.
    pub fn head_time(&self) -> Duration {
        seconds(self.head_s)
    }

    /// The longest a body may take.
    pub fn body_time(&self) -> Duration {
        seconds(self.body_s)
    }

    /// The longest pause within a body.
    pub fn body_pause(&self) -> Duration {
        seconds(self.body_pause_s)
    }
}

fn seconds(n: usize) -> Duration {
    Duration::from_secs(n as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_limit_changes_and_the_others_stay() {
        let mut limits = Limits::default();
        limits.set("n=4").unwrap();
        assert_eq!(
            limits,
            Limits {
                n: 4,
                ..Limits::default()
            }
        );
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for bad in ["n", "n=", "n=0", "n=-1", "n=1.5", "N=1", "=1", ""] {
            assert!(Limits::default().set(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_reference_page_has_every_limit_with_its_default() {
        let page = include_str!("../../../docs/reference/server.md");
        let missing: Vec<String> = Limits::default()
            .rows()
            .iter()
            .map(|(name, value, meaning)| format!("| `{name}` | {value} | {meaning} |"))
            .filter(|row| !page.contains(row.as_str()))
            .collect();
        assert!(
            missing.is_empty(),
            "docs/reference/server.md lacks:\n{}",
            missing.join("\n")
        );
    }
}
