//! `POST /v1/rerank`: which documents answer a question best.
//!
//! Only a model with a ranking head can say that, and no family here has one, so every model that is known refuses. Rows of
//! similar vectors would look like an answer and be another thing.

use axum::extract::State;

use super::common;
use crate::{app::App, body::Object, error::ApiError, fields::Fields};

/// Says why the model cannot.
pub(super) async fn rerank(State(app): State<App>, Object(body): Object) -> Result<(), ApiError> {
    let model = common::model(&mut Fields::new(&body))?;
    app.models.info(&model).await?;
    Err(ApiError::invalid(
        "model",
        format!(
            "model '{model}' has no ranking head and cannot rank documents; no model family of this server has one yet, \
             /v1/embeddings gives vectors to compare"
        ),
    ))
}
