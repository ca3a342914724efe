//! Routes of no dialect or of several: health, figures, the list of models, the table of routes, the front page, and
//! the helpers that show how a text becomes tokens.

mod helpers;
mod models;
mod openapi;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use serde_json::json;

use crate::{app::App, routes::Routes};

/// The table.
pub fn routes() -> Routes {
    Routes::new()
        .get("/", "A page for people; text for programs", front)
        .get(
            "/health",
            "Whether the server takes requests; needs no key",
            health,
        )
        .get("/metrics", "Figures for Prometheus", metrics)
        .get("/openapi.json", "This table", openapi::document)
        .get("/v1/models", "The models", models::list)
        .get("/v1/models/{*id}", "One model", models::one)
        .post("/tokenize", "Cuts a text into tokens", helpers::tokenize)
        .post(
            "/detokenize",
            "Puts tokens together to a text",
            helpers::detokenize,
        )
        .post(
            "/apply-template",
            "Renders a conversation",
            helpers::apply_template,
        )
}

async fn health(State(app): State<App>) -> Response {
    match app.is_closing() {
        false => Json(json!({"status": "ok"})).into_response(),
        true => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": "closing"})),
        )
            .into_response(),
    }
}

async fn metrics(State(app): State<App>) -> Response {
    let text = app.metrics.render(&app.models.snapshots());
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// Ollama's clients look for these words.
const RUNNING: &str = "Ollama is running";

/// The page has no script and loads nothing.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
);

async fn front(State(app): State<App>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    if !accept.is_some_and(|accept| accept.contains("text/html")) {
        return RUNNING.into_response();
    }
    // The host was checked by `auth.rs`, so it is a name of this server.
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("localhost");
    let models = app.models.list().await;
    let names = models
        .iter()
        .map(|model| format!("<li><code>{}</code></li>", escape(&model.name)));
    let page = include_str!("front.html")
        .replace("{base}", &format!("http://{}", escape(host)))
        .replace(
            "{key}",
            if app.keys.are_needed() {
                "a key of this server"
            } else {
                "any text (no key is needed)"
            },
        )
        .replace("{models}", &names.collect::<String>());
    let mut response = Html(page).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, POLICY);
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_cannot_become_markup() {
        assert_eq!(
            super::escape("<a href=\"x\">&"),
            "&lt;a href=&quot;x&quot;&gt;&amp;"
        );
    }
}
