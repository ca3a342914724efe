//! `<｜tool▁call▁begin｜>function<｜tool▁sep｜>name` and the arguments in a fence: DeepSeek R1 and models distilled from it.

use super::{
    marked::MarkedCall,
    syntax::{ArgumentSyntax, CallSyntax, Trigger},
};

const OPEN: &str = "<｜tool▁calls▁begin｜>";

pub(super) const SYNTAX: CallSyntax = CallSyntax {
    trigger: Trigger::Anywhere(&[OPEN]),
    open: OPEN,
    begin: "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
    middle: "\n```json\n",
    arguments: ArgumentSyntax::Json,
    end: "\n```<｜tool▁call▁end｜>",
    between: "\n",
    close: "<｜tool▁calls▁end｜>",
    is_parallel: true,
    markers: &[
        OPEN,
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
    ],
};

/// Later models of the house have the same markers without the fence.
pub(super) fn is_written_by(template: &str) -> bool {
    template.contains(OPEN) && template.contains("```json")
}

pub(super) fn reader() -> MarkedCall {
    MarkedCall::after_open(&SYNTAX)
}
