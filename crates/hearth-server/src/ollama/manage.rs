//! Routes that are about the store itself. Without `serve --manage` they are switched off; with it, copies are made and
//! models deleted, inside the store only.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde_json::json;

use super::{request::model_name, routes::with_notices};
use crate::{
    app::App, body::Object, error::ApiError, fields::Fields, notice::Notices, sse::ndjson,
};

fn check_allowed(app: &App) -> Result<(), ApiError> {
    match app.may_manage() {
        true => Ok(()),
        false => Err(ApiError::forbidden(
            "this route is switched off: 'hearth serve --manage' switches it on",
        )),
    }
}

/// What is no part of a store of plain files.
pub(super) async fn refused(Object(_): Object) -> ApiError {
    ApiError::forbidden(
        "hearth makes no models and sends none away: the store takes GGUF files as they are",
    )
}

pub(super) async fn copy(
    State(app): State<App>,
    Object(body): Object,
) -> Result<Response, ApiError> {
    check_allowed(&app)?;
    let mut fields = Fields::new(&body);
    let mut notices = Notices::of_body(&mut fields, app.limits.notices)?;
    let source = fields.string("source")?;
    let source = fields.required("source", source)?;
    let destination = fields.string("destination")?;
    let destination = fields.required("destination", destination)?;
    fields.finish(&mut notices);
    notices.check()?;
    app.models.copy(&source, &destination).await?;
    Ok(with_notices(StatusCode::OK.into_response(), &notices))
}

pub(super) async fn delete(
    State(app): State<App>,
    Object(body): Object,
) -> Result<Response, ApiError> {
    check_allowed(&app)?;
    let mut fields = Fields::new(&body);
    let mut notices = Notices::of_body(&mut fields, app.limits.notices)?;
    let name = model_name(&mut fields)?;
    fields.finish(&mut notices);
    notices.check()?;
    app.models.remove(&name).await?;
    Ok(with_notices(StatusCode::OK.into_response(), &notices))
}

/// A model that is there needs no download; nothing else can be had.
pub(super) async fn pull(
    State(app): State<App>,
    Object(body): Object,
) -> Result<Response, ApiError> {
    let mut fields = Fields::new(&body);
    let mut notices = Notices::of_body(&mut fields, app.limits.notices)?;
    let name = model_name(&mut fields)?;
    let is_streamed = fields.bool("stream")?.unwrap_or(true);
    fields.finish(&mut notices);
    notices.check()?;
    if app.models.info(&name).await.is_err() {
        check_allowed(&app)?;
        let name: String = name.chars().take(200).collect();
        return Err(ApiError::not_found(format!(
            "model '{name}' is not here, and this hearth has no downloader yet: put its GGUF file into the store"
        )));
    }
    let success = json!({"status": "success"});
    let response = match is_streamed {
        true => ndjson(stream::iter([success])),
        false => Json(success).into_response(),
    };
    Ok(with_notices(response, &notices))
}
