//! `POST /v1/completions`: plain text, continued.

mod convert;
mod stream;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt, TryStreamExt};
use hearth_text::Detokenizer;
use serde_json::Value;

use convert::CompletionRequest;
pub(super) use convert::read_prompts;
use stream::{Echo, Part, Style, TextStream};

use super::{
    common::Streaming,
    pieces::{self, Head, TokenNames},
};
use crate::{
    answer::{self, Prepared},
    app::App,
    auth::Caller,
    body::Object,
    error::ApiError,
    exchange::{Prompt, Reply, Usage},
    sse::{self, Heartbeat},
};

/// Prompts of one request that are worked on at the same time.
const AT_ONCE: usize = 16;

/// A piece of an answer, or what one prompt cost.
enum Done {
    Part(Part),
    Cost(Usage),
}

/// One prompt, ready to run, and how its answers are read.
struct Work {
    prepared: Prepared,
    stream: TextStream,
}

/// Continues texts.
pub(super) async fn complete(
    State(app): State<App>,
    caller: Caller,
    Object(body): Object,
) -> Result<Response, ApiError> {
    let (request, mut notices) = convert::completion_request(&body, &app.limits)?;
    let CompletionRequest {
        asks,
        streaming,
        echoes,
        n_logprobs,
        format_field,
    } = request;
    let head = Head::new("cmpl-", &asks[0].model);
    let mut work = Vec::with_capacity(asks.len());
    for (index, ask) in asks.into_iter().enumerate() {
        let (n, prompt) = (ask.n, ask.prompt.clone());
        let prepared = answer::prepare(&app, ask, &mut notices).await;
        let prepared = prepared.map_err(|error| {
            let error = error.of_prompt("prompt");
            error.renamed("response_format", &format_field)
        })?;
        let echo = echoes.then(|| echo(&prompt, &prepared, n_logprobs.is_some()));
        let stream = TextStream::new(index * n, echo, n_logprobs.is_some());
        work.push(Work { prepared, stream });
    }
    let tokenizer = work[0].prepared.loaded().engine.tokenizer().clone();
    let style = Style {
        names: n_logprobs.map(|_| TokenNames(tokenizer)),
        has_alternatives: n_logprobs.is_some_and(|n| n > 0),
    };
    // The first ones are started here, where a full queue is still a plain error.
    let later = work.split_off(work.len().min(AT_ONCE));
    let running: Result<Vec<_>, ApiError> =
        work.into_iter().map(|work| run(work, &caller)).collect();
    let done = futures_util::stream::iter(running?.into_iter().map(StreamExt::boxed))
        .chain(
            futures_util::stream::iter(later).map(move |work| match run(work, &caller) {
                Ok(stream) => stream.boxed(),
                Err(error) => futures_util::stream::iter([Err(error)]).boxed(),
            }),
        )
        .flatten_unordered(AT_ONCE)
        .boxed();
    let mut response = if streaming.is_on {
        sse::sse(stream(done, head, style, streaming), Heartbeat::Comment)
    } else {
        Json(object(done, &head, &style).await?).into_response()
    };
    notices.apply(&mut response);
    Ok(response)
}

/// Starts one prompt.
fn run(
    work: Work,
    caller: &Caller,
) -> Result<impl Stream<Item = Result<Done, ApiError>> + Send + use<>, ApiError> {
    let Work {
        prepared,
        mut stream,
    } = work;
    let replies = prepared.start(caller)?;
    let parts = replies.map_ok(move |reply| match reply {
        Reply::End { usage } => vec![Ok(Done::Cost(usage))],
        reply => stream
            .take(reply)
            .into_iter()
            .map(|part| Ok(Done::Part(part)))
            .collect(),
    });
    Ok(parts.map_ok(futures_util::stream::iter).try_flatten())
}

/// The prompt's text, and that of each of its tokens.
fn echo(prompt: &Prompt, prepared: &Prepared, has_logprobs: bool) -> Echo {
    let tokenizer = prepared.loaded().engine.tokenizer();
    let mut detokenizer = Detokenizer::new(tokenizer);
    let mut tokens: Vec<String> = prepared
        .prompt()
        .iter()
        .map(|&token| detokenizer.push(token).to_owned())
        .collect();
    let rest = detokenizer.finish();
    if let Some(last) = tokens.last_mut() {
        last.push_str(rest);
    }
    // What comes after a text is no part of the prompt that is repeated.
    let suffix = tokenizer.infill().map(|fim| fim.suffix);
    let end = prepared
        .prompt()
        .iter()
        .position(|token| Some(*token) == suffix);
    if let (Prompt::Infill { .. }, Some(end)) = (prompt, end) {
        tokens[end..].iter_mut().for_each(String::clear);
    }
    let text = match prompt {
        Prompt::Text(text) | Prompt::Infill { prefix: text, .. } => text.clone(),
        Prompt::Tokens(_) | Prompt::Chat(_) => tokens.concat(),
    };
    if !has_logprobs {
        tokens.clear();
    }
    Echo { text, tokens }
}

/// The whole object.
async fn object(
    mut done: impl Stream<Item = Result<Done, ApiError>> + Unpin,
    head: &Head,
    style: &Style,
) -> Result<Value, ApiError> {
    let (mut parts, mut usage) = (Vec::new(), Usage::default());
    while let Some(done) = done.next().await {
        match done? {
            Done::Part(part) => parts.push(part),
            Done::Cost(cost) => stream::add(&mut usage, &cost),
        }
    }
    let choices = stream::join(parts)
        .iter()
        .map(|choice| style.choice(choice))
        .collect();
    let mut object = head.object("text_completion", choices);
    object["usage"] = pieces::usage(&usage);
    Ok(object)
}

/// The same in pieces.
fn stream(
    done: impl Stream<Item = Result<Done, ApiError>> + Send,
    head: Head,
    style: Style,
    streaming: Streaming,
) -> impl Stream<Item = sse::Event> + Send {
    let mut usage = Usage::default();
    let object = move |choices: Vec<Value>, usage: Value| {
        let mut object = head.object("text_completion", choices);
        if streaming.includes_usage {
            object["usage"] = usage;
        }
        object
    };
    // A last item of None stands for the end.
    let all = done.map(Some).chain(futures_util::stream::iter([None]));
    let chunks = all.map(move |done| match done {
        Some(Ok(Done::Part(part))) => Ok(pieces::data(&[object(
            vec![style.choice(&part)],
            Value::Null,
        )])),
        Some(Ok(Done::Cost(cost))) => {
            stream::add(&mut usage, &cost);
            Ok(Vec::new())
        }
        Some(Err(error)) => Err(error),
        None if streaming.includes_usage => {
            Ok(pieces::data(&[object(Vec::new(), pieces::usage(&usage))]))
        }
        None => Ok(Vec::new()),
    });
    pieces::until_error(chunks)
}
