//! `options` and `keep_alive`: numbers with the defaults Ollama's clients count on.

use std::time::Duration;

use hearth_engine::SamplingParams;
use serde_json::Value;

use crate::{
    error::ApiError,
    fields::{Fields, integer},
    limits::Limits,
    notice::Notices,
    openai::common::stops,
};

/// Accepted, and without any effect here: how to run a model is decided when the server starts, contexts are as long
/// as the model's and never shifted, and these samplers are not ours.
const NO_EFFECT: [&str; 18] = [
    "num_ctx",
    "num_keep",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "use_mmap",
    "use_mlock",
    "numa",
    "low_vram",
    "f16_kv",
    "vocab_only",
    "logits_all",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "tfs_z",
    "penalize_newline",
];

/// Of those, the ones whose type is checked: clients send them on purpose.
const WHOLE_NUMBERS: [&str; 2] = ["num_ctx", "num_keep"];

/// What `options` says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Options {
    pub(super) sampling: SamplingParams,
    pub(super) max_tokens: Option<usize>,
    pub(super) stop: Vec<String>,
}

/// Reads them.
pub(super) fn options(
    body: &mut Fields<'_>,
    limits: &Limits,
    notices: &mut Notices,
) -> Result<Options, ApiError> {
    let empty = serde_json::Map::new();
    let object = body.object("options")?.unwrap_or(&empty);
    let mut fields = Fields::within(object, body.path_of("options"));
    let options = Options {
        sampling: sampling(&mut fields)?,
        max_tokens: max_tokens(&mut fields)?,
        stop: stops(&mut fields, "stop", limits)?,
    };
    for name in WHOLE_NUMBERS {
        fields.integer(name, i64::MIN..=i64::MAX)?;
    }
    fields.no_effect(&NO_EFFECT, notices);
    fields.finish(notices);
    Ok(options)
}

fn sampling(fields: &mut Fields<'_>) -> Result<SamplingParams, ApiError> {
    let mut share = |name: &str, default: f64| -> Result<f32, ApiError> {
        let value = fields.number(name, 0.0..=1.0)?.unwrap_or(default);
        // The smallest share still holds the best token; zero itself holds none.
        Ok((value as f32).max(f32::MIN_POSITIVE))
    };
    let (top_p, typical) = (share("top_p", 0.9)?, share("typical_p", 1.0)?);
    let mut number = |name: &str, range, default: f64| {
        fields
            .number(name, range)
            .map(|value| value.unwrap_or(default) as f32)
    };
    let temperature = number("temperature", 0.0..=100.0, 0.8)?;
    let min_p = number("min_p", 0.0..=1.0, 0.0)?;
    let repeat_penalty = number("repeat_penalty", 0.01..=100.0, 1.0)?;
    let presence_penalty = number("presence_penalty", -100.0..=100.0, 0.0)?;
    let frequency_penalty = number("frequency_penalty", -100.0..=100.0, 0.0)?;
    let top_k = fields.integer("top_k", -1..=i64::MAX)?.unwrap_or(40);
    let window = fields
        .integer("repeat_last_n", -1..=i64::MAX)?
        .unwrap_or(64);
    let seed = fields.integer("seed", i64::MIN..=i64::MAX)?;
    Ok(SamplingParams {
        temperature,
        top_k: usize::try_from(top_k).unwrap_or(0),
        top_p,
        min_p,
        typical,
        // Here 0 switches the penalty off, and −1 looks at everything.
        repeat_penalty: if window == 0 { 1.0 } else { repeat_penalty },
        repeat_window: usize::try_from(window).unwrap_or(0),
        frequency_penalty,
        presence_penalty,
        logit_bias: Vec::new(),
        seed: seed.filter(|seed| *seed != -1).map(|seed| seed as u64),
    })
}

/// −1 and −2 are until the end, of the text or of the context.
fn max_tokens(fields: &mut Fields<'_>) -> Result<Option<usize>, ApiError> {
    let number = fields.integer("num_predict", -2..=i64::MAX)?;
    Ok(number.and_then(|number| usize::try_from(number).ok()))
}

/// How long a model stays after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeepAlive {
    /// For good.
    Forever,
    /// So long; zero unloads it.
    For(Duration),
}

/// `"5m"`, `"-1m"`, a number of seconds.
pub(super) fn keep_alive(fields: &mut Fields<'_>) -> Result<Option<KeepAlive>, ApiError> {
    let Some(value) = fields.value("keep_alive") else {
        return Ok(None);
    };
    let seconds = match value {
        Value::String(text) => text.trim().parse().ok().or_else(|| duration(text.trim())),
        Value::Number(number) => integer(value).map(|n| n as f64).or(number.as_f64()),
        _ => None,
    };
    let seconds = seconds.filter(|seconds: &f64| seconds.is_finite());
    let wanted = "a number of seconds or a duration such as \"5m\", negative for good";
    let seconds = seconds.ok_or_else(|| fields.wrong("keep_alive", wanted, value))?;
    Ok(Some(match Duration::try_from_secs_f64(seconds) {
        Ok(duration) => KeepAlive::For(duration),
        Err(_) => KeepAlive::Forever,
    }))
}

/// Seconds in a duration as Go writes it: `1h30m`, `-1m`, `1.5s`, `300ms`.
fn duration(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[end..];
    }
    (!text.is_empty() && text.ends_with(char::is_alphabetic)).then_some(sign * seconds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(options_value: Value) -> Result<(Options, Notices), ApiError> {
        let body = json!({"options": options_value});
        let mut notices = Notices::new(false, 32);
        let read = options(
            &mut Fields::new(body.as_object().unwrap()),
            &Limits::default(),
            &mut notices,
        )?;
        Ok((read, notices))
    }

    #[test]
    fn defaults_are_those_of_the_dialect() {
        for absent in [Value::Null, json!({}), json!({"temperature": null})] {
            let (options, notices) = read(absent).unwrap();
            assert_eq!(options.sampling.temperature, 0.8);
            assert_eq!(options.sampling.top_k, 40);
            assert_eq!(options.sampling.top_p, 0.9);
            assert_eq!(options.sampling.repeat_penalty, 1.0);
            assert_eq!(options.sampling.seed, None);
            assert_eq!(options.max_tokens, None);
            assert!(options.stop.is_empty() && notices.is_empty());
        }
    }

    #[test]
    fn every_option_arrives() {
        let (options, notices) = read(json!({
            "num_predict": 7, "temperature": 0, "top_k": 3.0, "top_p": 0.5, "min_p": 0.1, "typical_p": 0.6,
            "repeat_penalty": 1.2, "repeat_last_n": -1, "presence_penalty": 0.3, "frequency_penalty": -0.4, "seed": 9,
            "stop": ["a", "b"],
        }))
        .unwrap();
        let expected = SamplingParams {
            temperature: 0.0,
            top_k: 3,
            top_p: 0.5,
            min_p: 0.1,
            typical: 0.6,
            repeat_penalty: 1.2,
            repeat_window: 0,
            presence_penalty: 0.3,
            frequency_penalty: -0.4,
            logit_bias: Vec::new(),
            seed: Some(9),
        };
        assert_eq!(options.sampling, expected);
        assert_eq!(options.max_tokens, Some(7));
        assert_eq!(options.stop, ["a", "b"]);
        assert!(notices.is_empty());
    }

    #[test]
    fn values_that_mean_none_or_all() {
        let (options, _) = read(
            json!({"num_predict": -1, "seed": -1, "top_k": 0, "top_p": 0, "repeat_last_n": 0,
            "repeat_penalty": 1.3}),
        )
        .unwrap();
        assert_eq!(options.max_tokens, None);
        assert_eq!(options.sampling.seed, None);
        assert_eq!(options.sampling.top_k, 0);
        assert!(options.sampling.top_p > 0.0);
        assert_eq!(options.sampling.repeat_penalty, 1.0);
    }

    #[test]
    fn wrong_types_and_ranges_name_the_option() {
        let cases = [
            json!({"temperature": "hot"}),
            json!({"temperature": -1}),
            json!({"top_k": 1.5}),
            json!({"top_p": 2}),
            json!({"num_predict": "1"}),
            json!({"num_predict": -3}),
            json!({"seed": "1"}),
            json!({"stop": 5}),
            json!({"stop": [5]}),
            json!({"num_ctx": "big"}),
            json!({"num_keep": []}),
            json!({"repeat_penalty": 0}),
            json!([]),
            json!("fast"),
        ];
        for case in cases {
            let error = read(case.clone()).expect_err(&case.to_string());
            assert_eq!(error.status, 400, "{case}");
            assert!(error.param.unwrap().starts_with("options"), "{case}");
        }
    }

    #[test]
    fn what_changes_nothing_is_told() {
        for name in NO_EFFECT {
            let (_, notices) = read(json!({name: 1})).unwrap();
            let header = notices.header().unwrap();
            assert_eq!(header.to_str().unwrap(), format!("ignored=options.{name}"));
        }
        let (_, notices) = read(json!({"wings": 2})).unwrap();
        assert_eq!(notices.header().unwrap(), "ignored=options.wings");
    }

    #[test]
    fn durations() {
        let read = |value: Value| {
            let body = json!({"keep_alive": value});
            keep_alive(&mut Fields::new(body.as_object().unwrap()))
        };
        let seconds = |seconds: f64| Some(KeepAlive::For(Duration::from_secs_f64(seconds)));
        let good = [
            (json!(null), None),
            (json!("5m"), seconds(300.0)),
            (json!("1h30m"), seconds(5400.0)),
            (json!("1.5s"), seconds(1.5)),
            (json!("300ms"), seconds(0.3)),
            (json!("30"), seconds(30.0)),
            (json!(30), seconds(30.0)),
            (json!(0), seconds(0.0)),
            (json!("0"), seconds(0.0)),
            (json!(-1), Some(KeepAlive::Forever)),
            (json!("-1m"), Some(KeepAlive::Forever)),
            (json!("-1"), Some(KeepAlive::Forever)),
        ];
        for (value, expected) in good {
            assert_eq!(read(value.clone()).unwrap(), expected, "{value}");
        }
        for value in [
            json!("soon"),
            json!("5 minutes"),
            json!("m"),
            json!(""),
            json!("5m3"),
            json!([]),
            json!(true),
            json!("nan"),
        ] {
            assert_eq!(
                read(value.clone()).expect_err(&value.to_string()).status,
                400
            );
        }
    }
}
