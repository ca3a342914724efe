//! `GET /v1/models` and `/v1/models/{id}`, in the words of OpenAI's and of Anthropic's clients at once: both ask here.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use hearth_text::Timestamp;
use serde_json::{Value, json};

use crate::{app::App, error::ApiError, models::ModelInfo};

/// All models.
pub async fn list(State(app): State<App>) -> Response {
    let models = app.models.list().await;
    let data: Vec<Value> = models.iter().map(describe).collect();
    let id = |model: Option<&Value>| model.map(|model| model["id"].clone());
    let (first, last) = (id(data.first()), id(data.last()));
    Json(json!({
        "object": "list",
        "data": data,
        "has_more": false,
        "first_id": first,
        "last_id": last,
    }))
    .into_response()
}

/// One model. Its id may have slashes, written plain or as `%2F`.
pub async fn one(State(app): State<App>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let mut model = describe(&app.models.info(&id).await?);
    // `m:latest` is answered as it was asked for.
    model["id"] = json!(id);
    Ok(Json(model).into_response())
}

fn describe(model: &ModelInfo) -> Value {
    let details = &model.details;
    let n_ctx = model.loaded.as_ref().map(|loaded| loaded.engine.n_ctx());
    let created = seconds(details.modified);
    json!({
        "id": model.name,
        "object": "model",
        "created": created,
        "owned_by": "hearth",
        "type": "model",
        "display_name": model.name,
        "created_at": rfc3339(details.modified),
        "lifecycle": "active",
        "max_model_len": n_ctx.unwrap_or(details.n_ctx_train),
        "meta": {
            "n_ctx": n_ctx,
            "n_ctx_train": details.n_ctx_train,
            "n_params": details.n_params,
            "size": details.size,
            "architecture": details.architecture,
            "quantization": details.quantization,
            "capabilities": details.capabilities,
        },
    })
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// A time as `2026-11-25T21:00:00Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = i64::try_from(seconds(time)).unwrap_or_default();
    Timestamp::from_unix_seconds(seconds).format("%Y-%m-%dT%H:%M:%SZ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_written_as_the_sdks_read_them() {
        let time = UNIX_EPOCH + Duration::from_secs(1_764_100_805);
        assert_eq!(rfc3339(time), "2025-11-25T20:00:05Z");
    }
}
