//! Grammars of calls, from the record of how a model writes them.
//!
//! Calls that are required are the whole answer. Calls that are merely on offer begin with a trigger in free text;
//! what follows the trigger is then held to the grammar. A call's text is written as the template writes it.

mod elements;

use hearth_text::parse::{ArgumentSyntax, CallSyntax, ToolFormat};
use llguidance::Matcher;
use serde_json::Value;

use super::{
    ConstraintError, ToolGrammarChoice, ToolSpec,
    builder::{Builder, Node},
    compile::ready,
    json::{self, FreeNames},
    names::Names,
    schema::{self, Document},
    state::{Answer, Call},
    vocabulary::Vocabulary,
};

type Result<T> = std::result::Result<T, ConstraintError>;

const LANGUAGE: &str = "grammar of calls";

/// The most tools of a request.
const MAX_TOOLS: usize = 512;
/// The most calls of one answer where they are required: a weak model has to come to an end.
const MAX_CALLS: usize = 32;

/// What was asked for with the tools.
pub(super) struct Calls<'a> {
    pub format: ToolFormat,
    pub tools: &'a [ToolSpec],
    pub choice: ToolGrammarChoice,
    pub is_parallel: bool,
}

/// What is left when the tools are compiled.
pub(super) struct Compiled {
    pub answer: Answer,
    pub guards_names: Option<Names>,
    pub notices: Vec<String>,
}

/// Compiles the calls.
pub(super) fn compile(vocabulary: &Vocabulary, calls: &Calls<'_>) -> Result<Compiled> {
    check(calls.tools)?;
    let syntax = calls.format.syntax();
    let mut tools = Vec::new();
    let mut notices = Vec::new();
    for tool in calls.tools {
        tools.push(read(tool, syntax, &mut notices)?);
    }
    let writer = Writer {
        vocabulary,
        syntax,
        tools,
        is_parallel: calls.is_parallel && syntax.is_parallel,
        is_list: calls.choice == ToolGrammarChoice::Required,
    };
    let answer = match calls.choice {
        ToolGrammarChoice::Required => Answer::Whole(Box::new(writer.matcher(&writer.lead())?.0)),
        ToolGrammarChoice::Auto => Answer::Calls(writer.triggered()?),
    };
    let free_names = writer.tools.iter().map(|tool| tool.free_names).max();
    let free_names = free_names.unwrap_or(FreeNames::None);
    Ok(Compiled {
        answer,
        guards_names: Names::guard(free_names, false),
        notices,
    })
}

/// A tool with its schema read; without one that can be held to, any object is taken.
struct Tool<'a> {
    spec: &'a ToolSpec,
    document: Option<Document>,
    free_names: FreeNames,
}

fn check(tools: &[ToolSpec]) -> Result<()> {
    if tools.len() > MAX_TOOLS {
        return Err(ConstraintError::Limit {
            what: "number of tools",
            n: tools.len(),
            limit: MAX_TOOLS,
        });
    }
    if tools.is_empty() {
        return Err(ConstraintError::grammar(LANGUAGE, "there are no tools"));
    }
    // A name stands in the middle of the notation, where nothing is escaped.
    let is_plain = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_alphanumeric() || "_-.:/".contains(c))
    };
    match tools.iter().find(|tool| !is_plain(&tool.name)) {
        Some(tool) => Err(ConstraintError::grammar(
            LANGUAGE,
            format!("a tool is named {:?}", tool.name),
        )),
        None => Ok(()),
    }
}

fn read<'a>(
    tool: &'a ToolSpec,
    syntax: &CallSyntax,
    notices: &mut Vec<String>,
) -> Result<Tool<'a>> {
    let none = Value::Object(
        [("additionalProperties".to_owned(), Value::Bool(false))]
            .into_iter()
            .collect(),
    );
    let document = schema::read(tool.schema.as_ref().unwrap_or(&none), true);
    let document = document.and_then(|document| {
        // Tried once by itself, so that what the notation cannot write is known here.
        let scratch = &mut Builder::new(LANGUAGE)?;
        let free_names = arguments(scratch, syntax, tool, Some(&document))?.1;
        Ok((document, free_names))
    });
    let (document, free_names) = match document {
        Ok((document, free_names)) => (Some(document), free_names),
        Err(error) if tool.is_strict || !is_beyond_us(&error) => {
            return Err(error.in_tool(&tool.name));
        }
        Err(error) => {
            let name = &tool.name;
            notices.push(format!(
                "arguments of {name} are not held to their schema: {error}"
            ));
            (None, FreeNames::Open)
        }
    };
    Ok(Tool {
        spec: tool,
        document,
        free_names,
    })
}

/// Arguments, and which names the schema does not list may be in them.
fn arguments(
    builder: &mut Builder,
    syntax: &CallSyntax,
    tool: &ToolSpec,
    document: Option<&Document>,
) -> Result<(Node, FreeNames)> {
    let mut free_names = FreeNames::Open;
    let node = match syntax.arguments {
        ArgumentSyntax::Json => match document {
            None => json::free_object(builder)?,
            Some(document) => {
                let (node, names) = json::emit(builder, document)?;
                free_names = names;
                node
            }
        },
        // Elements are no JSON: there are no names to keep apart but those the grammar lists.
        ArgumentSyntax::Elements { begin, middle, end } => {
            let notation = elements::Notation { begin, middle, end };
            free_names = FreeNames::None;
            elements::emit(builder, &notation, tool, document)?
        }
    };
    Ok((node, free_names))
}

/// A schema that is none is an error, strict or not; one that we cannot enforce is not.
fn is_beyond_us(error: &ConstraintError) -> bool {
    matches!(
        error,
        ConstraintError::Keyword { .. } | ConstraintError::Limit { .. }
    )
}

struct Writer<'a> {
    vocabulary: &'a Vocabulary,
    syntax: &'static CallSyntax,
    tools: Vec<Tool<'a>>,
    is_parallel: bool,
    /// Several calls stand in one grammar even where nothing encloses them.
    is_list: bool,
}

impl Writer<'_> {
    /// All before the first name.
    fn lead(&self) -> String {
        format!("{}{}", self.syntax.open, self.syntax.begin)
    }

    /// One matcher for every text that begins a call.
    fn triggered(&self) -> Result<Vec<Call>> {
        let lead = self.lead();
        let mut calls: Vec<Call> = Vec::new();
        for trigger in self.syntax.trigger.texts() {
            // A trigger that is no part of the notation stands before it.
            let rest = match lead.find(trigger) {
                Some(at) => &lead[at + trigger.len()..],
                None => &lead,
            };
            let (matcher, is_followed) = self.matcher(rest)?;
            calls.push(Call {
                trigger: (*trigger).to_owned(),
                matcher,
                is_first: false,
                is_followed,
            });
        }
        if self.syntax.trigger.is_object() {
            let (matcher, is_followed) = self.matcher(&lead)?;
            calls.push(Call {
                trigger: "{".to_owned(),
                matcher,
                is_first: true,
                is_followed,
            });
        }
        Ok(calls)
    }

    /// A grammar of calls behind `lead`, and whether free text may follow.
    fn matcher(&self, lead: &str) -> Result<(Matcher, bool)> {
        let mut builder = Builder::new(LANGUAGE)?;
        let lead = self.vocabulary.marker(&mut builder, lead)?;
        let call = self.call(&mut builder)?;
        let is_enclosed = !self.syntax.close.is_empty();
        let calls = match self.is_parallel && (self.is_list || is_enclosed) {
            false => call,
            true => {
                let between = format!("{}{}", self.syntax.between, self.syntax.begin);
                let between = self.vocabulary.marker(&mut builder, &between)?;
                builder.list(call, between, 1, Some(MAX_CALLS))
            }
        };
        let close = self.vocabulary.marker(&mut builder, self.syntax.close)?;
        let root = builder.join(&[lead, calls, close]);
        let matcher = ready(self.vocabulary, LANGUAGE, builder.finish(root)?)?;
        Ok((matcher, self.is_parallel))
    }

    /// One call from its name to its end.
    fn call(&self, builder: &mut Builder) -> Result<Node> {
        let mut options = Vec::new();
        for tool in &self.tools {
            let head = format!("{}{}", tool.spec.name, self.syntax.middle);
            let head = self.vocabulary.marker(builder, &head)?;
            let arguments = arguments(builder, self.syntax, tool.spec, tool.document.as_ref())
                .map_err(|error| error.in_tool(&tool.spec.name))?
                .0;
            options.push(builder.join(&[head, arguments]));
        }
        let head = builder.choose(&options);
        let end = self.vocabulary.marker(builder, self.syntax.end)?;
        Ok(builder.join(&[head, end]))
    }
}
