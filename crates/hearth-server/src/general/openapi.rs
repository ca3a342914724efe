//! `GET /openapi.json`: the table of routes in the form that tools read.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde_json::{Map, Value, json};

use crate::{app::App, error::Dialect, routes::RouteInfo};

/// The document, made from the table the router is made from.
pub async fn document(State(app): State<App>) -> Json<Value> {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for route in app.routes.iter() {
        // OpenAPI has no name for "all that follows".
        let path = route.path.replace("{*", "{");
        let operations = paths.entry(path).or_default();
        operations.insert(route.method.to_ascii_lowercase(), operation(route));
    }
    Json(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hearth",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "OpenAI's, Anthropic's and Ollama's dialects of one server. The bodies are those of the official clients.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }))
}

fn operation(route: &RouteInfo) -> Value {
    let dialect = Dialect::of_path(route.path);
    let tag = match dialect {
        Dialect::OpenAi => "OpenAI",
        Dialect::Anthropic => "Anthropic",
        Dialect::Ollama => "Ollama",
    };
    let mut operation = json!({
        "summary": route.summary,
        "tags": [tag],
        "parameters": parameters(route.path),
        "responses": {"200": {"description": "the answer"}, "default": {"description": "an error in the words of the dialect"}},
    });
    if route.path != "/health" {
        operation["security"] = json!([{"bearer": []}, {"header": []}]);
    }
    if route.method == "POST" {
        operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": {"type": "object"}}}});
    }
    operation
}

fn parameters(path: &str) -> Value {
    let names = path
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split('}').next());
    names
        .map(|name| {
            let name = name.trim_start_matches('*');
            json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
        })
        .collect()
}
