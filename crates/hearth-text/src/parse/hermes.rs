//! `<tool_call>{"name": …, "arguments": …}</tool_call>`: Hermes, Qwen 2.5 and 3, Granite 4 and many more.

use super::{
    object::{ObjectCall, ObjectForm},
    syntax::{ArgumentSyntax, CallSyntax, Trigger},
};

pub(super) const SYNTAX: CallSyntax = CallSyntax {
    trigger: Trigger::Anywhere(&["<tool_call>"]),
    open: "",
    begin: "<tool_call>\n{\"name\": \"",
    middle: "\", \"arguments\": ",
    arguments: ArgumentSyntax::Json,
    end: "}\n</tool_call>",
    between: "\n",
    close: "",
    is_parallel: true,
    markers: &["<tool_call>", "</tool_call>"],
};

/// GLM writes `<tool_call>` too, but elements inside it, so the tag alone proves nothing.
pub(super) fn is_written_by(template: &str) -> bool {
    template.contains("<tool_call>")
        && ["\"arguments\"", "\\\"arguments\\\"", "'arguments'"]
            .iter()
            .any(|key| template.contains(key))
        && !template.contains("<arg_key>")
}

pub(super) fn reader() -> ObjectCall {
    ObjectCall::new(ObjectForm::Enclosed {
        close: "</tool_call>",
    })
}
