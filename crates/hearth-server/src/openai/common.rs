//! What chat and plain completions have in common: how tokens are drawn, where an answer ends, whether it streams.

use hearth_engine::SamplingParams;
use serde_json::Value;

use crate::{error::ApiError, fields::Fields, limits::Limits};

/// Temperatures below this take the best token, as far as any draw could show: logits differ by more.
const GREEDY_BELOW: f64 = 1e-4;

/// A bias of 100 means always; so much is beyond what any two logits differ by.
const ALWAYS: f32 = 1e4;

/// Whether and how the answer is streamed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streaming {
    /// In pieces.
    pub(crate) is_on: bool,
    /// With a last piece that has the usage.
    pub(crate) includes_usage: bool,
}

/// The model's name.
pub(crate) fn model(fields: &mut Fields<'_>) -> Result<String, ApiError> {
    let name = fields.string("model")?;
    let name = fields.required("model", name)?;
    if name.is_empty() {
        return Err(fields.invalid("model", "must not be empty"));
    }
    Ok(name)
}

/// `stream` and `stream_options`.
pub(crate) fn streaming(
    fields: &mut Fields<'_>,
    notices: &mut crate::notice::Notices,
) -> Result<Streaming, ApiError> {
    let is_on = fields.bool("stream")?.unwrap_or(false);
    let mut streaming = Streaming {
        is_on,
        includes_usage: false,
    };
    if let Some(options) = fields.object("stream_options")? {
        let mut options = Fields::within(options, "stream_options");
        streaming.includes_usage = options.bool("include_usage")?.unwrap_or(false);
        options.no_effect_unless("include_obfuscation", &Value::Bool(false), notices);
        options.finish(notices);
    }
    Ok(streaming)
}

/// Texts before which the answer ends.
pub(crate) fn stops(
    fields: &mut Fields<'_>,
    field: &str,
    limits: &Limits,
) -> Result<Vec<String>, ApiError> {
    let stops = fields.strings(field, limits.stops)?.unwrap_or_default();
    for (index, stop) in stops.iter().enumerate() {
        let name = format!("{field}[{index}]");
        if stop.is_empty() {
            return Err(fields.invalid(&name, "must not be empty"));
        }
        if stop.len() > limits.stop_bytes {
            let message = format!(
                "has {} bytes, the limit is {}",
                stop.len(),
                limits.stop_bytes
            );
            return Err(fields.invalid(&name, message));
        }
    }
    Ok(stops)
}

/// How tokens are drawn: OpenAI's fields with OpenAI's defaults, then those of llama.cpp's and vLLM's servers.
pub(crate) fn sampling(
    fields: &mut Fields<'_>,
    limits: &Limits,
) -> Result<SamplingParams, ApiError> {
    let mut sampling = SamplingParams {
        temperature: temperature(fields, 2.0)?,
        top_p: share(fields, "top_p")?,
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(0.0) as f32,
        typical: share(fields, "typical_p")?,
        // Both peers write "all" as 0 or -1.
        top_k: fields
            .integer("top_k", -1..=i64::from(u32::MAX))?
            .map_or(0, |k| usize::try_from(k).unwrap_or(0)),
        frequency_penalty: fields
            .number("frequency_penalty", -2.0..=2.0)?
            .unwrap_or(0.0) as f32,
        presence_penalty: fields
            .number("presence_penalty", -2.0..=2.0)?
            .unwrap_or(0.0) as f32,
        logit_bias: logit_bias(fields, limits)?,
        seed: fields
            .integer("seed", i64::MIN..=i64::MAX)?
            .map(i64::cast_unsigned),
        ..SamplingParams::default()
    };
    repeat_penalty(fields, &mut sampling)?;
    Ok(sampling)
}

/// `temperature` up to a most, 1 if it is not given.
pub(crate) fn temperature(fields: &mut Fields<'_>, most: f64) -> Result<f32, ApiError> {
    let temperature = fields.number("temperature", 0.0..=most)?.unwrap_or(1.0);
    Ok(if temperature < GREEDY_BELOW {
        0.0
    } else {
        temperature as f32
    })
}

/// A share of probability; 0 keeps the best candidate, as the smallest share does.
pub(crate) fn share(fields: &mut Fields<'_>, name: &str) -> Result<f32, ApiError> {
    let share = fields.number(name, 0.0..=1.0)?.unwrap_or(1.0) as f32;
    Ok(share.max(f32::MIN_POSITIVE))
}

/// `repeat_penalty` over `repeat_last_n` tokens (llama.cpp), or `repetition_penalty` over all of them (vLLM).
fn repeat_penalty(fields: &mut Fields<'_>, sampling: &mut SamplingParams) -> Result<(), ApiError> {
    let penalty = fields.number("repeat_penalty", 0.01..=100.0)?;
    let over_all = fields.number("repetition_penalty", 0.01..=100.0)?;
    let last_n = fields.integer("repeat_last_n", -1..=i64::from(u32::MAX))?;
    match (penalty, over_all) {
        (Some(_), Some(_)) => {
            return Err(fields.invalid(
                "repetition_penalty",
                "and repeat_penalty are one setting; send one of them",
            ));
        }
        (None, Some(penalty)) => {
            sampling.repeat_penalty = penalty as f32;
            sampling.repeat_window = 0;
        }
        (penalty, None) => sampling.repeat_penalty = penalty.unwrap_or(1.0) as f32,
    }
    match last_n {
        None => {}
        // No tokens to look at.
        Some(0) => sampling.repeat_penalty = 1.0,
        // -1 means all of them, which is our 0.
        Some(n) => sampling.repeat_window = usize::try_from(n).unwrap_or(0),
    }
    Ok(())
}

fn logit_bias(fields: &mut Fields<'_>, limits: &Limits) -> Result<Vec<(u32, f32)>, ApiError> {
    let Some(entries) = fields.object("logit_bias")? else {
        return Ok(Vec::new());
    };
    if entries.len() > limits.logit_bias {
        return Err(fields.too_many("logit_bias", entries.len(), limits.logit_bias));
    }
    let read = |(key, value): (&String, &Value)| {
        let name = format!("logit_bias.{key}");
        let digits = Some(key).filter(|key| key.bytes().all(|byte| byte.is_ascii_digit()));
        let token = digits.and_then(|key| key.parse::<u32>().ok());
        let token = token.ok_or_else(|| {
            fields.invalid(&name, "is no token id: keys are ids of the vocabulary")
        })?;
        let bias = value
            .as_f64()
            .filter(|bias| (-100.0..=100.0).contains(bias));
        match bias {
            None => Err(fields.wrong(&name, "a number from -100 to 100", value)),
            Some(-100.0) => Ok((token, f32::NEG_INFINITY)),
            Some(100.0) => Ok((token, ALWAYS)),
            Some(bias) => Ok((token, bias as f32)),
        }
    };
    entries.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Result<SamplingParams, ApiError> {
        let object = body.as_object().unwrap();
        sampling(&mut Fields::new(object), &Limits::default())
    }

    #[test]
    fn openais_defaults_differ_from_the_engines() {
        let expected = SamplingParams {
            temperature: 1.0,
            ..SamplingParams::default()
        };
        assert_eq!(read(&json!({})).unwrap(), expected);
    }

    #[test]
    fn every_sampler_is_read_under_its_peers_name() {
        let sampling = read(&json!({"temperature": 0.5, "top_p": 0.0, "min_p": 0.25, "typical_p": 0.5, "top_k": -1,
            "frequency_penalty": -2, "presence_penalty": 2.0, "repeat_penalty": 1.5, "repeat_last_n": -1, "seed": -1,
            "logit_bias": {"5": -100, "6": 100, "7": 0.5}}))
        .unwrap();
        let expected = SamplingParams {
            temperature: 0.5,
            top_p: f32::MIN_POSITIVE,
            min_p: 0.25,
            typical: 0.5,
            top_k: 0,
            frequency_penalty: -2.0,
            presence_penalty: 2.0,
            repeat_penalty: 1.5,
            repeat_window: 0,
            seed: Some(u64::MAX),
            logit_bias: vec![(5, f32::NEG_INFINITY), (6, ALWAYS), (7, 0.5)],
        };
        assert_eq!(sampling, expected);
        assert!(sampling.check(100).is_ok());
        assert_eq!(
            read(&json!({"repetition_penalty": 1.5}))
                .unwrap()
                .repeat_window,
            0
        );
        assert_eq!(
            read(&json!({"repeat_penalty": 1.5, "repeat_last_n": 0}))
                .unwrap()
                .repeat_penalty,
            1.0
        );
        assert_eq!(
            read(&json!({"temperature": 1e-6})).unwrap().temperature,
            0.0
        );
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        let cases = [
            ("temperature", json!(2.1)),
            ("temperature", json!(-0.1)),
            ("temperature", json!("1")),
            ("top_p", json!(1.1)),
            ("min_p", json!(-1)),
            ("top_k", json!(1.5)),
            ("frequency_penalty", json!(2.5)),
            ("presence_penalty", json!(-2.5)),
            ("repeat_penalty", json!(0)),
            ("seed", json!("7")),
            ("seed", json!(1.5)),
            ("logit_bias", json!([])),
            ("logit_bias.x", json!({"x": 1})),
            ("logit_bias.+5", json!({"+5": 1})),
            ("logit_bias.-1", json!({"-1": 1})),
            ("logit_bias.5", json!({"5": "1"})),
            ("logit_bias.5", json!({"5": 101})),
        ];
        for (param, value) in cases {
            let name = param.split('.').next().unwrap();
            let error = read(&json!({name: value})).unwrap_err();
            assert_eq!(
                (error.status.as_u16(), error.param.as_deref()),
                (400, Some(param)),
                "{error}"
            );
        }
    }

    #[test]
    fn stop_strings_are_bounded() {
        let read = |stop: Value| {
            let body = json!({"stop": stop});
            stops(
                &mut Fields::new(body.as_object().unwrap()),
                "stop",
                &Limits::default(),
            )
        };
        assert_eq!(read(json!("a")).unwrap(), ["a"]);
        assert_eq!(read(json!(["a", "b"])).unwrap(), ["a", "b"]);
        assert_eq!(read(Value::Null).unwrap(), [""; 0]);
        for bad in [
            json!(""),
            json!([""]),
            json!(1),
            json!(["a", 1]),
            json!(vec!["a"; 65]),
            json!("x".repeat(4097)),
        ] {
            assert_eq!(read(bad).unwrap_err().status, 400);
        }
    }
}
