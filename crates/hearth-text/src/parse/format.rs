//! Which notation a model uses, read from its template.

use std::sync::Arc;

use super::{
    OfferedTool, call::CallReader, deepseek, hermes, llama3, mistral, qwen_xml, syntax::CallSyntax,
};

/// What encloses thinking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThinkingTags {
    /// Before it.
    pub open: String,
    /// After it.
    pub close: String,
}

/// Pairs in use, by the template's own spelling.
const THINKING: [(&str, &str); 3] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
];

impl ThinkingTags {
    fn detect(template: &str) -> Option<Self> {
        let (open, close) = THINKING
            .into_iter()
            .find(|(open, close)| template.contains(open) && template.contains(close))?;
        Some(ThinkingTags {
            open: open.to_owned(),
            close: close.to_owned(),
        })
    }

    /// Whether a prompt ends inside the block, so that the answer begins with thinking.
    pub fn is_open_in(&self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(&self.open)
    }
}

/// A notation of calls; one file each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ToolFormat {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`.
    Hermes,
    /// `{"name": …, "parameters": …}`.
    Llama3Json,
    /// `[TOOL_CALLS][{"name": …, "arguments": …}]`.
    MistralList,
    /// `[TOOL_CALLS]name[ARGS]{…}`.
    MistralNamed,
    /// `<function=name><parameter=key>value</parameter></function>`.
    QwenXml,
    /// `<｜tool▁call▁begin｜>function<｜tool▁sep｜>name` with fenced arguments.
    DeepSeek,
}

impl ToolFormat {
    /// All of them.
    pub const ALL: [ToolFormat; 6] = [
        ToolFormat::QwenXml,
        ToolFormat::Hermes,
        ToolFormat::MistralNamed,
        ToolFormat::MistralList,
        ToolFormat::DeepSeek,
        ToolFormat::Llama3Json,
    ];

    /// How calls are written.
    pub fn syntax(self) -> &'static CallSyntax {
        match self {
            ToolFormat::Hermes => &hermes::SYNTAX,
            ToolFormat::Llama3Json => &llama3::SYNTAX,
            ToolFormat::MistralList => &mistral::LIST_SYNTAX,
            ToolFormat::MistralNamed => &mistral::NAMED_SYNTAX,
            ToolFormat::QwenXml => &qwen_xml::SYNTAX,
            ToolFormat::DeepSeek => &deepseek::SYNTAX,
        }
    }

    /// Characters that ids of calls must have where the template refuses all others.
    pub fn call_id_length(self) -> Option<usize> {
        match self {
            ToolFormat::MistralList | ToolFormat::MistralNamed => Some(9),
            _ => None,
        }
    }

    fn is_written_by(self, template: &str) -> bool {
        match self {
            ToolFormat::Hermes => hermes::is_written_by(template),
            ToolFormat::Llama3Json => llama3::is_written_by(template),
            ToolFormat::MistralList => mistral::is_list_written_by(template),
            ToolFormat::MistralNamed => mistral::is_named_written_by(template),
            ToolFormat::QwenXml => qwen_xml::is_written_by(template),
            ToolFormat::DeepSeek => deepseek::is_written_by(template),
        }
    }

    /// The reader of what follows a trigger; `trigger` is the text that was found, `{` not included.
    pub(super) fn reader(self, trigger: &str, tools: &Arc<[OfferedTool]>) -> CallReader {
        match self {
            ToolFormat::Hermes => CallReader::Object(hermes::reader()),
            ToolFormat::Llama3Json => {
                let names = tools.iter().map(|tool| tool.name.clone()).collect();
                CallReader::Object(llama3::reader(names))
            }
            ToolFormat::MistralList => CallReader::Object(mistral::list_reader()),
            ToolFormat::MistralNamed => CallReader::Marked(mistral::named_reader()),
            ToolFormat::QwenXml => CallReader::Elements(qwen_xml::reader(trigger, tools.clone())),
            ToolFormat::DeepSeek => CallReader::Marked(deepseek::reader()),
        }
    }
}

/// How a model writes what is not plain text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerFormat {
    /// What encloses thinking, for models that think.
    pub thinking: Option<ThinkingTags>,
    /// How calls are written, for models that can.
    pub tools: Option<ToolFormat>,
}

impl AnswerFormat {
    /// Reads it from the source of a chat template: what a template writes for the calls and thoughts of a
    /// history is what the model was trained to write. A model's name proves nothing.
    pub fn detect(template: &str) -> AnswerFormat {
        let template = without_comments(template);
        AnswerFormat {
            thinking: ThinkingTags::detect(&template),
            tools: ToolFormat::ALL
                .into_iter()
                .find(|format| format.is_written_by(&template)),
        }
    }

    /// Texts that must reach the parser although some vocabularies have them as control tokens.
    pub fn marker_texts(&self) -> Vec<&str> {
        let thinking = self.thinking.iter();
        let tags = thinking.flat_map(|tags| [tags.open.as_str(), tags.close.as_str()]);
        let markers = self.tools.iter().flat_map(|format| format.syntax().markers);
        tags.chain(markers.copied()).collect()
    }
}

/// The template without `{# … #}`: a comment about a notation is no use of it.
fn without_comments(template: &str) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{#") {
        out.push_str(before);
        rest = after.split_once("#}").map_or("", |(_, after)| after);
    }
    out + rest
}
