//! Tiny models that can be talked to: a byte-level vocabulary with turns, and a chat template with tools.
//!
//! What they say is noise, with characters cut in the middle and words that merge over borders; what a server does with
//! an answer can be tested all the same. The template is in the form of ChatML, tool calls in that of Hermes.

use hearth_gguf::{Array, TensorType, Value};

use crate::TinyModel;

/// Texts that become tokens of their own, each built by merging one more character at a time. Some end in the middle of a character.
const WORDS: &[&str] = &[
    " the",
    " a",
    " fire",
    " is",
    " warm",
    " and",
    " in",
    " of",
    " to",
    " it",
    " we",
    " sit",
    " by",
    " night",
    " long",
    " wood",
    " burns",
    " slowly",
    " while",
    " snow",
    " falls",
    " outside",
    " someone",
    " tells",
    " old",
    " story",
    " that",
    " every",
    " child",
    " knows",
    " well",
    "ing",
    "er",
    "ed",
    "ly",
    "es",
    "system",
    "user",
    "assistant",
    "name",
    "arguments",
    "function",
    "answer",
    "city",
    "value",
    "true",
    "false",
    "null",
    "{\"",
    "\":",
    "\",",
    "\"}",
    "}}",
    "[]",
    "{}",
    "\n\n",
    ", ",
    ". ",
    "é",
    "ä",
    "—",
    "🔥",
    "日本",
    "語",
    "STOP",
    "END",
];

/// Tokens of their own in any text that is read with special tokens.
const CONTROL: &[&str] = &[
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
];

/// Tokens of their own in any text.
const MARKERS: &[&str] = &[
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
];

/// Turns, tools and tool calls; what follows `assistant` differs.
const TEMPLATE: &str = r#"{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}

{% endif %}Functions:
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}Call one with <tool_call>{"name": …, "arguments": {…}}</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}<|im_start|>user
<tool_response>{{ message.content }}</tool_response><|im_end|>
{% elif not (tools and loop.first and message.role == 'system') %}<|im_start|>{{ message.role }}
THOUGHT
{{- message.content }}
{%- for call in message.tool_calls or [] %}<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
"#;

/// Turns and tools, and nothing about calls.
const SHORT_TEMPLATE: &str = r"{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}";

/// Stands in the template where a message's thought belongs.
const THOUGHT: &str = "THOUGHT\n{{-";

/// The thought of an earlier message, for a model that thinks.
const THOUGHT_OF_MESSAGE: &str = r"{% if message.reasoning_content %}<think>
{{ message.reasoning_content }}
</think>

{% endif %}
{{-";

/// Ends the template of a model that answers at once.
const PLAIN_END: &str = "{% endif %}";

/// Ends the template of a model that thinks unless told not to.
const THINKING_END: &str = r"{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% else %}<think>
{% endif %}{% endif %}";

/// A model with turns and tools.
pub fn tiny_chat() -> TinyModel {
    build(&format!("{}{PLAIN_END}", TEMPLATE.replace(THOUGHT, "{{")))
}

/// The same weights with a template in which `notation` stands where nothing comes of it: how calls are written is read
/// from a template's source.
pub fn tiny_caller(notation: &str) -> TinyModel {
    let calls = format!("{{% if false %}}{notation}{{% endif %}}");
    build(&format!("{SHORT_TEMPLATE}{calls}"))
}

/// The same weights with a template that opens a `<think>` block.
pub fn tiny_thinker() -> TinyModel {
    build(&format!(
        "{}{THINKING_END}",
        TEMPLATE.replace(THOUGHT, THOUGHT_OF_MESSAGE)
    ))
}

fn build(template: &str) -> TinyModel {
    let mut model = TinyModel::new("llama", TensorType::F32);
    model.n_ctx_train = 4096;
    let key = |suffix: &str| format!("tokenizer.{suffix}");
    let (tokens, merges) = vocabulary();
    let n_text = tokens.len();
    let special = CONTROL.iter().chain(MARKERS).map(|text| (*text).to_owned());
    let all: Vec<String> = tokens.into_iter().chain(special).collect();
    let id = |text: &str| {
        let at = all.iter().position(|token| token == text);
        Some(Value::U32(at.expect("listed above") as u32))
    };
    // normal, control, user-defined
    let types = (0..all.len()).map(|at| match at.checked_sub(n_text) {
        None => 1,
        Some(at) if at < CONTROL.len() => 3,
        Some(_) => 4,
    });
    model.keys = vec![
        (key("ggml.model"), Some(Value::String("gpt2".to_owned()))),
        (key("ggml.pre"), Some(Value::String("qwen2".to_owned()))),
        (key("ggml.scores"), None),
        (key("ggml.unknown_token_id"), None),
        (
            key("ggml.token_type"),
            Some(Value::Array(Array::I32(types.collect()))),
        ),
        (key("ggml.bos_token_id"), id("<|endoftext|>")),
        (key("ggml.eos_token_id"), id("<|im_end|>")),
        (key("ggml.eot_token_id"), id("<|im_end|>")),
        (key("ggml.fim_pre_token_id"), id("<|fim_prefix|>")),
        (key("ggml.fim_mid_token_id"), id("<|fim_middle|>")),
        (key("ggml.fim_suf_token_id"), id("<|fim_suffix|>")),
        (key("ggml.add_bos_token"), Some(Value::Bool(false))),
        (
            key("ggml.merges"),
            Some(Value::Array(Array::String(merges.into_iter().collect()))),
        ),
        (
            key("ggml.tokens"),
            Some(Value::Array(Array::String(all.iter().cloned().collect()))),
        ),
        (
            key("chat_template"),
            Some(Value::String(template.to_owned())),
        ),
    ];
    model
}

/// Every byte, then the words, and the merges that build them.
fn vocabulary() -> (Vec<String>, Vec<String>) {
    let alphabet = alphabet();
    let mut tokens: Vec<String> = alphabet.iter().map(char::to_string).collect();
    let mut merges = Vec::new();
    for word in WORDS {
        let mut bytes = word.bytes().map(|byte| alphabet[usize::from(byte)]);
        let mut known = bytes.next().expect("no word is empty").to_string();
        for next in bytes {
            let longer = format!("{known}{next}");
            if !tokens.contains(&longer) {
                merges.push(format!("{known} {next}"));
                tokens.push(longer.clone());
            }
            known = longer;
        }
    }
    (tokens, merges)
}

/// The character that stands for each byte in byte-level vocabularies.
fn alphabet() -> Vec<char> {
    let mut next = 0x100;
    let character = |byte: u8| match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => {
            next += 1;
            char::from_u32(next - 1).expect("far below the surrogates")
        }
    };
    (0..=255).map(character).collect()
}
