//! How a text becomes tokens, in the words of llama.cpp's server (`content`) and of vLLM (`prompt`, `messages`).
//!
//! A body names its model; where there is only one it need not.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use hearth_text::{Encode, Tokenizer};
use serde_json::{Map, Value, json};

use crate::{
    answer,
    app::App,
    body::Object,
    error::ApiError,
    exchange::Prompt,
    fields::{self, Fields},
    models::Loaded,
    notice::Notices,
    openai,
};
use std::sync::Arc;

/// `POST /tokenize`
pub async fn tokenize(State(app): State<App>, Object(body): Object) -> Result<Response, ApiError> {
    let mut fields = Fields::new(&body);
    let mut notices = Notices::of_body(&mut fields, app.limits.notices)?;
    let loaded = model(&app, &mut fields).await?;
    let with_pieces = fields.bool("with_pieces")?.unwrap_or(false);
    let content = fields.string("content")?;
    let text = match &content {
        Some(_) => content.clone(),
        None => fields.string("prompt")?,
    };
    // llama.cpp adds nothing and reads special tokens; vLLM adds them and reads none.
    let adds = fields.bool("add_special")?.unwrap_or(content.is_none());
    let how = Encode {
        add_special: fields.bool("add_special_tokens")?.unwrap_or(adds),
        parse_special: fields.bool("parse_special")?.unwrap_or(content.is_some()),
    };
    let tokens = match text {
        Some(text) => cut(&loaded, text, how).await?,
        None => {
            let chat = openai::chat_of(&mut fields, &app.limits, &mut notices)?;
            answer::tokens(&app, &Prompt::Chat(chat), &loaded.name).await?
        }
    };
    fields.finish(&mut notices);
    notices.check()?;
    let n = tokens.len();
    let list: Value = match with_pieces {
        true => tokens
            .iter()
            .map(|token| piece(loaded.engine.tokenizer(), *token))
            .collect(),
        false => tokens.into(),
    };
    let body = json!({"tokens": list, "count": n, "max_model_len": loaded.engine.n_ctx()});
    let mut response = Json(body).into_response();
    notices.apply(&mut response);
    Ok(response)
}

/// `POST /detokenize`
pub async fn detokenize(
    State(app): State<App>,
    Object(body): Object,
) -> Result<Response, ApiError> {
    let mut fields = Fields::new(&body);
    let mut notices = Notices::of_body(&mut fields, app.limits.notices)?;
    let loaded = model(&app, &mut fields).await?;
    let list = fields.array("tokens")?;
    let list = fields.required("tokens", list)?;
    let n_vocab = loaded.engine.tokenizer().n_vocab();
    let token = |(index, value)| {
        let token = fields::integer(value).and_then(|token| u32::try_from(token).ok());
        token
            .filter(|token| (*token as usize) < n_vocab)
            .ok_or_else(|| {
                let wanted = format!("a token id below {n_vocab}");
                fields.wrong(&format!("tokens[{index}]"), &wanted, value)
            })
    };
    let tokens: Vec<u32> = list
        .iter()
        .enumerate()
        .map(token)
        .collect::<Result<_, _>>()?;
    let bytes = joined(loaded.engine.tokenizer(), &tokens);
    fields.finish(&mut notices);
    notices.check()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut response = Json(json!({"content": text, "prompt": text})).into_response();
    notices.apply(&mut response);
    Ok(response)
}

/// `POST /apply-template`
pub async fn apply_template(
    State(app): State<App>,
    Object(body): Object,
) -> Result<Response, ApiError> {
    let mut fields = Fields::new(&body);
    let mut notices = Notices::of_body(&mut fields, app.limits.notices)?;
    let loaded = model(&app, &mut fields).await?;
    let chat = openai::chat_of(&mut fields, &app.limits, &mut notices)?;
    fields.finish(&mut notices);
    notices.check()?;
    let tokens = answer::tokens(&app, &Prompt::Chat(chat), &loaded.name).await?;
    let bytes = joined(loaded.engine.tokenizer(), &tokens);
    let mut response = Json(json!({"prompt": String::from_utf8_lossy(&bytes)})).into_response();
    notices.apply(&mut response);
    Ok(response)
}

async fn model(app: &App, fields: &mut Fields<'_>) -> Result<Arc<Loaded>, ApiError> {
    match fields.string("model")? {
        Some(name) => app.models.get(&name).await,
        None => app.models.only().await,
    }
}

/// Cuts a text where it holds up nobody.
async fn cut(loaded: &Arc<Loaded>, text: String, how: Encode) -> Result<Vec<u32>, ApiError> {
    let loaded = loaded.clone();
    let task = tokio::task::spawn_blocking(move || loaded.engine.tokenizer().encode(&text, how));
    task.await.map_err(ApiError::internal)
}

/// The text of tokens, control tokens included: what was cut with `parse_special` comes back. The tokenizer puts a space in front of
/// a text and after every control token, or does not; decoding part by part takes the same ones away.
fn joined(tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<u8> {
    let is_control = |token: &u32| tokenizer.is_control(*token);
    let mut bytes = Vec::new();
    for run in tokens.chunk_by(|a, b| is_control(a) == is_control(b)) {
        if is_control(&run[0]) {
            let pieces = run.iter().filter_map(|token| tokenizer.piece(*token));
            pieces.for_each(|piece| bytes.extend_from_slice(piece));
        } else {
            bytes.extend(tokenizer.decode(run));
        }
    }
    bytes
}

/// A token with its text, or with its bytes where they are no text.
fn piece(tokenizer: &Tokenizer, token: u32) -> Value {
    let bytes = tokenizer.piece(token).unwrap_or_default();
    let piece = std::str::from_utf8(bytes).map_or_else(|_| json!(bytes), |text| json!(text));
    let entry: Map<String, Value> = [("id".to_owned(), json!(token)), ("piece".to_owned(), piece)]
        .into_iter()
        .collect();
    Value::Object(entry)
}

#[cfg(test)]
mod tests {
    use hearth_gguf::{Gguf, TensorType};
    use hearth_testing::TinyModel;

    use super::*;

    #[test]
    fn cutting_and_joining_are_inverse_where_spaces_are_added() {
        let gguf = Gguf::from_vec(TinyModel::new("llama", TensorType::F32).build()).unwrap();
        let tokenizer = Tokenizer::from_metadata(gguf.metadata()).unwrap();
        let how = Encode {
            add_special: false,
            parse_special: true,
        };
        for text in [
            "",
            "the fire",
            " the",
            "</s>",
            "a</s> b</s>c",
            "</s></s> \u{1f525}",
            "<s>\n",
        ] {
            let tokens = tokenizer.encode(text, how);
            let back = String::from_utf8(joined(&tokenizer, &tokens)).unwrap();
            assert_eq!(back, text, "{tokens:?}");
        }
    }
}
