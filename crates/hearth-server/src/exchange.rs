//! One request and its answer, in no dialect.
//!
//! Each dialect turns its body into an [`Ask`] and a stream of [`Reply`]s into its own events. An `Ask` is in
//! the form chat templates want (messages as Hugging Face writes them), so nothing a dialect knows is lost on the way.

use std::time::Duration;

use hearth_engine::{FinishReason, TokenLogprob};
use serde_json::{Map, Value};

/// What to continue.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// A conversation, to be rendered with the model's template.
    Chat(Chat),
    /// Plain text; special tokens are added around it, none are read from it.
    Text(String),
    /// Tokens as they are.
    Tokens(Vec<u32>),
    /// Fill in between the two with the model's own tokens for it.
    Infill {
        /// Text before.
        prefix: String,
        /// Text after.
        suffix: String,
    },
}

/// A conversation and what is offered beside it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chat {
    /// Messages in the form of Hugging Face's templates: `role` (system, user, assistant, tool), `content` (a string), and where
    /// they apply `tool_calls` (`{"id", "type": "function", "function": {"name", "arguments": object}}`), `tool_call_id`, `name`, `reasoning_content`.
    pub messages: Vec<Map<String, Value>>,
    /// Tools, offered whatever the choice is: they are part of the prompt.
    pub tools: Vec<Tool>,
    /// Which of them may or must be called.
    pub tool_choice: ToolChoice,
    /// Whether one answer may hold several calls.
    pub is_parallel: bool,
    /// Whether the model thinks first.
    pub thinking: Thinking,
    /// Further variables of the template.
    pub template_variables: Map<String, Value>,
    /// Whether the last message, the assistant's, is to be continued: no turn is closed, none opened.
    pub continues_last: bool,
}

/// A function the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON schema of its arguments; none takes none.
    pub parameters: Option<Value>,
    /// Whether arguments must validate whatever the choice.
    pub is_strict: bool,
}

/// Which tools may or must be called.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ToolChoice {
    /// What the model writes is content.
    None,
    /// As the model likes, any of them.
    #[default]
    Auto,
    /// As the model likes, of these.
    AutoOf(Vec<String>),
    /// At least one call, of any.
    Required,
    /// At least one call, of these; one name is a named choice.
    RequiredOf(Vec<String>),
}

/// Whether the model thinks before it answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thinking {
    /// `None` leaves it to the template.
    pub is_on: Option<bool>,
    /// `low`, `medium`, `high` for templates that have such a variable.
    pub effort: Option<String>,
    /// The most tokens of it.
    pub budget: Option<usize>,
}

impl Thinking {
    /// What a word for effort asks for, `none` to `max`; templates know three of them.
    pub fn of_effort(word: &str) -> Self {
        let effort = match word {
            "none" => None,
            "minimal" | "low" => Some("low"),
            "medium" => Some("medium"),
            _ => Some("high"),
        };
        Thinking {
            is_on: Some(effort.is_some()),
            effort: effort.map(str::to_owned),
            budget: None,
        }
    }
}

/// What the answer must look like; it binds the answer, not the thinking before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    /// Anything.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that validates against a schema.
    JsonSchema(Value),
    /// Text that matches as a whole.
    Regex(String),
    /// Text of a Lark grammar.
    Lark(String),
    /// Text of a grammar in llama.cpp's notation.
    Gbnf(String),
    /// One of these texts.
    Choice(Vec<String>),
}

/// One request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The model's name as the client wrote it.
    pub model: String,
    /// What to continue.
    pub prompt: Prompt,
    /// What the answer must look like.
    pub format: Format,
    /// How tokens are drawn; the dialect has put its own defaults in.
    pub sampling: hearth_engine::SamplingParams,
    /// The most tokens of an answer.
    pub max_tokens: Option<usize>,
    /// The answer ends before any of these.
    pub stop: Vec<String>,
    /// Answers to make, 1 or more.
    pub n: usize,
    /// Log-probabilities, with so many alternatives.
    pub n_logprobs: Option<usize>,
    /// The same for the prompt's tokens.
    pub n_prompt_logprobs: Option<usize>,
    /// The longest it may take.
    pub timeout: Option<Duration>,
    /// Names the template variables that would defeat the cache: see FIELD-NOTES 11.
    pub is_background: bool,
}

/// A piece of an answer. Those of one choice come in order; choices are mixed.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The prompt is being read; the first reply, repeated while it lasts.
    Reading {
        /// Tokens done.
        n_done: usize,
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Of those, tokens the cache had.
        n_cached: usize,
    },
    /// Log-probabilities of the prompt.
    PromptLogprobs(Vec<Option<TokenLogprob>>),
    /// Thinking.
    Reasoning {
        /// Which answer.
        choice: usize,
        /// The text.
        text: String,
    },
    /// The answer's text.
    Text {
        /// Which answer.
        choice: usize,
        /// The text.
        text: String,
    },
    /// A call begins.
    CallBegin {
        /// Which answer.
        choice: usize,
        /// Which of its calls, from 0.
        index: usize,
        /// Its id, `call_…`; a dialect with another prefix replaces that.
        id: String,
        /// The function.
        name: String,
    },
    /// A piece of the call's arguments, JSON text.
    CallArguments {
        /// Which answer.
        choice: usize,
        /// Which of its calls.
        index: usize,
        /// The piece.
        text: String,
    },
    /// The call is complete.
    CallEnd {
        /// Which answer.
        choice: usize,
        /// Which of its calls.
        index: usize,
    },
    /// A token was drawn; only when log-probabilities were asked for, before the text it made certain.
    Token {
        /// Which answer.
        choice: usize,
        /// The token's own bytes.
        bytes: Vec<u8>,
        /// Its log-probability.
        logprob: TokenLogprob,
        /// Whether it is part of the thinking.
        is_reasoning: bool,
    },
    /// Something the client should know: the answer looked like a call and was none.
    Notice {
        /// Which answer.
        choice: usize,
        /// What, in words.
        text: String,
    },
    /// An answer is complete.
    Finished {
        /// Which answer.
        choice: usize,
        /// Why.
        finish: Finish,
        /// Tokens drawn for it, the one that ended it included.
        n_tokens: usize,
        /// Of those, tokens of thinking.
        n_reasoning: usize,
    },
    /// All answers are complete; the last reply.
    End {
        /// What it cost.
        usage: Usage,
    },
}

impl Reply {
    /// What a stream may tell beside its events, as a comment: how far the prompt is read, what turned out on the way.
    pub fn remark(&self) -> Option<String> {
        match self {
            Reply::Reading {
                n_done, n_prompt, ..
            } if n_done < n_prompt => Some(format!(
                "{n_done} of {n_prompt} tokens of the prompt are read"
            )),
            Reply::Notice { text, .. } => Some(format!("hearth-notice: note={text}")),
            _ => None,
        }
    }
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Finish {
    /// The model ended it.
    Stop,
    /// This stop string came up.
    StopString(String),
    /// This stop string came up inside JSON that was asked for: what is there is only its beginning.
    Cut(String),
    /// Tokens or context ran out.
    Length,
    /// It ended in calls.
    ToolCalls,
}

/// Tokens and times of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Of those, tokens the cache had.
    pub n_cached: usize,
    /// Tokens of all answers.
    pub n_completion: usize,
    /// Of those, tokens of thinking.
    pub n_reasoning: usize,
    /// Loading the model.
    pub load: Duration,
    /// Reading the prompt.
    pub prefill: Duration,
    /// Writing.
    pub decode: Duration,
    /// All of it.
    pub total: Duration,
    /// The seed of the first choice.
    pub seed: u64,
}

/// What the engine's reason is to a client, calls aside.
pub fn finish_of(reason: FinishReason, stops: &[String]) -> Finish {
    match reason {
        FinishReason::EndOfGeneration { .. } => Finish::Stop,
        FinishReason::StopString { index } => Finish::StopString(stops[index].clone()),
        FinishReason::Length | FinishReason::Cancelled => Finish::Length,
    }
}
