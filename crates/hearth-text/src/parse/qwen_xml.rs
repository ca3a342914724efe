//! `<function=name><parameter=key>value</parameter></function>`: Qwen3-Coder and its relatives.

use std::sync::Arc;

use super::{
    OfferedTool,
    elements::ElementsCall,
    syntax::{ArgumentSyntax, CallSyntax, Trigger},
};

pub(super) const SYNTAX: CallSyntax = CallSyntax {
    // The outer tag is forgotten now and then.
    trigger: Trigger::Anywhere(&["<tool_call>", "<function="]),
    open: "",
    begin: "<tool_call>\n<function=",
    middle: ">\n",
    arguments: ArgumentSyntax::Elements {
        begin: "<parameter=",
        middle: ">\n",
        end: "\n</parameter>\n",
    },
    end: "</function>\n</tool_call>",
    between: "\n",
    close: "",
    is_parallel: true,
    markers: &["<tool_call>", "</tool_call>"],
};

pub(super) fn is_written_by(template: &str) -> bool {
    template.contains("<function=") && template.contains("<parameter=")
}

pub(super) fn reader(trigger: &str, tools: Arc<[OfferedTool]>) -> ElementsCall {
    ElementsCall::new(tools, trigger == "<function=")
}
