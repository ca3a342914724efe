//! One good body for each route that takes one.

use serde_json::{Value, json};

use crate::support::{Setup, merge};

/// A route and a body it takes.
pub struct Case {
    pub method: &'static str,
    pub path: &'static str,
    pub body: Value,
    /// What it is answered with.
    pub status: u16,
    /// Whole numbers in the body, as JSON pointers.
    pub integers: &'static [&'static str],
    /// Fields that may be left out, also those that the body has not.
    pub optional: &'static [&'static str],
}

impl Case {
    fn new(path: &'static str, body: Value) -> Case {
        Case {
            method: "POST",
            path,
            body,
            status: 200,
            integers: &[],
            optional: &["hearth"],
        }
    }

    fn integers(self, integers: &'static [&'static str]) -> Case {
        Case { integers, ..self }
    }

    fn optional(self, optional: &'static [&'static str]) -> Case {
        Case { optional, ..self }
    }

    /// What it asks cannot be had, or not from this server.
    fn refused(self, status: u16) -> Case {
        Case { status, ..self }
    }

    /// Whether its route reads all of the body.
    pub fn is_read(&self) -> bool {
        self.status == 200
    }
}

/// A model whose context is short, so that a request without an end has one.
pub fn setup() -> Setup {
    let mut model = hearth_testing::tiny_chat::tiny_chat();
    model.n_ctx_train = 512;
    Setup {
        model: model.build(),
        ..Setup::default()
    }
}

fn sampling() -> Value {
    json!({"temperature": 0, "top_p": 1, "seed": 1, "top_k": 5, "repeat_last_n": 8, "stop": ["never"]})
}

fn with(mut base: Value, more: Value) -> Value {
    merge(&mut base, more);
    base
}

fn tool() -> Value {
    json!({"name": "look", "description": "d", "strict": true, "parameters": {"type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"], "additionalProperties": false}})
}

/// A conversation with every kind of message.
pub fn messages() -> Value {
    json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look."}]},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{\"n\": 1}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "snow"},
        {"role": "user", "content": "And?"},
    ])
}

fn chat() -> Value {
    let body = json!({"model": "tiny", "messages": messages(), "max_tokens": 3, "n": 1, "logprobs": true, "top_logprobs": 2,
        "tools": [{"type": "function", "function": tool()}], "tool_choice": "auto", "parallel_tool_calls": true,
        "logit_bias": {"5": 1}, "stream": false, "response_format": {"type": "text"}});
    with(body, sampling())
}

const CHAT_OPTIONAL: &[&str] = &[
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "repetition_penalty",
    "repeat_last_n",
    "seed",
    "stop",
    "n",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "response_format",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "stream",
    "stream_options",
    "reasoning_effort",
    "chat_template_kwargs",
    "functions",
    "function_call",
    "grammar",
    "user",
    "store",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "verbosity",
    "modalities",
    "prediction",
    "web_search_options",
    "moderation",
    "audio",
    "hearth",
];

fn responses() -> Value {
    let body = json!({"model": "tiny", "instructions": "Be brief.", "max_output_tokens": 3, "top_logprobs": 2,
        "input": [
            {"role": "user", "content": "Look."},
            {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "look", "arguments": "{\"n\": 1}", "status": "completed"},
            {"type": "function_call_output", "call_id": "c", "output": "snow"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": null},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And?"}]},
        ],
        "tools": [with(json!({"type": "function"}), tool())], "tool_choice": "auto", "text": {"format": {"type": "text"}},
        "reasoning": {"effort": null}, "store": false, "stream": false, "metadata": {"k": "v"}});
    with(
        body,
        json!({"temperature": 0, "top_p": 1, "seed": 1, "top_k": 5}),
    )
}

const RESPONSES_OPTIONAL: &[&str] = &[
    "instructions",
    "max_output_tokens",
    "temperature",
    "top_p",
    "top_logprobs",
    "include",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "text",
    "reasoning",
    "previous_response_id",
    "store",
    "stream",
    "stream_options",
    "truncation",
    "metadata",
    "user",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "max_tool_calls",
    "client_metadata",
    "background",
    "conversation",
    "prompt",
    "hearth",
];

fn anthropic() -> Value {
    json!({"model": "tiny", "system": [{"type": "text", "text": "Be brief."}], "max_tokens": 3,
        "messages": [
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "look", "input": {"n": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "snow"}, {"type": "text", "text": "And?"}]},
        ],
        "tools": [{"name": "look", "input_schema": tool()["parameters"]}], "tool_choice": {"type": "auto"},
        "temperature": 0, "top_p": 1, "top_k": 5, "stop_sequences": ["never"], "stream": false})
}

const ANTHROPIC_OPTIONAL: &[&str] = &[
    "system",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "stream",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "metadata",
    "service_tier",
    "cache_control",
    "container",
    "context_management",
    "mcp_servers",
    "hearth",
];

fn options() -> Value {
    with(
        sampling(),
        json!({"num_predict": 3, "num_ctx": null, "stop": ["never"]}),
    )
}

const OLLAMA_OPTIONAL: &[&str] = &[
    "stream",
    "options",
    "format",
    "think",
    "keep_alive",
    "tools",
    "logprobs",
    "top_logprobs",
    "truncate",
    "shift",
    "suffix",
    "system",
    "template",
    "context",
    "images",
    "raw",
    "hearth",
];

fn openai_cases() -> Vec<Case> {
    let text = with(
        json!({"model": "tiny", "prompt": "The fire", "max_tokens": 3, "n": 1, "best_of": 1, "logprobs": 2, "echo": true, "stream": false}),
        sampling(),
    );
    let rank = json!({"model": "tiny", "query": "fire", "documents": ["snow", "wood"], "top_n": 1});
    let integers: &[&str] = &[
        "/max_tokens",
        "/n",
        "/top_logprobs",
        "/seed",
        "/top_k",
        "/repeat_last_n",
    ];
    vec![
        Case::new("/v1/chat/completions", chat()).integers(integers).optional(CHAT_OPTIONAL),
        Case::new("/v1/chat/completions/input_tokens", chat()).integers(integers).optional(CHAT_OPTIONAL),
        Case::new("/v1/completions", text)
            .integers(&["/max_tokens", "/n", "/best_of", "/logprobs", "/seed", "/top_k", "/repeat_last_n"])
            .optional(&["max_tokens", "echo", "logprobs", "suffix", "n", "best_of", "seed", "stop", "stream", "stream_options",
                "temperature", "top_p", "logit_bias", "presence_penalty", "frequency_penalty", "user", "hearth"]),
        Case::new("/v1/embeddings", json!({"model": "tiny", "input": ["fire", "snow"], "dimensions": 8, "encoding_format": "float"}))
            .integers(&["/dimensions"])
            .optional(&["encoding_format", "dimensions", "user", "hearth"]),
        Case::new("/v1/responses", responses())
            .integers(&["/max_output_tokens", "/top_logprobs", "/seed", "/top_k"])
            .optional(RESPONSES_OPTIONAL),
        Case::new("/v1/responses/input_tokens", responses())
            .integers(&["/max_output_tokens", "/top_logprobs", "/seed", "/top_k"])
            .optional(RESPONSES_OPTIONAL),
        Case::new("/v1/rerank", rank.clone()).refused(400),
        Case::new("/v1/reranking", rank).refused(400),
    ]
}

fn other_cases() -> Vec<Case> {
    let turns = json!([{"role": "user", "content": "Look."}]);
    let talk = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "look", "arguments": {"n": 1}}}]},
        {"role": "tool", "tool_name": "look", "content": "snow"},
        {"role": "user", "content": "And?"},
    ]);
    let function = json!({"name": "look", "description": "d", "parameters": tool()["parameters"]});
    let chat = json!({"model": "tiny", "messages": talk, "tools": [{"type": "function", "function": function}], "stream": false,
        "options": options()});
    let generate =
        json!({"model": "tiny", "prompt": "Look.", "stream": false, "options": options()});
    let in_options: &[&str] = &[
        "/options/num_predict",
        "/options/seed",
        "/options/top_k",
        "/options/repeat_last_n",
    ];
    vec![
        Case::new("/v1/messages", anthropic()).integers(&["/max_tokens", "/top_k"]).optional(ANTHROPIC_OPTIONAL),
        Case::new("/v1/messages/count_tokens", anthropic()).integers(&["/max_tokens", "/top_k"]).optional(ANTHROPIC_OPTIONAL),
        Case::new("/api/chat", chat).integers(in_options).optional(OLLAMA_OPTIONAL),
        Case::new("/api/generate", generate).integers(in_options).optional(OLLAMA_OPTIONAL),
        Case::new("/api/embed", json!({"model": "tiny", "input": ["fire"], "dimensions": 8}))
            .integers(&["/dimensions"])
            .optional(&["truncate", "dimensions", "keep_alive", "options", "hearth"]),
        Case::new("/api/embeddings", json!({"model": "tiny", "prompt": "fire"})).optional(&["keep_alive", "options", "hearth"]),
        Case::new("/api/show", json!({"model": "tiny", "verbose": false})).optional(&["verbose", "hearth"]),
        Case::new("/api/pull", json!({"model": "tiny", "stream": false})),
        Case::new("/api/push", json!({"model": "tiny"})).refused(403),
        Case::new("/api/create", json!({"model": "x", "from": "tiny"})).refused(403),
        Case::new("/api/copy", json!({"source": "tiny", "destination": "x"})).refused(403),
        Case { method: "DELETE", ..Case::new("/api/delete", json!({"model": "tiny"})).refused(403) },
        Case::new("/tokenize", json!({"model": "tiny", "content": "the fire", "add_special": false, "with_pieces": true}))
            .optional(&["add_special", "parse_special", "with_pieces", "prompt", "hearth"]),
        Case::new("/detokenize", json!({"model": "tiny", "tokens": [5, 6]})).integers(&["/tokens/0"]),
        Case::new("/apply-template", json!({"model": "tiny", "messages": turns})).optional(&["tools", "tool_choice", "hearth"]),
    ]
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let cases: Vec<Case> = openai_cases().into_iter().chain(other_cases()).collect();
    let routes = hearth_server::app::routes();
    for route in routes.list().iter().filter(|route| route.method == "POST") {
        let is_known = cases.iter().any(|case| case.path == route.path);
        assert!(is_known, "no body for {}: add one", route.path);
    }
    cases
}
