//! `{"name": …, "parameters": …}` as the whole answer, with or without `<|python_tag|>` before it: Llama 3.
//!
//! Nothing but its shape tells such a call from an answer that is JSON, so the name must be that of a tool on offer.

use super::{
    object::{ObjectCall, ObjectForm},
    syntax::{ArgumentSyntax, CallSyntax, Trigger},
};

pub(super) const SYNTAX: CallSyntax = CallSyntax {
    trigger: Trigger::AnywhereOrObject(&["<|python_tag|>"]),
    open: "",
    begin: "{\"name\": \"",
    middle: "\", \"parameters\": ",
    arguments: ArgumentSyntax::Json,
    end: "}",
    between: "; ",
    close: "",
    // The template raises when a message of the history has two.
    is_parallel: false,
    markers: &["<|python_tag|>"],
};

pub(super) fn is_written_by(template: &str) -> bool {
    template.contains("{\"name\": ") && template.contains("\"parameters\": ")
}

pub(super) fn reader(names: Vec<String>) -> ObjectCall {
    ObjectCall::new(ObjectForm::Bare { names })
}
