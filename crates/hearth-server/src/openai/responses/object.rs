//! The objects of `/v1/responses` that hold no text of an answer.

use serde_json::{Map, Value, json};

use crate::exchange::Usage;

/// What a response repeats of its request.
#[derive(Clone, Debug, Default)]
pub struct Echo {
    /// The model's name as the client wrote it.
    pub model: String,
    /// The system text in front.
    pub instructions: Option<String>,
    /// The most tokens of the answer.
    pub max_output_tokens: Option<usize>,
    /// The response that this one continues.
    pub previous: Option<String>,
    /// How much the model is to think.
    pub effort: Option<String>,
    /// Sampling as it is applied.
    pub temperature: f64,
    /// Sampling as it is applied.
    pub top_p: f64,
    /// Alternatives of each log-probability.
    pub top_logprobs: usize,
    /// `text.format`.
    pub format: Value,
    /// The choice as it was given.
    pub tool_choice: Value,
    /// Those tools that are offered, as they were given.
    pub tools: Vec<Value>,
    /// Whether one answer may hold several calls.
    pub is_parallel: bool,
    /// Whether the response is kept.
    pub is_stored: bool,
    /// The client's own notes.
    pub metadata: Map<String, Value>,
}

/// A response before its answer.
pub fn in_progress(id: &str, created: u64, echo: &Echo) -> Map<String, Value> {
    let object = json!({
        "id": id, "object": "response", "created_at": created, "completed_at": null, "status": "in_progress",
        "error": null, "incomplete_details": null, "instructions": echo.instructions,
        "max_output_tokens": echo.max_output_tokens, "max_tool_calls": null, "model": echo.model, "output": [],
        "parallel_tool_calls": echo.is_parallel, "previous_response_id": echo.previous,
        "reasoning": {"effort": echo.effort, "summary": null}, "store": echo.is_stored,
        "temperature": echo.temperature, "top_p": echo.top_p, "text": {"format": echo.format},
        "tool_choice": echo.tool_choice, "tools": echo.tools, "top_logprobs": echo.top_logprobs,
        "truncation": "disabled", "usage": null, "user": null, "metadata": echo.metadata, "background": false,
        "service_tier": "default",
    });
    let Value::Object(object) = object else {
        unreachable!("the literal above is an object")
    };
    object
}

/// Counts of tokens in this dialect.
pub fn usage_object(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.n_prompt,
        "input_tokens_details": {"cached_tokens": usage.n_cached, "cache_write_tokens": 0},
        "output_tokens": usage.n_completion,
        "output_tokens_details": {"reasoning_tokens": usage.n_reasoning},
        "total_tokens": usage.n_prompt + usage.n_completion,
    })
}
