use super::*;

fn read(kind: Kind, body: Value) -> Result<(Turn, Notices), ApiError> {
    turn(kind, body.as_object().unwrap(), &Limits::default())
}

fn chat_of(body: Value) -> Chat {
    let (turn, _) = read(Kind::Chat, body).unwrap();
    match turn.ask.unwrap().prompt {
        Prompt::Chat(chat) => chat,
        other => panic!("{other:?}"),
    }
}

fn prompt_of(body: Value) -> Option<Prompt> {
    let (turn, _) = read(Kind::Generate, body).unwrap();
    turn.ask.map(|ask| ask.prompt)
}

fn objects(value: Value) -> Vec<Map<String, Value>> {
    let list = value.as_array().unwrap().iter();
    list.map(|value| value.as_object().unwrap().clone())
        .collect()
}

#[test]
fn a_chat_is_streamed_unless_it_says_otherwise() {
    let (turn, notices) = read(
        Kind::Chat,
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}),
    )
    .unwrap();
    assert!(
        turn.is_streamed && !turn.must_think && turn.keep_alive.is_none() && notices.is_empty()
    );
    let ask = turn.ask.unwrap();
    assert_eq!(
        (ask.model.as_str(), ask.n, ask.format),
        ("m", 1, Format::Text)
    );
    let (turn, _) = read(
        Kind::Chat,
        json!({"model": "m", "stream": false, "messages": []}),
    )
    .unwrap();
    assert!(
        !turn.is_streamed && turn.ask.is_none(),
        "no messages only load the model"
    );
}

#[test]
fn a_request_may_take_as_long_as_the_limit_says() {
    let (turn, _) = read(Kind::Generate, json!({"model": "m", "prompt": "p"})).unwrap();
    assert_eq!(
        turn.ask.unwrap().timeout,
        Some(Limits::default().deadline())
    );
}

#[test]
fn calls_and_results_get_ids_in_order() {
    let call = |name: &str| json!({"function": {"name": name, "arguments": {"a": 1}}});
    let chat = chat_of(json!({"model": "m", "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [call("f"), call("g")]},
        {"role": "tool", "content": "of g", "tool_name": "g"},
        {"role": "tool", "content": "of f"},
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [{"id": "x", "function": {"name": "h", "arguments": {}}}]},
        {"role": "tool", "content": "of h", "tool_call_id": "x"},
    ]}));
    let call = |id: &str, name: &str, arguments: Value| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let expected = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "tool_calls": [call("call_1", "f", json!({"a": 1})), call("call_2", "g", json!({"a": 1}))]},
        {"role": "tool", "content": "of g", "tool_call_id": "call_2", "name": "g"},
        {"role": "tool", "content": "of f", "tool_call_id": "call_1", "name": "f"},
        {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [call("x", "h", json!({}))]},
        {"role": "tool", "content": "of h", "tool_call_id": "x", "name": "h"},
    ]);
    assert_eq!(chat.messages, objects(expected));
    assert!(!chat.continues_last);
}

#[test]
fn a_last_message_of_the_assistant_is_continued() {
    let chat = chat_of(
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "So"}]}),
    );
    assert!(chat.continues_last);
}

#[test]
fn tools_are_functions() {
    let (turn, notices) = read(Kind::Chat, json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
        {"type": "web_search"},
    ]}))
    .unwrap();
    assert_eq!(notices.header().unwrap(), "dropped-tool=web_search");
    let Prompt::Chat(chat) = turn.ask.unwrap().prompt else {
        panic!()
    };
    assert_eq!(chat.tools.len(), 1);
    assert_eq!(chat.tools[0].name, "f");
    assert_eq!(chat.tools[0].parameters, Some(json!({"type": "object"})));
}

#[test]
fn formats() {
    let of = |format: Value| {
        let body = json!({"model": "m", "prompt": "p", "format": format});
        read(Kind::Generate, body).map(|(turn, _)| turn.ask.unwrap().format)
    };
    assert_eq!(of(json!(null)).unwrap(), Format::Text);
    assert_eq!(of(json!("")).unwrap(), Format::Text);
    assert_eq!(of(json!("json")).unwrap(), Format::JsonObject);
    assert_eq!(
        of(json!({"type": "object"})).unwrap(),
        Format::JsonSchema(json!({"type": "object"}))
    );
    for bad in [json!("xml"), json!(5), json!([]), json!(true)] {
        assert_eq!(of(bad).unwrap_err().param.as_deref(), Some("format"));
    }
}

#[test]
fn thinking_is_on_off_or_so_much() {
    let of = |think: Value| {
        let chat = chat_of(
            json!({"model": "m", "think": think, "messages": [{"role": "user", "content": "hi"}]}),
        );
        (chat.thinking.is_on, chat.thinking.effort)
    };
    assert_eq!(of(json!(null)), (None, None));
    assert_eq!(of(json!(true)), (Some(true), None));
    assert_eq!(of(json!(false)), (Some(false), None));
    assert_eq!(of(json!("max")), (Some(true), Some("max".into())));
}

#[test]
fn prompts_of_generate() {
    let (turn, _) = read(
        Kind::Generate,
        json!({"model": "m", "prompt": "p", "system": "s", "context": [1, 2.0]}),
    )
    .unwrap();
    assert_eq!(turn.context, [1, 2]);
    let Prompt::Chat(chat) = turn.ask.unwrap().prompt else {
        panic!("a prompt is a turn of the chat template");
    };
    assert_eq!(
        chat.messages,
        objects(json!([{"role": "system", "content": "s"}, {"role": "user", "content": "p"}]))
    );
    assert_eq!(
        prompt_of(json!({"model": "m", "prompt": "p", "raw": true})),
        Some(Prompt::Text("p".into()))
    );
    let infill = Prompt::Infill {
        prefix: "a".into(),
        suffix: "b".into(),
    };
    assert_eq!(
        prompt_of(json!({"model": "m", "prompt": "a", "suffix": "b"})),
        Some(infill)
    );
    for load in [json!({"model": "m"}), json!({"model": "m", "prompt": ""})] {
        assert_eq!(prompt_of(load), None);
    }
    // What the clients send when nothing is meant.
    let empty = json!({"model": "m", "prompt": "p", "system": "", "template": "", "suffix": "", "context": [], "images": [],
        "raw": false, "format": "", "options": {}, "keep_alive": null});
    assert!(matches!(prompt_of(empty), Some(Prompt::Chat(_))));
}

#[test]
fn log_probabilities() {
    let of = |extra: Value| {
        let mut body = json!({"model": "m", "prompt": "p"});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        read(Kind::Generate, body).map(|(turn, _)| turn.ask.unwrap().n_logprobs)
    };
    assert_eq!(of(json!({})).unwrap(), None);
    assert_eq!(of(json!({"logprobs": true})).unwrap(), Some(0));
    assert_eq!(
        of(json!({"logprobs": true, "top_logprobs": 20})).unwrap(),
        Some(20)
    );
    for bad in [
        json!({"logprobs": true, "top_logprobs": 21}),
        json!({"top_logprobs": 2}),
        json!({"logprobs": 1}),
    ] {
        assert_eq!(of(bad).unwrap_err().status, 400);
    }
}

#[test]
fn what_is_wrong_is_a_400_that_names_the_field() {
    let user = json!([{"role": "user", "content": "hi"}]);
    let cases = [
        (json!({"messages": user}), "model"),
        (json!({"model": "", "messages": user}), "model"),
        (json!({"model": 5, "messages": user}), "model"),
        (json!({"model": "m", "messages": "hi"}), "messages"),
        (json!({"model": "m", "messages": ["hi"]}), "messages[0]"),
        (
            json!({"model": "m", "messages": [{"content": "hi"}]}),
            "messages[0].role",
        ),
        (
            json!({"model": "m", "messages": [{"role": "robot", "content": "hi"}]}),
            "messages[0].role",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user"}]}),
            "messages[0].content",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}),
            "messages[0].content",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": "hi", "images": ["aGk="]}]}),
            "messages[0].images",
        ),
        (
            json!({"model": "m", "messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]}),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            json!({"model": "m", "messages": [{"role": "assistant", "tool_calls": [{}]}]}),
            "messages[0].tool_calls[0].function",
        ),
        (
            json!({"model": "m", "messages": user, "tools": {}}),
            "tools",
        ),
        (
            json!({"model": "m", "messages": user, "tools": [{"type": "function", "function": {}}]}),
            "tools[0].function.name",
        ),
        (
            json!({"model": "m", "messages": user, "think": "much"}),
            "think",
        ),
        (json!({"model": "m", "messages": user, "think": 1}), "think"),
        (
            json!({"model": "m", "messages": user, "stream": "yes"}),
            "stream",
        ),
        (
            json!({"model": "m", "messages": user, "keep_alive": "soon"}),
            "keep_alive",
        ),
        (
            json!({"model": "m", "messages": user, "options": {"seed": "x"}}),
            "options.seed",
        ),
        (
            json!({"model": "m", "messages": user, "truncate": 1}),
            "truncate",
        ),
    ];
    for (body, param) in cases {
        let error = read(Kind::Chat, body.clone()).expect_err(&body.to_string());
        assert_eq!(
            (error.status.as_u16(), error.param.as_deref()),
            (400, Some(param)),
            "{body}"
        );
    }
    let cases = [
        (json!({"model": "m", "prompt": 5}), "prompt"),
        (
            json!({"model": "m", "prompt": "p", "template": "{{ .Prompt }}"}),
            "template",
        ),
        (
            json!({"model": "m", "prompt": "p", "raw": true, "system": "s"}),
            "raw",
        ),
        (
            json!({"model": "m", "prompt": "p", "context": [-1]}),
            "context[0]",
        ),
        (
            json!({"model": "m", "prompt": "p", "context": "x"}),
            "context",
        ),
        (
            json!({"model": "m", "prompt": "p", "images": ["aGk="]}),
            "images",
        ),
        (
            json!({"model": "m", "prompt": "p", "suffix": "s", "context": [1]}),
            "suffix",
        ),
    ];
    for (body, param) in cases {
        let error = read(Kind::Generate, body.clone()).expect_err(&body.to_string());
        assert_eq!(
            (error.status.as_u16(), error.param.as_deref()),
            (400, Some(param)),
            "{body}"
        );
    }
}

#[test]
fn what_changes_nothing_is_told() {
    let (_, notices) = read(
        Kind::Chat,
        json!({"model": "m", "messages": [{"role": "user", "content": "hi", "mood": "good"}], "truncate": true, "wings": 2}),
    )
    .unwrap();
    assert_eq!(
        notices.header().unwrap(),
        "ignored=truncate; ignored=messages[0].mood; ignored=wings"
    );
}
