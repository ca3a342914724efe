//! The router: what every request passes through, and where the dialects plug in.
//!
//! Outside in: `frame` gives a request its id, puts its path into normal form, watches its body, and writes errors in the
//! dialect of the path; `auth::guard` checks host, origin and key; then the routes of the table. A dialect is a
//! [`Routes`] and nothing more.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, uri::PathAndQuery},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;

use crate::{
    auth::{self, Access, RequestId},
    body::{Upload, Uploads},
    error::{ApiError, Dialect, ErrorKind},
    keys::Keys,
    limits::Limits,
    metrics::Metrics,
    models::Models,
    openai::responses::store::{Bounds, ResponseStore},
    routes::{Answered, RouteInfo, Routes},
};

/// First parts of paths that mean the same without `/v1` in front.
const WITHOUT_V1: [&str; 7] = [
    "chat",
    "completions",
    "embeddings",
    "models",
    "rerank",
    "reranking",
    "responses",
];

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// What all handlers share. Cloning shares it.
#[derive(Clone)]
pub struct App {
    /// The models.
    pub models: Arc<Models>,
    /// What a client may ask for at most.
    pub limits: Arc<Limits>,
    /// Who may ask.
    pub keys: Arc<Keys>,
    /// Under which names, from which pages.
    pub access: Arc<Access>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Answers that later requests may go on from.
    pub responses: ResponseStore,
    /// Bytes of bodies being read.
    pub uploads: Uploads,
    /// The table of routes.
    pub routes: Arc<[RouteInfo]>,
    may_manage: bool,
    is_closing: Arc<AtomicBool>,
}

impl App {
    /// The state of one server.
    pub fn new(
        models: Arc<Models>,
        limits: Limits,
        keys: Keys,
        access: Access,
        metrics: Arc<Metrics>,
    ) -> App {
        let responses = ResponseStore::in_memory(Bounds::of(&limits));
        App {
            responses: responses.expect("memory holds an empty database"),
            models,
            limits: Arc::new(limits),
            keys: Arc::new(keys),
            access: Arc::new(access),
            metrics,
            uploads: Uploads::default(),
            routes: Arc::from([]),
            may_manage: false,
            is_closing: Arc::default(),
        }
    }

    /// Keeps responses in this store instead of in memory.
    pub fn keeping_responses(self, responses: ResponseStore) -> App {
        App { responses, ..self }
    }

    /// Lets requests copy and delete models of the store.
    pub fn managing(self) -> App {
        App {
            may_manage: true,
            ..self
        }
    }

    /// Whether requests may.
    pub fn may_manage(&self) -> bool {
        self.may_manage
    }

    /// Says that the server takes no new requests.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    /// Whether it takes none.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }
}

/// All routes there are.
pub fn routes() -> Routes {
    crate::general::routes()
        .merge(crate::openai::routes())
        .merge(crate::anthropic::routes())
        .merge(crate::ollama::routes())
}

/// The server as a service.
pub fn router(app: App) -> Router {
    assemble(app, routes())
}

/// The same with a table of one's own.
pub(crate) fn assemble(mut app: App, routes: Routes) -> Router {
    app.routes = routes.list().into();
    let inner = routes
        .into_router()
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::disable())
        .with_state(app.clone());
    // The outer router has no routes: what it adds happens before the inner one looks at the path.
    Router::new()
        .fallback_service(inner)
        .layer(middleware::from_fn_with_state(app.clone(), auth::guard))
        .layer(middleware::from_fn_with_state(app, frame))
}

async fn unknown_route(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(200).collect();
    ApiError::not_found(format!(
        "there is no route '{path}'; GET /openapi.json lists them"
    ))
}

async fn wrong_method(request: Request) -> ApiError {
    let (method, path) = (request.method(), request.uri().path());
    let message = format!("'{path}' does not take {method}");
    ApiError::new(ErrorKind::Method, message)
}

/// The outermost layer.
async fn frame(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::new();
    normalise(request.uri_mut());
    let dialect = Dialect::of_path(request.uri().path());
    let method = request.method().clone();
    request.extensions_mut().insert(id.clone());
    let request = Upload::wrap(request, &app.limits);
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let response =
        answered.unwrap_or_else(|_| ApiError::internal("a handler panicked").into_response());
    let mut response = in_dialect(response, dialect, &id.0);
    add_headers(response.headers_mut(), dialect, &id.0);
    let status = response.status().as_u16();
    let route = response.extensions_mut().remove::<Answered>();
    let route = route.map_or("unmatched", |route| route.0);
    let who = response
        .extensions_mut()
        .remove::<auth::Who>()
        .unwrap_or_default();
    app.metrics.answered(route, status, started.elapsed());
    tracing::info!(id = &*id.0, %method, route, status, key = &*who.0, ms = started.elapsed().as_millis() as u64, "request");
    response
}

/// Writes what a handler left as an error, and errors of axum's own, in the dialect of the path.
fn in_dialect(mut response: Response, dialect: Dialect, id: &str) -> Response {
    let status = response.status();
    let json = HeaderValue::from_static("application/json");
    let is_json = response.headers().get(header::CONTENT_TYPE) == Some(&json);
    let error = match response.extensions_mut().remove::<ApiError>() {
        Some(error) => error,
        None if (status.is_client_error() || status.is_server_error()) && !is_json => {
            of_status(status)
        }
        None => return response,
    };
    let mut written = error.respond(dialect, id);
    // What layers have added stays: CORS, `allow`, notices.
    for (name, value) in response.headers() {
        if !matches!(*name, header::CONTENT_TYPE | header::CONTENT_LENGTH) {
            written.headers_mut().append(name, value.clone());
        }
    }
    *written.extensions_mut() = std::mem::take(response.extensions_mut());
    written
}

fn of_status(status: StatusCode) -> ApiError {
    let kind = match status {
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => ErrorKind::Method,
        StatusCode::PAYLOAD_TOO_LARGE => ErrorKind::TooLarge,
        status if status.is_server_error() => ErrorKind::Internal,
        _ => ErrorKind::Invalid,
    };
    ApiError::new(
        kind,
        status.canonical_reason().unwrap_or("the request is wrong"),
    )
}

fn add_headers(headers: &mut HeaderMap, dialect: Dialect, id: &str) {
    let name = match dialect {
        Dialect::Anthropic => REQUEST_ID,
        Dialect::OpenAi | Dialect::Ollama => X_REQUEST_ID,
    };
    headers.insert(name, HeaderValue::from_str(id).expect("ids are ASCII"));
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
}

/// Puts a path into normal form: base URLs end in a slash or not, with `/v1` or without.
fn normalise(uri: &mut Uri) {
    let Some(path) = normal_path(uri.path()) else {
        return;
    };
    let path = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let Ok(path) = path.parse::<PathAndQuery>() else {
        return;
    };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(path);
    *uri = Uri::from_parts(parts).expect("only the path is another");
}

/// The normal form of a path that has another: single slashes, none at the end, `/v1` in front.
fn normal_path(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts
        .first()
        .is_some_and(|first| WITHOUT_V1.contains(first))
    {
        parts.insert(0, "v1");
    }
    let normal = format!("/{}", parts.join("/"));
    (normal != path).then_some(normal)
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;

    #[test]
    fn paths_have_one_normal_form() {
        let cases = [
            ("/v1/models", None),
            ("/", None),
            ("//", Some("/")),
            ("/v1//chat/completions", Some("/v1/chat/completions")),
            ("//v1/messages/", Some("/v1/messages")),
            ("/v1/", Some("/v1")),
            ("/chat/completions", Some("/v1/chat/completions")),
            ("/models/a%2Fb", Some("/v1/models/a%2Fb")),
            (
                "/responses/resp_1/input_items/",
                Some("/v1/responses/resp_1/input_items"),
            ),
            ("/api/chat", None),
            ("/modelsx", None),
            ("*", None),
            ("", None),
        ];
        for (path, normal) in cases {
            assert_eq!(normal_path(path).as_deref(), normal, "{path}");
        }
    }

    #[test]
    fn a_query_and_a_host_survive() {
        let mut uri: Uri = "http://localhost:1/v1//messages?beta=true".parse().unwrap();
        normalise(&mut uri);
        assert_eq!(uri.to_string(), "http://localhost:1/v1/messages?beta=true");
    }

    async fn breaks() -> String {
        panic!("on purpose")
    }

    async fn hides() -> Response {
        (StatusCode::BAD_GATEWAY, "a secret of the inside").into_response()
    }

    fn app() -> App {
        let settings = crate::models::ModelSettings {
            store: None,
            engine: hearth_engine::EngineOptions::default(),
            ttl: None,
            memory_bytes: None,
            max_name_bytes: 256,
        };
        let level = hearth_kernels::Level::best();
        let kernels = hearth_kernels::Kernels::new(level, std::num::NonZeroUsize::MIN).unwrap();
        let metrics = Arc::new(Metrics::default());
        let models = Models::new(Vec::new(), settings, kernels, metrics.clone());
        App::new(
            models,
            Limits::default(),
            Keys::default(),
            Access::default(),
            metrics,
        )
    }

    #[tokio::test]
    async fn faults_of_ours_are_told_in_the_dialect_and_without_detail() {
        let routes =
            Routes::new()
                .get("/v1/messages", "panics", breaks)
                .get("/api/tags", "fails", hides);
        let router = assemble(app(), routes);
        for (path, key) in [("/v1/messages", "request_id"), ("/api/tags", "error")] {
            let request = Request::builder().uri(path).header("host", "localhost");
            let request = request.body(axum::body::Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), 500, "{path}");
            let body = axum::body::to_bytes(response.into_body(), 1 << 16)
                .await
                .unwrap();
            let text = String::from_utf8(body.to_vec()).unwrap();
            assert!(
                text.contains(key) && !text.contains("secret") && !text.contains("purpose"),
                "{text}"
            );
        }
    }
}
