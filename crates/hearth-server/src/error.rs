//! What a client is told when something cannot be done, in the dialect of the route it asked.
//!
//! Handlers return an [`ApiError`] and know no dialect; the outermost layer of the router writes the body (`app.rs`),
//! because it alone knows the path and the request's id. What went wrong inside is logged and not told.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hearth_engine::{EngineError, JobError, RequestError, SubmitError};
use serde_json::{Value, json};

/// Whose clients a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Everything that is not one of the others.
    OpenAi,
    /// `/v1/messages` and below.
    Anthropic,
    /// `/` and `/api` and below.
    Ollama,
}

impl Dialect {
    /// The dialect a path belongs to, also one that leads nowhere.
    pub fn of_path(path: &str) -> Dialect {
        if path == "/" || path == "/api" || path.starts_with("/api/") {
            Dialect::Ollama
        } else if path.starts_with("/v1/messages") {
            Dialect::Anthropic
        } else {
            Dialect::OpenAi
        }
    }
}

/// Characters of a message, in which a client's own words may stand.
const MAX_MESSAGE: usize = 1000;

/// Characters of the name of a field.
const MAX_PARAM: usize = 200;

fn shortened(text: String, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What kind of thing went wrong; decides the words each dialect has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is wrong.
    Invalid,
    /// The prompt does not fit the context.
    TooLong,
    /// No key, or a wrong one.
    Unauthorized,
    /// A foreign host or origin, or something that is switched off.
    Forbidden,
    /// There is no such model.
    UnknownModel,
    /// There is no such route or object.
    NotFound,
    /// The route has other methods.
    Method,
    /// The body is too large.
    TooLarge,
    /// Too many requests wait.
    QueueFull,
    /// Not now: a model cannot be loaded yet, or the server is going down.
    Unavailable,
    /// The time is over.
    Timeout,
    /// Our fault.
    Internal,
}

impl ErrorKind {
    fn status(self) -> StatusCode {
        match self {
            ErrorKind::Invalid | ErrorKind::TooLong => StatusCode::BAD_REQUEST,
            ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::UnknownModel | ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Method => StatusCode::METHOD_NOT_ALLOWED,
            ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::QueueFull => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// OpenAI's `type`.
    fn openai(self) -> &'static str {
        match self {
            ErrorKind::Unauthorized => "authentication_error",
            ErrorKind::Forbidden => "permission_error",
            ErrorKind::QueueFull => "rate_limit_error",
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Internal => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// OpenAI's `code`, where there is one.
    fn code(self) -> Option<&'static str> {
        match self {
            ErrorKind::TooLong => Some("context_length_exceeded"),
            ErrorKind::Unauthorized => Some("invalid_api_key"),
            ErrorKind::UnknownModel => Some("model_not_found"),
            _ => None,
        }
    }

    /// Anthropic's `type`.
    fn anthropic(self) -> &'static str {
        match self {
            ErrorKind::Invalid | ErrorKind::TooLong | ErrorKind::Method => "invalid_request_error",
            ErrorKind::Unauthorized => "authentication_error",
            ErrorKind::Forbidden => "permission_error",
            ErrorKind::UnknownModel | ErrorKind::NotFound => "not_found_error",
            ErrorKind::TooLarge => "request_too_large",
            ErrorKind::QueueFull => "rate_limit_error",
            ErrorKind::Unavailable => "overloaded_error",
            ErrorKind::Timeout => "timeout_error",
            ErrorKind::Internal => "api_error",
        }
    }
}

/// Why a request gets no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP's number for it.
    pub status: StatusCode,
    /// What kind of thing it is.
    pub kind: ErrorKind,
    /// For a person: the offender, the limit, what to do.
    pub message: String,
    /// The field at fault.
    pub param: Option<String>,
    /// OpenAI's word for it.
    pub code: Option<&'static str>,
    /// Seconds after which trying again makes sense.
    pub retry_after: Option<u32>,
}

impl ApiError {
    /// An error of a kind, with the status and code that belong to it.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        ApiError {
            status: kind.status(),
            kind,
            message: shortened(message.into(), MAX_MESSAGE),
            param: None,
            code: kind.code(),
            retry_after: None,
        }
    }

    /// The request is wrong, 400. `param` is the field, where there is one: `"stop"` or `None`.
    pub fn invalid<'a>(param: impl Into<Option<&'a str>>, message: impl Into<String>) -> Self {
        ApiError {
            param: param
                .into()
                .map(|param| shortened(param.to_owned(), MAX_PARAM)),
            ..ApiError::new(ErrorKind::Invalid, message)
        }
    }

    /// Names the field at fault.
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(shortened(param.into(), MAX_PARAM));
        self
    }

    /// Names the field that a prompt came from, where its length is at fault: routes call it differently.
    pub fn of_prompt(self, field: &str) -> Self {
        match self.kind {
            ErrorKind::TooLong => self.with_param(field),
            _ => self,
        }
    }

    /// Gives the field at fault the name it has on a route, where that is another than `from`.
    pub fn renamed(self, from: &str, to: &str) -> Self {
        match self.param.as_deref() == Some(from) {
            true => self.with_param(to),
            false => self,
        }
    }

    /// Says when to try again.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// There is no model of this name. The words are those that Ollama's clients look for.
    pub fn unknown_model(name: &str) -> Self {
        let name: String = name.chars().take(200).collect();
        ApiError::new(ErrorKind::UnknownModel, format!("model '{name}' not found"))
            .with_param("model")
    }

    /// The prompt does not fit the context. The words are those by which clients of every dialect recognise it.
    pub fn too_long(n_prompt: usize, n_ctx: usize) -> Self {
        // A prompt that fills the context leaves no place for an answer.
        let most = n_ctx.min(n_prompt.saturating_sub(1));
        ApiError::new(
            ErrorKind::TooLong,
            format!(
                "prompt is too long: {n_prompt} tokens > {most} maximum; this model's maximum context length is {n_ctx} \
                 tokens, at least one of them for the answer, and nothing is ever cut silently"
            ),
        )
    }

    /// No key, or a wrong one.
    pub fn unauthorized() -> Self {
        ApiError::new(
            ErrorKind::Unauthorized,
            "this server needs a key: send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'",
        )
    }

    /// Refused whoever asks.
    pub fn forbidden(message: impl Into<String>) -> Self {
        ApiError::new(ErrorKind::Forbidden, message)
    }

    /// There is no such route or object.
    pub fn not_found(message: impl Into<String>) -> Self {
        ApiError::new(ErrorKind::NotFound, message)
    }

    /// The body is larger than the limit.
    pub fn too_large(limit: usize) -> Self {
        ApiError::new(
            ErrorKind::TooLarge,
            format!("the body is larger than {limit} bytes"),
        )
    }

    /// Too many requests wait.
    pub fn queue_full(n_waiting: usize, limit: usize) -> Self {
        ApiError::new(
            ErrorKind::QueueFull,
            format!("{n_waiting} requests are waiting, the limit is {limit}; try again later"),
        )
        .retry_after(5)
    }

    /// Not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        ApiError::new(ErrorKind::Unavailable, message).retry_after(5)
    }

    /// Our fault. The detail goes to the log, not to the client.
    pub fn internal(detail: impl std::fmt::Display) -> Self {
        tracing::error!(%detail, "a request failed");
        ApiError::new(
            ErrorKind::Internal,
            "the server failed on this request; its log says why",
        )
    }

    /// The error object of a dialect, as in a body or in a stream.
    pub fn body(&self, dialect: Dialect, request_id: &str) -> Value {
        match dialect {
            Dialect::OpenAi => json!({"error": {
                "message": self.message,
                "type": self.kind.openai(),
                "param": self.param,
                "code": self.code,
            }}),
            Dialect::Anthropic => json!({
                "type": "error",
                "error": {"type": self.kind.anthropic(), "message": self.message},
                "request_id": request_id,
            }),
            Dialect::Ollama => json!({"error": self.message}),
        }
    }

    /// The whole answer in a dialect.
    pub fn respond(&self, dialect: Dialect, request_id: &str) -> Response {
        let body = self.body(dialect, request_id).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.kind == ErrorKind::Unauthorized {
            let scheme = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl IntoResponse for ApiError {
    /// Leaves the error in the response's extensions; the outermost layer writes it in the route's dialect.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let field = match &error {
            RequestError::PromptTooLong { n_prompt, n_ctx } => {
                return ApiError::too_long(*n_prompt, *n_ctx);
            }
            RequestError::Parameter { name, .. } => Some(name.replace(' ', "_")),
            RequestError::Token { place, .. } if *place == "logit bias" => {
                Some("logit_bias".into())
            }
            RequestError::DuplicateBias { .. } | RequestError::NothingToDraw { .. } => {
                Some("logit_bias".into())
            }
            RequestError::EmptyStop { .. } => Some("stop".into()),
            RequestError::EmptyPrompt => Some("prompt".into()),
            _ => None,
        };
        ApiError::invalid(field.as_deref(), error.to_string())
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Request(error) => error.into(),
            SubmitError::QueueFull { n_waiting, limit } => ApiError::queue_full(n_waiting, limit),
            SubmitError::ShuttingDown => ApiError::unavailable("the server is shutting down"),
            other => ApiError::invalid(None, other.to_string()),
        }
    }
}

impl From<JobError> for ApiError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Deadline => ApiError::new(ErrorKind::Timeout, error.to_string()),
            JobError::ShuttingDown => ApiError::unavailable("the server is shutting down"),
            JobError::Engine(error) => match &*error {
                EngineError::Request(request) => ApiError::invalid(None, request.to_string()),
                other => ApiError::internal(other),
            },
            other => ApiError::internal(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_decides_the_dialect() {
        let cases = [
            ("/", Dialect::Ollama),
            ("/api", Dialect::Ollama),
            ("/api/chat", Dialect::Ollama),
            ("/api/nowhere", Dialect::Ollama),
            ("/apis", Dialect::OpenAi),
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1/models", Dialect::OpenAi),
            ("/v1/chat/completions", Dialect::OpenAi),
            ("/health", Dialect::OpenAi),
            ("/nowhere", Dialect::OpenAi),
        ];
        for (path, dialect) in cases {
            assert_eq!(Dialect::of_path(path), dialect, "{path}");
        }
    }

    #[test]
    fn one_error_in_three_dialects() {
        let error = ApiError::unknown_model("x");
        assert_eq!(error.status, StatusCode::NOT_FOUND);
        assert_eq!(
            error.body(Dialect::OpenAi, "req_1"),
            json!({"error": {"message": "model 'x' not found", "type": "invalid_request_error", "param": "model",
                "code": "model_not_found"}})
        );
        assert_eq!(
            error.body(Dialect::Anthropic, "req_1"),
            json!({"type": "error", "error": {"type": "not_found_error", "message": "model 'x' not found"},
                "request_id": "req_1"})
        );
        assert_eq!(
            error.body(Dialect::Ollama, "req_1"),
            json!({"error": "model 'x' not found"})
        );
    }

    #[test]
    fn every_kind_has_the_words_of_the_table() {
        use ErrorKind::*;
        let cases = [
            (
                Invalid,
                400,
                "invalid_request_error",
                None,
                "invalid_request_error",
            ),
            (
                TooLong,
                400,
                "invalid_request_error",
                Some("context_length_exceeded"),
                "invalid_request_error",
            ),
            (
                Unauthorized,
                401,
                "authentication_error",
                Some("invalid_api_key"),
                "authentication_error",
            ),
            (Forbidden, 403, "permission_error", None, "permission_error"),
            (
                UnknownModel,
                404,
                "invalid_request_error",
                Some("model_not_found"),
                "not_found_error",
            ),
            (
                NotFound,
                404,
                "invalid_request_error",
                None,
                "not_found_error",
            ),
            (
                Method,
                405,
                "invalid_request_error",
                None,
                "invalid_request_error",
            ),
            (
                TooLarge,
                413,
                "invalid_request_error",
                None,
                "request_too_large",
            ),
            (QueueFull, 429, "rate_limit_error", None, "rate_limit_error"),
            (Unavailable, 503, "server_error", None, "overloaded_error"),
            (Timeout, 504, "server_error", None, "timeout_error"),
            (Internal, 500, "server_error", None, "api_error"),
        ];
        for (kind, status, openai, code, anthropic) in cases {
            let error = ApiError::new(kind, "m");
            let openai_body = error.body(Dialect::OpenAi, "");
            assert_eq!(error.status, status, "{kind:?}");
            assert_eq!(openai_body["error"]["type"], openai, "{kind:?}");
            assert_eq!(openai_body["error"]["code"], json!(code), "{kind:?}");
            let object = openai_body["error"].as_object().unwrap();
            assert_eq!(object.len(), 4, "four keys always");
            let anthropic_body = error.body(Dialect::Anthropic, "");
            assert_eq!(anthropic_body["error"]["type"], anthropic, "{kind:?}");
        }
    }

    #[test]
    fn an_error_does_not_repeat_all_that_it_was_sent() {
        let long = "🔥".repeat(100_000);
        let error = ApiError::invalid(long.as_str(), format!("'{long}' is no field"));
        assert_eq!(error.message.chars().count(), MAX_MESSAGE + 1);
        assert!(error.message.ends_with('…'));
        let param = error.param.as_ref().map(|param| param.chars().count());
        assert_eq!(param, Some(MAX_PARAM + 1));
        assert_eq!(error.clone().with_param(long).param, error.param);
    }

    #[test]
    fn an_over_long_prompt_is_told_in_the_words_clients_search_for() {
        let full = ApiError::too_long(4096, 4096).message;
        assert!(full.contains("4096 tokens > 4095 maximum"), "{full}");
        let message = ApiError::too_long(9000, 4096).message;
        assert!(
            message.contains("prompt is too long: 9000 tokens > 4096 maximum"),
            "{message}"
        );
        assert!(
            message.contains("maximum context length is 4096 tokens"),
            "{message}"
        );
    }
}
