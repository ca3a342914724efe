//! Items as clients send them.

use super::*;

fn conversation(items: Value) -> Result<(Value, String), ApiError> {
    let mut conversation = Conversation::default();
    let mut notices = Notices::new(false, 32);
    for (index, item) in normalised(&items, 100)?.iter().enumerate() {
        add(&mut conversation, item, &path_of(index), &mut notices)?;
    }
    let header = notices
        .header()
        .map(|value| value.to_str().unwrap().to_owned());
    Ok((
        json!(conversation.into_messages()),
        header.unwrap_or_default(),
    ))
}

#[test]
fn a_text_is_a_message_of_the_user() {
    let (messages, _) = conversation(json!("hi")).unwrap();
    assert_eq!(messages, json!([{"role": "user", "content": "hi"}]));
    let kept = normalised(&json!("hi"), 9).unwrap();
    assert_eq!(
        kept[0]["content"],
        json!([{"type": "input_text", "text": "hi"}])
    );
    assert_eq!(kept[0]["type"], "message");
    assert!(kept[0]["id"].as_str().unwrap().starts_with("msg_"));
}

#[test]
fn an_agents_items_become_a_conversation() {
    let (messages, header) = conversation(json!([
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "<permissions/>"}]},
        {"role": "system", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<environment/>"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix it."}, {"type": "input_text", "text": "Now."}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Look first."}], "encrypted_content": null},
        {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "phase": "commentary",
         "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "exec", "namespace": "shell", "arguments": "{\"cmd\":\"ls\"}", "status": "completed"},
        {"type": "function_call", "call_id": "c2", "name": "exec", "arguments": ""},
        {"type": "function_call_output", "call_id": "c1", "output": "a.txt"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "b"}, {"type": "input_text", "text": "c"}]},
    ]))
    .unwrap();
    let expected = json!([
        {"role": "system", "content": "<permissions/>\nBe brief."},
        {"role": "user", "content": "<environment/>"},
        {"role": "user", "content": "Fix it.\nNow."},
        {"role": "assistant", "content": "I look.", "reasoning_content": "Look first.", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "exec", "arguments": {"cmd": "ls"}}},
            {"id": "c2", "type": "function", "function": {"name": "exec", "arguments": {}}},
        ]},
        {"role": "tool", "content": "a.txt", "tool_call_id": "c1", "name": "exec"},
        {"role": "tool", "content": "b\nc", "tool_call_id": "c2", "name": "exec"},
    ]);
    assert_eq!((messages, header.as_str()), (expected, ""));
}

#[test]
fn kinds_never_produced_here_are_read_as_far_as_they_can_be() {
    let (messages, header) = conversation(json!([
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "s"}], "content": null, "encrypted_content": "AAAA"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
        {"type": "local_shell_call", "id": "ls_1", "call_id": "c1", "status": "completed", "action": {"type": "exec", "command": ["ls"], "env": {}}},
        {"type": "local_shell_call_output", "id": "c1", "output": "a.txt"},
        {"type": "custom_tool_call", "id": "ct_1", "call_id": "c2", "name": "apply_patch", "input": "*** Begin"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "done"},
        {"type": "compaction", "encrypted_content": "AAAA"},
    ]))
    .unwrap();
    let expected = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": {
            "name": "local_shell", "arguments": {"action": {"type": "exec", "command": ["ls"], "env": {}}}}}]},
        {"role": "tool", "content": "a.txt", "tool_call_id": "c1", "name": "local_shell"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c2", "type": "function", "function": {
            "name": "apply_patch", "arguments": {"input": "*** Begin"}}}]},
        {"role": "tool", "content": "done", "tool_call_id": "c2", "name": "apply_patch"},
    ]);
    assert_eq!(messages, expected);
    assert_eq!(
        header,
        "ignored=reasoning.encrypted_content; ignored=web_search_call; ignored=compaction"
    );
}

#[test]
fn what_is_wrong_is_named() {
    let cases = [
        ("input", json!(5)),
        ("input[0]", json!(["hi"])),
        ("input[0].type", json!([{"type": "banana"}])),
        ("input[0].type", json!([{"content": "hi"}])),
        (
            "input[0].role",
            json!([{"role": "banana", "content": "hi"}]),
        ),
        ("input[0].content", json!([{"role": "user"}])),
        ("input[0].content", json!([{"role": "user", "content": 5}])),
        (
            "input[0].content[0]",
            json!([{"role": "user", "content": ["hi"]}]),
        ),
        (
            "input[0].content[0].type",
            json!([{"role": "user", "content": [{"type": "banana"}]}]),
        ),
        (
            "input[0].content[0].type",
            json!([{"role": "user", "content": [{"type": "input_image", "image_url": "file:///etc/passwd"}]}]),
        ),
        (
            "input[0].content[0].text",
            json!([{"role": "user", "content": [{"type": "input_text"}]}]),
        ),
        (
            "input[0].call_id",
            json!([{"type": "function_call", "name": "f", "arguments": "{}"}]),
        ),
        (
            "input[0].arguments",
            json!([{"type": "function_call", "call_id": "c", "name": "f", "arguments": {}}]),
        ),
        (
            "input[0].output",
            json!([{"type": "function_call_output", "call_id": "c"}]),
        ),
        ("input", json!(vec!["x"; 101])),
    ];
    for (param, items) in cases {
        let error = conversation(items.clone()).unwrap_err();
        assert_eq!(
            (error.status.as_u16(), error.param.as_deref()),
            (400, Some(param)),
            "{items}: {error}"
        );
    }
}
