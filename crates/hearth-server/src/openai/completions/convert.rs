//! A body of `/v1/completions` to one [`Ask`] for each prompt: a pure function.

use serde_json::{Map, Value};

use crate::{
    error::ApiError,
    exchange::{Ask, Prompt},
    fields::{self, Fields},
    limits::Limits,
    notice::Notices,
    openai::{
        common::{self, Streaming},
        format,
    },
};

/// Tokens of an answer when the request does not say.
const DEFAULT_MAX_TOKENS: usize = 16;

/// The most alternatives beside a token.
const MAX_LOGPROBS: usize = 5;

/// A request as the route needs it.
#[derive(Debug)]
pub(super) struct CompletionRequest {
    /// What is asked, once for each prompt.
    pub(super) asks: Vec<Ask>,
    /// Whether and how it streams.
    pub(super) streaming: Streaming,
    /// Whether each text begins with its prompt.
    pub(super) echoes: bool,
    /// Whether log-probabilities are told.
    pub(super) n_logprobs: Option<usize>,
    /// The field that binds the answers.
    pub(super) format_field: String,
}

/// Reads a body.
///
/// # Errors
///
/// A field is missing, has another type or value than it may; the error names it.
pub(super) fn completion_request(
    body: &Map<String, Value>,
    limits: &Limits,
) -> Result<(CompletionRequest, Notices), ApiError> {
    let mut fields = Fields::new(body);
    let mut notices = Notices::of_body(&mut fields, limits.notices)?;
    let model = common::model(&mut fields)?;
    let prompts = prompts(&mut fields, limits)?;
    let n = answers(&mut fields, prompts.len(), limits, &mut notices)?;
    let n_logprobs = fields.count("logprobs", 0..=MAX_LOGPROBS)?;
    let echoes = fields.bool("echo")?.unwrap_or(false);
    let (format, format_field) = format::format(&mut fields, &mut notices)?;
    let ask = Ask {
        model,
        prompt: Prompt::Tokens(Vec::new()),
        format,
        sampling: common::sampling(&mut fields, limits)?,
        max_tokens: Some(
            fields
                .count("max_tokens", 0..=usize::MAX)?
                .unwrap_or(DEFAULT_MAX_TOKENS),
        ),
        stop: common::stops(&mut fields, "stop", limits)?,
        n,
        n_logprobs,
        n_prompt_logprobs: n_logprobs.filter(|_| echoes),
        timeout: Some(limits.deadline()),
        is_background: false,
    };
    let streaming = common::streaming(&mut fields, &mut notices)?;
    fields.no_effect(&["user"], &mut notices);
    fields.finish(&mut notices);
    let asks = prompts.into_iter().map(|prompt| Ask {
        prompt,
        ..ask.clone()
    });
    let request = CompletionRequest {
        asks: asks.collect(),
        streaming,
        echoes,
        n_logprobs,
        format_field,
    };
    Ok((request, notices))
}

/// `n`, and `best_of`, which chooses nothing here: every answer that is made is given.
fn answers(
    fields: &mut Fields<'_>,
    n_prompts: usize,
    limits: &Limits,
    notices: &mut Notices,
) -> Result<usize, ApiError> {
    let n = fields.count("n", 1..=limits.n)?.unwrap_or(1);
    match fields.count("best_of", 1..=limits.n)? {
        Some(best_of) if best_of < n => {
            return Err(fields.invalid("best_of", format!("must not be less than n, which is {n}")));
        }
        Some(best_of) if best_of > n => notices.ignored("best_of"),
        _ => {}
    }
    if n * n_prompts > limits.answers {
        let message = format!(
            "times {n_prompts} prompts is more than {} answers",
            limits.answers
        );
        return Err(fields.invalid("n", message));
    }
    Ok(n)
}

/// `prompt` and `suffix`.
fn prompts(fields: &mut Fields<'_>, limits: &Limits) -> Result<Vec<Prompt>, ApiError> {
    let value = fields.value("prompt");
    let value = fields.required("prompt", value)?;
    let prompts = read_prompts(fields, "prompt", value, limits.prompts)?;
    let Some(suffix) = fields.string("suffix")? else {
        return Ok(prompts);
    };
    let fill = |prompt| match prompt {
        Prompt::Text(prefix) => Ok(Prompt::Infill {
            prefix,
            suffix: suffix.clone(),
        }),
        _ => Err(fields.invalid("suffix", "needs a prompt that is text")),
    };
    prompts.into_iter().map(fill).collect()
}

/// A text, several, a list of token ids, or several such lists.
pub(in crate::openai) fn read_prompts(
    fields: &Fields<'_>,
    name: &str,
    value: &Value,
    limit: usize,
) -> Result<Vec<Prompt>, ApiError> {
    let list = match value {
        Value::String(text) => return Ok(vec![Prompt::Text(text.clone())]),
        Value::Array(list) => list,
        other => return Err(fields.wrong(name, "text, token ids, or a list of either", other)),
    };
    match list.first() {
        None => Err(fields.invalid(name, "must not be an empty list")),
        Some(Value::Number(_)) => Ok(vec![Prompt::Tokens(read_tokens(fields, name, list)?)]),
        Some(_) if list.len() > limit => Err(fields.too_many(name, list.len(), limit)),
        Some(first) => {
            let is_text = first.is_string();
            let entries = list.iter().enumerate();
            entries
                .map(|(at, entry)| read_prompt(fields, &format!("{name}[{at}]"), entry, is_text))
                .collect()
        }
    }
}

/// An entry of a list whose first entry is text or not.
fn read_prompt(
    fields: &Fields<'_>,
    name: &str,
    entry: &Value,
    is_text: bool,
) -> Result<Prompt, ApiError> {
    match entry {
        Value::String(text) if is_text => Ok(Prompt::Text(text.clone())),
        Value::Array(tokens) if !is_text => read_tokens(fields, name, tokens).map(Prompt::Tokens),
        other if is_text => Err(fields.wrong(name, "text like the first entry", other)),
        other => Err(fields.wrong(name, "a list of token ids", other)),
    }
}

fn read_tokens(fields: &Fields<'_>, name: &str, list: &[Value]) -> Result<Vec<u32>, ApiError> {
    if list.is_empty() {
        return Err(fields.invalid(name, "must have at least one token"));
    }
    let token = |(at, value): (usize, &Value)| {
        let token = fields::integer(value).and_then(|id| u32::try_from(id).ok());
        token.ok_or_else(|| fields.wrong(&format!("{name}[{at}]"), "a token id", value))
    };
    list.iter().enumerate().map(token).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<(CompletionRequest, Notices), ApiError> {
        completion_request(body.as_object().unwrap(), &Limits::default())
    }

    fn prompts_of(prompt: Value) -> Vec<Prompt> {
        let (request, _) = read(json!({"model": "m", "prompt": prompt})).unwrap();
        request.asks.into_iter().map(|ask| ask.prompt).collect()
    }

    #[test]
    fn a_prompt_has_four_forms() {
        assert_eq!(prompts_of(json!("a")), [Prompt::Text("a".into())]);
        assert_eq!(
            prompts_of(json!(["a", "b"])),
            [Prompt::Text("a".into()), Prompt::Text("b".into())]
        );
        assert_eq!(prompts_of(json!([1, 2])), [Prompt::Tokens(vec![1, 2])]);
        assert_eq!(
            prompts_of(json!([[1], [2, 3]])),
            [Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])]
        );
    }

    #[test]
    fn defaults_are_those_of_the_old_route() {
        let (request, _) = read(json!({"model": "m", "prompt": "a"})).unwrap();
        let ask = &request.asks[0];
        assert_eq!(
            (
                ask.max_tokens,
                ask.n,
                ask.n_logprobs,
                ask.sampling.temperature
            ),
            (Some(16), 1, None, 1.0)
        );
        let (request, _) = read(
            json!({"model": "m", "prompt": "a", "max_tokens": 0, "echo": true, "logprobs": 2}),
        )
        .unwrap();
        let ask = &request.asks[0];
        assert_eq!(
            (ask.max_tokens, ask.n_logprobs, ask.n_prompt_logprobs),
            (Some(0), Some(2), Some(2))
        );
    }

    #[test]
    fn a_suffix_makes_it_filling_in() {
        let (request, _) =
            read(json!({"model": "m", "prompt": ["a", "b"], "suffix": "z"})).unwrap();
        let fill = |prefix: &str| Prompt::Infill {
            prefix: prefix.into(),
            suffix: "z".into(),
        };
        assert_eq!(request.asks[0].prompt, fill("a"));
        assert_eq!(request.asks[1].prompt, fill("b"));
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        let cases = [
            ("prompt", Value::Null, "prompt"),
            ("prompt", json!(5), "prompt"),
            ("prompt", json!({}), "prompt"),
            ("prompt", json!([]), "prompt"),
            ("prompt", json!([[]]), "prompt[0]"),
            ("prompt", json!(["a", 1]), "prompt[1]"),
            ("prompt", json!([1, "a"]), "prompt[1]"),
            ("prompt", json!([1, -1]), "prompt[1]"),
            ("prompt", json!([1.5]), "prompt[0]"),
            ("prompt", json!([[1], "a"]), "prompt[1]"),
            ("prompt", json!([null]), "prompt[0]"),
            ("prompt", json!([true]), "prompt[0]"),
            ("prompt", json!(vec!["a"; 1025]), "prompt"),
            ("max_tokens", json!(-1), "max_tokens"),
            ("logprobs", json!(6), "logprobs"),
            ("logprobs", json!(true), "logprobs"),
            ("echo", json!(1), "echo"),
            ("suffix", json!(1), "suffix"),
            ("best_of", json!(0), "best_of"),
            ("n", json!(129), "n"),
        ];
        for (name, value, param) in cases {
            let mut body = json!({"model": "m", "prompt": "a"});
            body[name] = value.clone();
            let error = read(body).unwrap_err();
            assert_eq!(
                (error.status.as_u16(), error.param.as_deref()),
                (400, Some(param)),
                "{name} {value}"
            );
        }
        let body = json!({"model": "m", "prompt": [1], "suffix": "z"});
        assert_eq!(read(body).unwrap_err().param.as_deref(), Some("suffix"));
        let body = json!({"model": "m", "prompt": vec!["a"; 100], "n": 100});
        assert_eq!(read(body).unwrap_err().param.as_deref(), Some("n"));
        let body = json!({"model": "m", "prompt": "a", "n": 2, "best_of": 1});
        assert_eq!(read(body).unwrap_err().param.as_deref(), Some("best_of"));
        for (best_of, header) in [(2, None), (3, Some("ignored=best_of"))] {
            let body = json!({"model": "m", "prompt": "a", "n": 2, "best_of": best_of});
            let (request, notices) = read(body).unwrap();
            assert_eq!(request.asks[0].n, 2);
            let found = notices.header();
            assert_eq!(found.as_ref().map(|value| value.to_str().unwrap()), header);
        }
    }
}
