//! From a request to its answer: template, tokens, grammar, jobs, replies.
//!
//! [`ask`] does everything that can fail before the first token, off the threads that serve connections where it may take a
//! while, and hands back a stream of [`Replies`]. It knows no dialect. What a template writes is read as the model's own tokens;
//! the client's variables never stand in for messages, tools or tokens (`prompt.rs`).

mod collect;
mod grammar;
mod prompt;
mod provider_header;
mod reader;
mod replies;
mod vectors;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hearth_engine::{
    AnswerReader, Job, Priority, Reading, Request, Speculate, ThinkingBudget,
    constraint::Constraint,
};
use hearth_text::{
    Encode, Tokenizer,
    parse::{AnswerFormat, ParseOptions, ThinkingTags},
};

pub use collect::{Call, Collected, CollectedChoice, TokenOf};
pub use replies::Replies;
pub use vectors::{Vectors, embed};

use crate::{
    app::App,
    auth::Caller,
    error::ApiError,
    exchange::{Ask, Format, Prompt},
    limits::Limits,
    metrics::Metrics,
    models::Loaded,
    notice::Notices,
};
use prompt::ReadyPrompt;
use reader::{ChoiceReader, TokenTexts};
use replies::{Clock, Running};

/// A request that is ready to run: everything about it has been checked but whether there is room in the queue.
pub struct Prepared {
    loaded: Arc<Loaded>,
    ask: Ask,
    prompt: ReadyPrompt,
    format: AnswerFormat,
    constraint: Option<Constraint>,
    metrics: Arc<Metrics>,
    began: Instant,
    load: Duration,
}

/// Starts the answers to a request. Dropping the replies cancels them.
///
/// # Errors
///
/// The model is unknown, the request is bad, or the queue is full.
pub async fn ask(
    app: &App,
    who: &Caller,
    ask: Ask,
    notices: &mut Notices,
) -> Result<Replies, ApiError> {
    prepare(app, ask, notices).await?.start(who)
}

/// Number of a prompt's tokens, which may be more than fit.
///
/// # Errors
///
/// The model is unknown or the prompt is bad.
pub async fn count(
    app: &App,
    _who: &Caller,
    prompt: &Prompt,
    model: &str,
) -> Result<usize, ApiError> {
    tokens(app, prompt, model).await.map(|tokens| tokens.len())
}

/// The tokens of a prompt as the model would read it, of any length.
///
/// # Errors
///
/// The model is unknown or the prompt is bad.
pub async fn tokens(app: &App, prompt: &Prompt, model: &str) -> Result<Vec<u32>, ApiError> {
    let loaded = app.models.get(model).await?;
    let prompt = prompt.clone();
    off_thread(move || prompt::ready(&loaded, &prompt).map(|ready| ready.tokens)).await
}

/// Loads the model, renders the prompt, compiles the grammar, checks the rest.
///
/// # Errors
///
/// The model is unknown or the request is bad; in strict mode also when something in it has no effect.
pub async fn prepare(app: &App, ask: Ask, notices: &mut Notices) -> Result<Prepared, ApiError> {
    let began = Instant::now();
    let loaded = app.models.get(&ask.model).await?;
    let load = began.elapsed();
    let mut prepared = {
        let (metrics, limits) = (app.metrics.clone(), app.limits.clone());
        off_thread(move || Prepared::new(loaded, ask, &limits, metrics, (began, load))).await?
    };
    for field in prepared.prompt.ignored.drain(..) {
        notices.ignored(field);
    }
    for notice in prepared.constraint.iter().flat_map(Constraint::notices) {
        notices.note(notice.as_str());
    }
    notices.check()?;
    Ok(prepared)
}

/// Runs what takes a while where it holds up nobody's connection.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(ApiError::internal(error)))
}

impl Prepared {
    fn new(
        loaded: Arc<Loaded>,
        ask: Ask,
        limits: &Limits,
        metrics: Arc<Metrics>,
        (began, load): (Instant, Duration),
    ) -> Result<Self, ApiError> {
        grammar::check_sizes(&ask, limits)?;
        let prompt = prompt::ready(&loaded, &ask.prompt)?;
        let format = grammar::answer_format(&loaded.format, &ask);
        let constraint = grammar::constraint(&loaded, &ask, &prompt, &format)?;
        let mut prepared = Prepared {
            loaded,
            ask,
            prompt,
            format,
            constraint,
            metrics,
            began,
            load,
        };
        prepared.forbid_thinking();
        let engine = &prepared.loaded.engine;
        prepared
            .request(0, &Arc::from([]))
            .check(engine.tokenizer().n_vocab(), engine.n_ctx())?;
        Ok(prepared)
    }

    /// The model's name, number of tokens and so on.
    pub fn loaded(&self) -> &Arc<Loaded> {
        &self.loaded
    }

    /// The tokens that will be continued.
    pub fn prompt(&self) -> &[u32] {
        &self.prompt.tokens
    }

    /// Puts the tokens of an earlier conversation in front of the prompt.
    pub fn put_before(&mut self, context: &[u32]) {
        if context.is_empty() {
            return;
        }
        let tokens = &self.prompt.tokens;
        let bos = self.loaded.engine.tokenizer().bos();
        // A text begins once.
        let n_begin = usize::from(bos.is_some() && tokens.first().copied() == bos);
        self.prompt.tokens = [context, &tokens[n_begin..]].concat();
    }

    /// Hands one job for each answer to the engine.
    ///
    /// # Errors
    ///
    /// The queue is full, or the engine is going down.
    pub fn start(self, who: &Caller) -> Result<Replies, ApiError> {
        let visible: Arc<[u32]> = self.visible_tokens().into();
        let stops: Arc<[String]> = self.ask.stop.clone().into();
        let reading = self.reading();
        let is_json = matches!(self.ask.format, Format::JsonObject | Format::JsonSchema(_));
        let engine = &self.loaded.engine;
        let texts = TokenTexts::new(
            engine.tokenizer().clone(),
            visible.clone(),
            self.prompt.begins_text,
        );
        let mut running = Vec::with_capacity(self.ask.n);
        for choice in 0..self.ask.n {
            let job = Job {
                reading: reading.clone(),
                ..self.job(choice, &visible, who)
            };
            let events = engine.submit(job)?;
            let reader = ChoiceReader::new(
                choice,
                reading
                    .as_ref()
                    .map(|reading| AnswerReader::new(reading, &stops)),
                self.prompt.is_thinking_open,
                texts.clone(),
                stops.clone(),
            );
            let reader = reader.of_json(is_json);
            running.push(Running { events, reader });
        }
        let wants_prompt_logprobs = self.ask.n_prompt_logprobs.is_some();
        let clock = Clock::new(self.metrics, self.began, self.load);
        Ok(Replies::new(
            self.loaded,
            self.prompt.tokens.into(),
            running,
            wants_prompt_logprobs,
            clock,
        ))
    }

    fn job(&self, choice: usize, visible: &Arc<[u32]>, who: &Caller) -> Job {
        Job {
            owner: who.owner.clone(),
            priority: if self.ask.is_background {
                Priority::Background
            } else {
                who.priority
            },
            constraint: self.constraint.clone(),
            n_logprobs: self.ask.n_logprobs,
            n_prompt_logprobs: self.ask.n_prompt_logprobs.filter(|_| choice == 0),
            thinking_budget: self.thinking_budget(),
            deadline: self.ask.timeout.map(|timeout| self.began + timeout),
            ..Job::new(self.request(choice, visible))
        }
    }

    fn request(&self, choice: usize, visible: &Arc<[u32]>) -> Request {
        Request {
            prompt: self.prompt.tokens.clone(),
            max_tokens: self.ask.max_tokens,
            stop: self.ask.stop.clone(),
            sampling: self.ask.sampling.clone(),
            choice: u32::try_from(choice).expect("few choices"),
            begins_text: self.prompt.begins_text,
            speculate: Speculate::Auto,
            visible_tokens: visible.to_vec(),
        }
    }

    /// How a conversation's answer reads; plain text is taken as it comes.
    fn reading(&self) -> Option<Reading> {
        let Prompt::Chat(chat) = &self.ask.prompt else {
            return None;
        };
        Some(Reading {
            format: self.format.clone(),
            options: ParseOptions {
                tools: grammar::offered_tools(chat),
                is_thinking_open: self.prompt.is_thinking_open,
            },
        })
    }

    /// Control tokens that mark parts of an answer: their text is for the parser to see.
    fn visible_tokens(&self) -> Vec<u32> {
        if !matches!(self.ask.prompt, Prompt::Chat(_)) {
            return Vec::new();
        }
        let tokenizer = self.loaded.engine.tokenizer();
        let texts = self.format.marker_texts().into_iter();
        let mut tokens: Vec<u32> = texts
            .filter_map(|text| single_token(tokenizer, text))
            .filter(|token| tokenizer.is_control(*token))
            .collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    /// The tags that thinking may stand between in this answer.
    fn thinking_tags(&self) -> Option<&ThinkingTags> {
        let may_think = self.prompt.is_thinking_open || self.prompt.may_think;
        self.format.thinking.as_ref().filter(|_| may_think)
    }

    fn thinking_budget(&self) -> Option<ThinkingBudget> {
        let Prompt::Chat(chat) = &self.ask.prompt else {
            return None;
        };
        let tags = self.thinking_tags()?;
        let how = Encode {
            add_special: false,
            parse_special: true,
        };
        Some(ThinkingBudget {
            n_tokens: chat.thinking.budget?,
            open_text: (!self.prompt.is_thinking_open).then(|| tags.open.clone()),
            close: self
                .loaded
                .engine
                .tokenizer()
                .encode(&format!("\n{}\n\n", tags.close), how),
            close_text: tags.close.clone(),
        })
    }

    /// Where thinking was switched off, the token that would open it cannot be drawn.
    fn forbid_thinking(&mut self) {
        let Prompt::Chat(chat) = &self.ask.prompt else {
            return;
        };
        let tags = self
            .format
            .thinking
            .as_ref()
            .filter(|_| chat.thinking.is_on == Some(false));
        let open = tags.and_then(|tags| single_token(self.loaded.engine.tokenizer(), &tags.open));
        let biases = &mut self.ask.sampling.logit_bias;
        if let Some(open) = open
            && biases.iter().all(|(token, _)| *token != open)
        {
            biases.push((open, f32::NEG_INFINITY));
        }
    }
}

/// The token that a text is, if it is one.
fn single_token(tokenizer: &Tokenizer, text: &str) -> Option<u32> {
    let how = Encode {
        add_special: false,
        parse_special: true,
    };
    match tokenizer.encode(text, how)[..] {
        [token] => Some(token),
        _ => None,
    }
}
