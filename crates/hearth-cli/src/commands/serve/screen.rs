//! What somebody who starts a server sees: its address, its models, what is private, how to point a client at it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use hearth_engine::prefix::DiskOptions;
use hearth_server::app::App;
use hearth_server::models::ModelInfo;

use crate::args::DEFAULT_PORT;
use crate::failure::one_line;
use crate::printer;

/// What the screen is made of beside the server itself.
pub struct Facts {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether only this machine can reach it.
    pub is_local: bool,
    /// Where prompts are kept.
    pub disk: Option<DiskOptions>,
    /// Where answers are kept.
    pub responses: Option<PathBuf>,
}

/// Prints it on standard error.
pub async fn print(app: &App, facts: &Facts) {
    let models = app.models.list().await;
    printer::note(screen(app, &models, facts));
}

fn screen(app: &App, models: &[ModelInfo], facts: &Facts) -> String {
    let base = format!("http://{}", shown(facts.address));
    let mut text = format!("hearth {} serves at {base}\n\n", env!("CARGO_PKG_VERSION"));
    text += &model_table(models);
    let who = match facts.is_local {
        true => "only programs on this machine can ask; nothing leaves it, and no prompt is logged",
        false => {
            "other machines can ask, without encryption; nothing else leaves this one, and no prompt is logged"
        }
    };
    let keys = match app.keys.are_needed() {
        true => "every request needs one",
        false => "none is needed; 'hearth keys add NAME' makes one",
    };
    let cache = match &facts.disk {
        Some(disk) => format!(
            "prompts are kept in {} (at most {}); --no-disk-cache keeps none",
            one_line(&disk.folder.to_string_lossy()),
            printer::bytes(disk.max_bytes)
        ),
        None => "no prompt is kept on disk".into(),
    };
    let answers = match &facts.responses {
        Some(path) => format!(
            "those of /v1/responses are kept in {} unless a request says no",
            one_line(&path.to_string_lossy())
        ),
        None => "those of /v1/responses are kept in memory".into(),
    };
    let manage = match app.may_manage() {
        true => "clients may copy and delete models of the store",
        false => "copying and deleting models is switched off; --manage switches it on",
    };
    let url = match facts.address.port() {
        DEFAULT_PORT => String::new(),
        _ => format!(" --url {base}"),
    };
    let lines = [
        ("private", who.to_owned()),
        ("keys", keys.to_owned()),
        ("cache", cache),
        ("answers", answers),
        ("manage", manage.to_owned()),
        ("OpenAI's clients", format!("{base}/v1")),
        ("Anthropic's", base.clone()),
        ("Ollama's", base.clone()),
        (
            "or",
            format!("hearth launch codex|opencode|aider|claude|llm{url}"),
        ),
    ];
    for (label, value) in lines {
        let _ = writeln!(text, "{label:<17} {value}");
    }
    text + "\nCtrl-C ends it.\n"
}

fn model_table(models: &[ModelInfo]) -> String {
    if models.is_empty() {
        return "The store has no model yet: put GGUF files into the folder 'models' under HEARTH_HOME.\n\n".into();
    }
    let row = |model: &ModelInfo| {
        let (n_ctx, state) = match &model.loaded {
            Some(loaded) => (loaded.engine.n_ctx(), "loaded"),
            None => (model.details.n_ctx_train, "when asked for"),
        };
        vec![
            one_line(&model.name),
            n_ctx.to_string(),
            one_line(&model.details.quantization),
            printer::bytes(model.details.size),
            state.to_owned(),
        ]
    };
    let rows: Vec<_> = models.iter().map(row).collect();
    let header = ["model", "context", "type", "size", ""];
    printer::table(&header, &[false, true, false, true, false], &rows) + "\n"
}

/// The address a client on this machine can use.
fn shown(address: SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_unspecified() => format!("127.0.0.1:{}", address.port()),
        _ => address.to_string(),
    }
}
