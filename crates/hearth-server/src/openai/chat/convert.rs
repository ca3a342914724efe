//! A body of `/v1/chat/completions` to an [`Ask`]: a pure function.

use serde_json::{Map, Value};

use crate::{
    error::ApiError,
    exchange::{Ask, Chat, Prompt, Thinking},
    fields::Fields,
    limits::Limits,
    notice::Notices,
    openai::{
        common::{self, Streaming},
        format, messages, tools,
    },
};

/// Accepted, and without effect here.
const NO_EFFECT: [&str; 9] = [
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "prediction",
    "web_search_options",
    "moderation",
];

/// A request as the route needs it.
#[derive(Debug)]
pub(super) struct ChatRequest {
    /// What is asked.
    pub(super) ask: Ask,
    /// Whether and how it streams.
    pub(super) streaming: Streaming,
    /// Whether calls are answered as `function_call`.
    pub(super) is_old_form: bool,
    /// The field that binds the answer.
    pub(super) format_field: String,
}

/// Reads a body.
///
/// # Errors
///
/// A field is missing, has another type or value than it may; the error names it.
pub(super) fn chat_request(
    body: &Map<String, Value>,
    limits: &Limits,
) -> Result<(ChatRequest, Notices), ApiError> {
    let mut fields = Fields::new(body);
    let mut notices = Notices::of_body(&mut fields, limits.notices)?;
    let model = common::model(&mut fields)?;
    let is_old_form = fields.array("functions")?.is_some();
    let chat = chat_of(&mut fields, limits, &mut notices)?;
    let (format, format_field) = format::format(&mut fields, &mut notices)?;
    let ask = Ask {
        model,
        prompt: Prompt::Chat(chat),
        format,
        sampling: common::sampling(&mut fields, limits)?,
        max_tokens: max_tokens(&mut fields)?,
        stop: common::stops(&mut fields, "stop", limits)?,
        n: fields.count("n", 1..=limits.n)?.unwrap_or(1),
        n_logprobs: logprobs(&mut fields, limits)?,
        n_prompt_logprobs: None,
        timeout: Some(limits.deadline()),
        is_background: false,
    };
    let streaming = common::streaming(&mut fields, &mut notices)?;
    refuse_audio(&mut fields)?;
    for (name, default) in [
        ("store", Value::Bool(false)),
        ("service_tier", "auto".into()),
        ("verbosity", "medium".into()),
    ] {
        fields.no_effect_unless(name, &default, &mut notices);
    }
    fields.no_effect(&NO_EFFECT, &mut notices);
    fields.finish(&mut notices);
    Ok((
        ChatRequest {
            ask,
            streaming,
            is_old_form,
            format_field,
        },
        notices,
    ))
}

/// The fields of a body that a template renders.
///
/// # Errors
///
/// As those of [`chat_request`].
pub(crate) fn chat_of(
    fields: &mut Fields<'_>,
    limits: &Limits,
    notices: &mut Notices,
) -> Result<Chat, ApiError> {
    let tools = tools::tools(fields, limits, notices)?;
    let (thinking, template_variables) = thinking(fields)?;
    let messages = messages::messages(fields, limits, notices)?;
    Ok(Chat {
        continues_last: messages::continues_last(&messages),
        messages,
        tools: tools.list,
        tool_choice: tools.choice,
        is_parallel: tools.is_parallel,
        thinking,
        template_variables,
    })
}

/// The newer name first.
fn max_tokens(fields: &mut Fields<'_>) -> Result<Option<usize>, ApiError> {
    let new = fields.count("max_completion_tokens", 1..=usize::MAX)?;
    let old = fields.count("max_tokens", 1..=usize::MAX)?;
    Ok(new.or(old))
}

fn logprobs(fields: &mut Fields<'_>, limits: &Limits) -> Result<Option<usize>, ApiError> {
    let is_on = fields.bool("logprobs")?.unwrap_or(false);
    let n = fields.count("top_logprobs", 0..=limits.top_logprobs)?;
    match (is_on, n) {
        (false, Some(1..)) => Err(fields.invalid("top_logprobs", "needs logprobs to be true")),
        (false, _) => Ok(None),
        (true, n) => Ok(Some(n.unwrap_or(0))),
    }
}

/// `reasoning_effort` and the template's own variables; a variable that switches thinking counts more than an effort.
fn thinking(fields: &mut Fields<'_>) -> Result<(Thinking, Map<String, Value>), ApiError> {
    const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
    let mut thinking = match fields.one_of("reasoning_effort", &EFFORTS)? {
        None => Thinking::default(),
        Some(effort) => Thinking::of_effort(effort),
    };
    let mut variables = fields
        .object("chat_template_kwargs")?
        .cloned()
        .unwrap_or_default();
    variables.retain(|_, value| !value.is_null());
    if let Some(value) = variables.get("enable_thinking") {
        let Value::Bool(is_on) = value else {
            return Err(fields.wrong(
                "chat_template_kwargs.enable_thinking",
                "true or false",
                value,
            ));
        };
        thinking.is_on = Some(*is_on);
    }
    Ok((thinking, variables))
}

fn refuse_audio(fields: &mut Fields<'_>) -> Result<(), ApiError> {
    if fields.value("audio").is_some() {
        return Err(fields.invalid(
            "audio",
            "asks for sound, and this server answers in text alone",
        ));
    }
    let modalities = fields
        .array("modalities")?
        .map(Vec::as_slice)
        .unwrap_or_default();
    match modalities.iter().find(|modality| *modality != "text") {
        None => Ok(()),
        Some(other) => Err(fields.wrong("modalities", "[\"text\"]", other)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::exchange::Format;

    fn read(body: Value) -> Result<(ChatRequest, Notices), ApiError> {
        chat_request(body.as_object().unwrap(), &Limits::default())
    }

    /// The smallest body with one more field.
    fn with(name: &str, value: Value) -> Value {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body[name] = value;
        body
    }

    #[test]
    fn the_smallest_body_has_openais_defaults() {
        let (request, notices) = read(with("n", Value::Null)).unwrap();
        let ask = request.ask;
        assert_eq!(
            (ask.model.as_str(), ask.n, ask.max_tokens, ask.n_logprobs),
            ("m", 1, None, None)
        );
        assert_eq!(ask.format, Format::Text);
        assert_eq!(request.streaming, Streaming::default());
        assert!(notices.is_empty());
        let Prompt::Chat(chat) = ask.prompt else {
            panic!("a conversation");
        };
        assert_eq!(chat.thinking, Thinking::default());
        assert!(chat.is_parallel && !chat.continues_last);
    }

    #[test]
    fn the_newer_limit_wins() {
        let mut body = with("max_tokens", json!(7));
        assert_eq!(read(body.clone()).unwrap().0.ask.max_tokens, Some(7));
        body["max_completion_tokens"] = json!(5.0);
        assert_eq!(read(body).unwrap().0.ask.max_tokens, Some(5));
    }

    #[test]
    fn functions_that_are_null_are_no_old_form() {
        assert!(!read(with("functions", Value::Null)).unwrap().0.is_old_form);
        assert!(read(with("functions", json!([]))).unwrap().0.is_old_form);
    }

    #[test]
    fn every_effort_is_a_switch() {
        for (effort, is_on, word) in [
            ("none", false, None),
            ("minimal", true, Some("low")),
            ("low", true, Some("low")),
            ("medium", true, Some("medium")),
            ("high", true, Some("high")),
            ("xhigh", true, Some("high")),
            ("max", true, Some("high")),
        ] {
            let (request, _) = read(with("reasoning_effort", json!(effort))).unwrap();
            let Prompt::Chat(chat) = request.ask.prompt else {
                panic!("a conversation");
            };
            assert_eq!(chat.thinking.is_on, Some(is_on), "{effort}");
            assert_eq!(chat.thinking.effort.as_deref(), word, "{effort}");
        }
    }

    #[test]
    fn fields_without_effect_are_named() {
        let cases = [
            ("user", json!("u"), Some("ignored=user")),
            ("store", json!(true), Some("ignored=store")),
            ("store", json!(false), None),
            ("verbosity", json!("low"), Some("ignored=verbosity")),
            ("verbosity", json!("medium"), None),
            ("service_tier", json!("flex"), Some("ignored=service_tier")),
            ("service_tier", json!("auto"), None),
            ("modalities", json!(["text"]), None),
            ("never_heard_of", json!(1), Some("ignored=never_heard_of")),
            (
                "stream_options",
                json!({"include_usage": true, "odd": 1}),
                Some("ignored=stream_options.odd"),
            ),
            ("user", Value::Null, None),
        ];
        for (name, value, expected) in cases {
            let (_, notices) = read(with(name, value)).unwrap();
            let header = notices.header();
            assert_eq!(
                header.as_ref().map(|value| value.to_str().unwrap()),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        let cases = [
            ("model", json!("")),
            ("model", json!(1)),
            ("model", Value::Null),
            ("max_tokens", json!(0)),
            ("max_tokens", json!(-1)),
            ("max_tokens", json!("9")),
            ("max_tokens", json!(1.5)),
            ("max_completion_tokens", json!(0)),
            ("n", json!(0)),
            ("n", json!(129)),
            ("n", json!(1.5)),
            ("n", json!("1")),
            ("logprobs", json!(1)),
            ("top_logprobs", json!(2)),
            ("top_logprobs", json!(21)),
            ("stream", json!("true")),
            ("stream_options", json!(true)),
            ("reasoning_effort", json!("banana")),
            ("chat_template_kwargs", json!([])),
            ("modalities", json!(["text", "audio"])),
            ("audio", json!({"voice": "x"})),
        ];
        for (name, value) in cases {
            let error = read(with(name, value.clone())).unwrap_err();
            assert_eq!(
                (error.status.as_u16(), error.param.as_deref()),
                (400, Some(name)),
                "{name} {value}"
            );
        }
    }
}
