//! What the routes about models say: tags, ps, show.

use std::time::SystemTime;

use hearth_gguf::{Array, Metadata, Value as Entry};
use serde_json::{Map, Value, json};

use crate::models::{Details, ModelInfo};

/// A moment as RFC 3339, in UTC.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let timestamp = hearth_text::Timestamp::from_unix_seconds(seconds);
    format!(
        "{}.{:06}Z",
        timestamp.format("%Y-%m-%dT%H:%M:%S"),
        since.subsec_micros()
    )
}

/// The object that clients know a model by.
pub(super) fn details(details: &Details) -> Value {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": details.architecture,
        "families": [details.architecture],
        "parameter_size": details.parameter_size(),
        "quantization_level": details.quantization,
    })
}

fn common(model: &ModelInfo) -> Map<String, Value> {
    let fields = [
        ("name", Value::from(model.name.as_str())),
        ("model", model.name.as_str().into()),
        ("size", model.details.size.into()),
        ("digest", model.details.digest.as_str().into()),
        ("details", details(&model.details)),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// A row of `/api/tags`.
pub(super) fn tag(model: &ModelInfo) -> Value {
    let mut row = common(model);
    row.insert("modified_at".into(), rfc3339(model.details.modified).into());
    row.into()
}

/// A row of `/api/ps`, for a model that is loaded.
pub(super) fn running(model: &ModelInfo) -> Option<Value> {
    /// When a model that stays for good is said to go: the year 2262, as far as clients' clocks reach.
    const FOR_GOOD: u64 = 9_214_646_400;
    let loaded = model.loaded.as_ref()?;
    let for_good = || SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(FOR_GOOD);
    let expires_at = loaded.expires_at().unwrap_or_else(for_good);
    let mut row = common(model);
    row.insert("size".into(), loaded.memory_bytes().into());
    row.insert("expires_at".into(), rfc3339(expires_at).into());
    row.insert("size_vram".into(), 0.into());
    row.insert("context_length".into(), loaded.engine.n_ctx().into());
    Some(row.into())
}

/// The answer of `/api/show`.
pub(super) fn show(info: &Details, metadata: &Metadata, is_verbose: bool) -> Value {
    let text = |key: &str| metadata.get_str(key).ok().flatten().unwrap_or_default();
    let mut model_info: Map<String, Value> = metadata
        .iter()
        .map(|(key, value)| (key.to_owned(), json_of(value, is_verbose)))
        .collect();
    model_info.insert("general.parameter_count".into(), info.n_params.into());
    json!({
        "license": text("general.license"),
        "modelfile": "",
        "parameters": "",
        "template": text("tokenizer.chat_template"),
        "details": details(info),
        "model_info": model_info,
        "capabilities": info.capabilities,
        "modified_at": rfc3339(info.modified),
    })
}

/// A value of the file; long lists only if they are asked for.
fn json_of(value: &Entry, is_verbose: bool) -> Value {
    const SHORT: usize = 64;
    match value {
        Entry::Array(array) if array.len() > SHORT && !is_verbose => Value::Null,
        Entry::Array(array) => list(array),
        Entry::String(text) => text.as_str().into(),
        Entry::Bool(value) => (*value).into(),
        Entry::Bytes(bytes) => String::from_utf8_lossy(bytes).into(),
        Entry::F32(value) => (*value).into(),
        Entry::F64(value) => (*value).into(),
        other => {
            let number = other.as_integer().unwrap_or_default();
            let small = i64::try_from(number).map(Value::from);
            small.unwrap_or_else(|_| u64::try_from(number).map_or(Value::Null, Value::from))
        }
    }
}

fn list(array: &Array) -> Value {
    let entries = (0..array.len()).filter_map(|index| array.get(index));
    entries.map(|entry| json_of(&entry, true)).collect()
}
