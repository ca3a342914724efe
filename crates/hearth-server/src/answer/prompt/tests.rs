//! What a model reads of a conversation.

use hearth_gguf::Gguf;
use hearth_testing::{
    TinyModel,
    tiny_chat::{tiny_chat, tiny_thinker},
};

use super::*;
use crate::exchange::ToolChoice;

/// A model's text side.
struct Texts {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    format: AnswerFormat,
}

impl Texts {
    fn of(model: TinyModel) -> Texts {
        let gguf = Gguf::from_vec(model.build()).unwrap();
        let template = ChatTemplate::from_metadata(gguf.metadata())
            .unwrap()
            .unwrap();
        Texts {
            tokenizer: Tokenizer::from_metadata(gguf.metadata()).unwrap(),
            format: AnswerFormat::detect(template.source()),
            template,
        }
    }

    fn with_template(mut self, source: &str) -> Texts {
        self.template = ChatTemplate::from_source(source).unwrap();
        self.format = AnswerFormat::detect(source);
        self
    }

    fn ready(&self, chat: &Chat) -> Result<ReadyPrompt, ApiError> {
        ready_chat(&self.template, &self.format, &self.tokenizer, chat)
    }

    /// The prompt as text, control tokens included.
    fn text(&self, chat: &Chat) -> String {
        let ready = self.ready(chat).unwrap();
        let bytes = ready
            .tokens
            .iter()
            .flat_map(|token| self.tokenizer.piece(*token).unwrap());
        String::from_utf8(bytes.copied().collect()).unwrap()
    }
}

fn chat(messages: Value) -> Chat {
    let Value::Array(messages) = messages else {
        panic!("a list");
    };
    let object = |message| match message {
        Value::Object(map) => map,
        other => panic!("{other}"),
    };
    Chat {
        messages: messages.into_iter().map(object).collect(),
        is_parallel: true,
        ..Chat::default()
    }
}

fn hello() -> Chat {
    chat(json!([{"role": "user", "content": "hi"}]))
}

fn variables(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn a_conversation_is_rendered_and_its_marks_become_tokens() {
    let texts = Texts::of(tiny_chat());
    assert_eq!(
        texts.text(&hello()),
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    );
    let ready = texts.ready(&hello()).unwrap();
    let n_control = ready
        .tokens
        .iter()
        .filter(|token| texts.tokenizer.is_control(**token))
        .count();
    assert_eq!(n_control, 3);
    assert!(ready.begins_text && !ready.is_thinking_open && ready.ignored.is_empty());
}

#[test]
fn cve_2025_62426_variables_never_stand_in_for_messages_tools_or_tokens() {
    let texts = Texts::of(tiny_chat());
    for name in [
        "messages",
        "tools",
        "custom_tools",
        "tool_choice",
        "bos_token",
        "eos_token",
        "add_generation_prompt",
        "chat_template",
        "raise_exception",
        "strftime_now",
        "namespace",
        "range",
        "loop",
        "first_messages",
    ] {
        let mut chat = hello();
        chat.template_variables = variables(json!({name: "x"}));
        let error = texts.ready(&chat).map(|_| ()).unwrap_err();
        assert_eq!(error.status, 400);
        assert_eq!(error.param.unwrap(), format!("chat_template_kwargs.{name}"));
    }
}

#[test]
fn variables_reach_the_template_and_unknown_ones_are_named() {
    let texts = Texts::of(tiny_chat()).with_template("{{ greeting }} {{ messages[0].content }}");
    let mut chat = hello();
    chat.template_variables = variables(json!({"greeting": "oh", "odd": 1}));
    assert_eq!(texts.text(&chat), "oh hi");
    assert_eq!(
        texts.ready(&chat).unwrap().ignored,
        ["chat_template_kwargs.odd"]
    );
}

#[test]
fn a_template_that_refuses_is_a_400_with_its_words() {
    let texts =
        Texts::of(tiny_chat()).with_template("{{ raise_exception('roles must alternate') }}");
    let error = texts.ready(&hello()).map(|_| ()).unwrap_err();
    assert_eq!(
        (error.status.as_u16(), error.message.as_str()),
        (400, "roles must alternate")
    );
    let texts = texts.with_template("{% for i in range(99999999) %}{{ i }}{% endfor %}");
    assert_eq!(texts.ready(&hello()).map(|_| ()).unwrap_err().status, 400);
    let texts = texts.with_template("{{ '' }}");
    assert_eq!(texts.ready(&hello()).map(|_| ()).unwrap_err().status, 400);
}

#[test]
fn tools_are_part_of_the_prompt_whatever_the_choice() {
    let texts = Texts::of(tiny_chat());
    let mut chat = hello();
    chat.tools = vec![Tool {
        name: "look".into(),
        description: None,
        parameters: None,
        is_strict: false,
    }];
    let with = texts.text(&chat);
    assert!(with.contains(r#"{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}"#), "{with}");
    chat.tool_choice = ToolChoice::None;
    assert_eq!(texts.text(&chat), with);
    let texts = texts.with_template("{{ messages[0].content }}");
    assert_eq!(
        texts.ready(&chat).map(|_| ()).unwrap_err().param.as_deref(),
        Some("tools")
    );
}

#[test]
fn the_last_turn_of_the_assistant_is_continued() {
    let texts = Texts::of(tiny_chat());
    for content in ["", "It is ", "a <|im_end|> b", "hi"] {
        let mut chat = chat(
            json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": content}]),
        );
        chat.continues_last = true;
        let expected = format!("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n{content}");
        assert_eq!(texts.text(&chat), expected);
        assert!(!texts.ready(&chat).unwrap().begins_text);
    }
    let mut chat =
        chat(json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "a"}]));
    chat.continues_last = true;
    let deaf = texts.with_template("{{ messages[0].content }}");
    assert_eq!(deaf.ready(&chat).map(|_| ()).unwrap_err().status, 400);
}

#[test]
fn thinking_is_open_closed_or_up_to_the_model() {
    let thinker = Texts::of(tiny_thinker());
    let mut chat = hello();
    let ready = thinker.ready(&chat).unwrap();
    assert!(ready.is_thinking_open && !ready.may_think);
    chat.thinking.is_on = Some(false);
    let ready = thinker.ready(&chat).unwrap();
    assert!(!ready.is_thinking_open && !ready.may_think);
    assert!(thinker.text(&chat).ends_with("<think>\n\n</think>\n\n"));
    // A template without the switch: the block is closed for it.
    let stubborn = thinker
        .with_template("{{ messages[0].content }}{% if false %}</think>{% endif %}<think>\n");
    assert_eq!(stubborn.text(&chat), "hi<think>\n\n</think>\n\n");
    chat.thinking.is_on = None;
    assert_eq!(stubborn.text(&chat), "hi<think>");
    // The model opens the block by itself.
    let free =
        stubborn.with_template("{{ messages[0].content }}{% if false %}<think></think>{% endif %}");
    let ready = free.ready(&chat).unwrap();
    assert!(!ready.is_thinking_open && ready.may_think);
}

#[test]
fn an_effort_on_a_model_without_thinking_is_named() {
    let texts = Texts::of(tiny_chat()).with_template("{{ messages[0].content }}");
    let mut chat = hello();
    chat.thinking.is_on = Some(true);
    assert_eq!(texts.ready(&chat).unwrap().ignored, ["thinking"]);
    chat.thinking.effort = Some("high".into());
    assert_eq!(texts.ready(&chat).unwrap().ignored, ["reasoning_effort"]);
    chat.thinking = Thinking {
        is_on: Some(false),
        ..Thinking::default()
    };
    assert!(
        texts.ready(&chat).unwrap().ignored.is_empty(),
        "there is none, as asked"
    );
}

#[test]
fn a_providers_header_goes_and_is_named() {
    let texts = Texts::of(tiny_chat());
    let read = |checksum: &str| {
        let system =
            format!("x-anthropic-billing-header: cc_version=2.1; cch={checksum};\nYou help.");
        chat(
            json!([{"role": "system", "content": system}, {"role": "user", "content": "x-anthropic-billing-header: a=b;"}]),
        )
    };
    let text = texts.text(&read("a1b2c"));
    assert_eq!(
        text,
        texts.text(&read("d3e4f")),
        "the prompt stays the same, so the cache helps"
    );
    assert!(
        text.starts_with("<|im_start|>system\nYou help.<|im_end|>"),
        "{text}"
    );
    assert!(
        text.contains("x-anthropic-billing-header: a=b;"),
        "what a user writes stays"
    );
    assert_eq!(
        texts.ready(&read("a1b2c")).unwrap().ignored,
        ["x-anthropic-billing-header"]
    );
}

#[test]
fn ids_of_calls_fit_the_template_and_stay_equal() {
    let mut messages = chat(json!([
        {"role": "assistant", "content": "", "tool_calls": [{"id": "toolu_01abcdef", "function": {"name": "f", "arguments": {}}}, {"id": "abcdefghi"}]},
        {"role": "tool", "tool_call_id": "toolu_01abcdef", "content": "r"}]))
    .messages;
    fit_call_ids(&mut messages, 9);
    let first = messages[0]["tool_calls"][0]["id"].as_str().unwrap();
    assert!(
        first.len() == 9 && first.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "{first}"
    );
    assert_eq!(messages[1]["tool_call_id"], first);
    assert_eq!(messages[0]["tool_calls"][1]["id"], "abcdefghi");
}

#[test]
fn filling_in_needs_the_tokens_for_it() {
    let texts = Texts::of(tiny_chat());
    let tokens = infill(&texts.tokenizer, "a <|im_end|>", "b").unwrap();
    let piece = |at: usize| {
        String::from_utf8_lossy(texts.tokenizer.piece(tokens[at]).unwrap()).into_owned()
    };
    assert_eq!(piece(0), "<|fim_prefix|>");
    assert_eq!(piece(tokens.len() - 1), "<|fim_middle|>");
    let n_control = tokens
        .iter()
        .filter(|token| texts.tokenizer.is_control(**token))
        .count();
    assert_eq!(n_control, 3, "text that spells a mark is no mark");
    let plain =
        Gguf::from_vec(TinyModel::new("llama", hearth_gguf::TensorType::F32).build()).unwrap();
    let plain = Tokenizer::from_metadata(plain.metadata()).unwrap();
    assert_eq!(
        infill(&plain, "a", "b").unwrap_err().param.as_deref(),
        Some("suffix")
    );
}
