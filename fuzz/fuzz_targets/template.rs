//! Any template over any context: text or an error, within the budget.
//!
//! The input is a template, a zero byte and a context as JSON; without a context, a small conversation.

#![no_main]

use hearth_text::{ChatTemplate, TemplateError};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|input: &[u8]| {
    hearth_fuzz::within_budget(input, |input| {
        let (source, context) = match input.iter().position(|&b| b == 0) {
            Some(at) => (&input[..at], &input[at + 1..]),
            None => (input, &[][..]),
        };
        let context = serde_json::from_slice(context).unwrap_or_else(|_| conversation());
        if let Ok(source) = std::str::from_utf8(source) {
            render(source, &context);
        }
    });
});

fn render(source: &str, context: &Value) {
    let now = "2026-01-15T09:30:00".parse().expect("the date is valid");
    let result =
        ChatTemplate::from_source(source).and_then(|template| template.render(context, Some(now)));
    match result {
        Err(TemplateError::Raised { .. }) | Ok(_) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn conversation() -> Value {
    json!({
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1.5}}}]}
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "documents": null,
        "add_generation_prompt": true,
        "bos_token": "<s>",
        "eos_token": "</s>"
    })
}
