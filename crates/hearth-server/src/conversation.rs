//! A conversation in the form chat templates know, put together from the pieces that other forms have.
//!
//! Two dialects write a turn in pieces: a thought, a text, calls, their results. Templates want one message of the
//! assistant with all it said and called, then a message for each result.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// Between two texts of one turn.
pub const BETWEEN: &str = "\n";

/// A conversation being put together.
#[derive(Debug, Default)]
pub struct Conversation {
    messages: Vec<Map<String, Value>>,
    /// The function that each call was of, by the call's id.
    functions: HashMap<String, String>,
}

impl Conversation {
    /// Begins a message.
    pub fn say(&mut self, role: &str, text: &str) {
        let message = [("role", role), ("content", text)]
            .map(|(name, value)| (name.to_owned(), value.into()));
        self.messages.push(message.into_iter().collect());
    }

    /// Adds text to a field (`content`, `reasoning_content`) of the turn that is `role`'s, which begins if it is another's.
    pub fn append(&mut self, role: &str, field: &str, text: &str) {
        let message = self.turn(role);
        match message.get_mut(field) {
            Some(Value::String(before)) if !before.is_empty() => {
                if !text.is_empty() {
                    before.push_str(BETWEEN);
                    before.push_str(text);
                }
            }
            _ => {
                message.insert(field.into(), text.into());
            }
        }
    }

    /// The last message, if it is `role`'s; else one that begins.
    pub fn turn(&mut self, role: &str) -> &mut Map<String, Value> {
        if self.last_role() != Some(role) {
            self.say(role, "");
        }
        self.messages.last_mut().expect("it was just made sure of")
    }

    /// Adds a call to the assistant's turn.
    pub fn call(&mut self, id: &str, name: &str, arguments: Value) {
        let call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        self.functions.insert(id.to_owned(), name.to_owned());
        let calls = self
            .turn("assistant")
            .entry("tool_calls")
            .or_insert_with(|| json!([]));
        calls
            .as_array_mut()
            .expect("only calls are put there")
            .push(call);
    }

    /// Adds the result of a call.
    pub fn result(&mut self, id: &str, text: &str) {
        self.say("tool", text);
        let name = self.functions.get(id).cloned();
        let message = self.turn("tool");
        message.insert("tool_call_id".into(), id.into());
        if let Some(name) = name {
            message.insert("name".into(), name.into());
        }
    }

    fn last_role(&self) -> Option<&str> {
        self.messages.last()?.get("role")?.as_str()
    }

    /// Whether the model is to go on from results of its calls.
    pub fn ends_in_results(&self) -> bool {
        self.last_role() == Some("tool")
    }

    /// Whether the last turn is a text of the assistant's.
    pub fn can_be_continued(&self) -> bool {
        self.last_role() == Some("assistant")
            && self
                .messages
                .last()
                .is_some_and(|last| !last.contains_key("tool_calls"))
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The messages.
    pub fn into_messages(self) -> Vec<Map<String, Value>> {
        self.messages
    }
}

/// What a call's arguments are to a template: the object that the text is; a text that is none stays one, as a call that
/// was cut off in the middle left it.
pub fn arguments(text: &str) -> Value {
    if text.trim().is_empty() {
        return json!({});
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object.into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_in_pieces_is_one_message() {
        let mut conversation = Conversation::default();
        conversation.say("user", "hi");
        conversation.append("assistant", "reasoning_content", "hm");
        conversation.append("assistant", "content", "I look.");
        conversation.append("assistant", "content", "");
        conversation.append("assistant", "content", "Wait.");
        assert!(conversation.can_be_continued());
        conversation.call("c1", "read", json!({"path": "a"}));
        assert!(!conversation.can_be_continued());
        conversation.result("c1", "text");
        conversation.result("c9", "other");
        assert!(conversation.ends_in_results());
        let expected = json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "I look.\nWait.", "reasoning_content": "hm",
             "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "read", "arguments": {"path": "a"}}}]},
            {"role": "tool", "content": "text", "tool_call_id": "c1", "name": "read"},
            {"role": "tool", "content": "other", "tool_call_id": "c9"},
        ]);
        assert_eq!(json!(conversation.into_messages()), expected);
    }

    #[test]
    fn arguments_are_an_object_where_they_are_one() {
        let cases = [
            ("", json!({})),
            (" ", json!({})),
            (r#"{"a": 1}"#, json!({"a": 1})),
            (r#"{"a": "#, json!(r#"{"a": "#)),
            ("[1]", json!("[1]")),
        ];
        for (text, expected) in cases {
            assert_eq!(arguments(text), expected, "{text:?}");
        }
    }
}
