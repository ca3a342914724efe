//! `[TOOL_CALLS][{"name": …, "arguments": …}]`, and `[TOOL_CALLS]name[ARGS]{…}` of later models: Mistral.

use super::{
    marked::MarkedCall,
    object::{ObjectCall, ObjectForm},
    syntax::{ArgumentSyntax, CallSyntax, Trigger},
};

const TRIGGER: &str = "[TOOL_CALLS]";

pub(super) const LIST_SYNTAX: CallSyntax = CallSyntax {
    trigger: Trigger::Anywhere(&[TRIGGER]),
    open: "[TOOL_CALLS][",
    begin: "{\"name\": \"",
    middle: "\", \"arguments\": ",
    arguments: ArgumentSyntax::Json,
    end: "}",
    between: ", ",
    close: "]",
    is_parallel: true,
    markers: &[TRIGGER],
};

pub(super) const NAMED_SYNTAX: CallSyntax = CallSyntax {
    trigger: Trigger::Anywhere(&[TRIGGER]),
    open: "",
    begin: TRIGGER,
    middle: "[ARGS]",
    arguments: ArgumentSyntax::Json,
    end: "",
    between: "",
    close: "",
    is_parallel: true,
    markers: &[TRIGGER, "[ARGS]", "[CALL_ID]"],
};

pub(super) fn is_list_written_by(template: &str) -> bool {
    template.contains(TRIGGER) && !template.contains("[ARGS]")
}

pub(super) fn is_named_written_by(template: &str) -> bool {
    template.contains(TRIGGER) && template.contains("[ARGS]")
}

pub(super) fn list_reader() -> ObjectCall {
    ObjectCall::new(ObjectForm::List)
}

pub(super) fn named_reader() -> MarkedCall {
    MarkedCall::after_begin(&NAMED_SYNTAX)
}
