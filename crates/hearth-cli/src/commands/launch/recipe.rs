//! How each client is pointed at a server.
//!
//! Read from the clients' own documentation and run as they stand here. A client that takes its settings from the
//! environment or the command line gets them there; the others get a file in our folder.

use std::path::PathBuf;

use serde_json::json;

use crate::args::ClientArg;

/// What a client is to know.
#[derive(Debug)]
pub struct Server {
    /// Address without a path.
    pub url: String,
    /// The model's name.
    pub model: String,
    /// Tokens it can hold.
    pub n_ctx: usize,
    /// The key, if the server needs one.
    pub key: Option<String>,
    /// Folder for files of ours.
    pub folder: PathBuf,
}

/// What starts a client.
#[derive(Debug, Default)]
pub struct Recipe {
    /// The program.
    pub program: &'static str,
    /// Its arguments, before those of the user.
    pub arguments: Vec<String>,
    /// Variables of its environment.
    pub variables: Vec<(&'static str, String)>,
    /// Variables of the user's that would lead the client elsewhere: it is started without them.
    pub removed: &'static [&'static str],
    /// The variable that carries the key.
    pub key_variable: Option<&'static str>,
    /// Whether it is a real one.
    pub has_key: bool,
    /// Files of ours that it reads.
    pub files: Vec<(PathBuf, String)>,
    /// How to get it.
    pub install: &'static str,
}

impl Recipe {
    /// The recipe for a client.
    pub fn new(client: ClientArg, server: &Server) -> Recipe {
        let mut recipe = match client {
            ClientArg::Codex => codex(server),
            ClientArg::Opencode => opencode(server),
            ClientArg::Aider => aider(server),
            ClientArg::Claude => claude(server),
            ClientArg::Llm => llm(server),
        };
        recipe.has_key = server.key.is_some();
        recipe
    }
}

impl Server {
    /// Clients insist on a key; a server without keys takes any.
    fn key(&self) -> String {
        self.key.clone().unwrap_or_else(|| "none".into())
    }

    /// Tokens an answer may have: a quarter of the context, as much as agents ask for at most.
    fn n_answer(&self) -> usize {
        (self.n_ctx / 4).clamp(1, 32_000)
    }
}

/// A text as TOML and JSON both take it.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}

fn codex(server: &Server) -> Recipe {
    let provider = format!(
        "model_providers.hearth={{name=\"hearth\",base_url={},wire_api=\"responses\",env_key=\"HEARTH_KEY\"}}",
        quoted(&format!("{}/v1", server.url))
    );
    let settings = [
        format!("model={}", quoted(&server.model)),
        "model_provider=\"hearth\"".into(),
        provider,
        format!("model_context_window={}", server.n_ctx),
    ];
    Recipe {
        program: "codex",
        arguments: settings
            .into_iter()
            .flat_map(|setting| ["-c".to_owned(), setting])
            .collect(),
        variables: vec![("HEARTH_KEY", server.key())],
        key_variable: Some("HEARTH_KEY"),
        install: "npm install --global @openai/codex",
        ..Recipe::default()
    }
}

fn opencode(server: &Server) -> Recipe {
    let model = json!({
        "name": server.model,
        "tool_call": true,
        "limit": {"context": server.n_ctx, "output": server.n_answer()},
    });
    let config = json!({
        "$schema": "https://opencode.ai/config.json",
        "model": format!("hearth/{}", server.model),
        "small_model": format!("hearth/{}", server.model),
        "autoupdate": false,
        "share": "disabled",
        "provider": {"hearth": {
            "npm": "@ai-sdk/openai-compatible",
            "name": "hearth",
            "options": {"baseURL": format!("{}/v1", server.url), "apiKey": "{env:HEARTH_KEY}"},
            "models": {server.model.clone(): model},
        }},
    });
    Recipe {
        program: "opencode",
        variables: vec![
            ("OPENCODE_CONFIG_CONTENT", config.to_string()),
            ("HEARTH_KEY", server.key()),
        ],
        key_variable: Some("HEARTH_KEY"),
        install: "npm install --global opencode-ai",
        ..Recipe::default()
    }
}

fn aider(server: &Server) -> Recipe {
    let name = format!("openai/{}", server.model);
    let metadata = json!({
        name.clone(): {
            "max_input_tokens": server.n_ctx,
            "max_output_tokens": server.n_answer(),
            "max_tokens": server.n_answer(),
            "input_cost_per_token": 0,
            "output_cost_per_token": 0,
            "litellm_provider": "openai",
            "mode": "chat",
        },
    });
    let file = server.folder.join("aider-models.json");
    let arguments = [
        "--model",
        &name,
        "--model-metadata-file",
        &file.to_string_lossy(),
        "--no-show-model-warnings",
        "--no-check-update",
    ];
    Recipe {
        program: "aider",
        arguments: arguments.map(str::to_owned).to_vec(),
        variables: vec![
            ("OPENAI_API_BASE", format!("{}/v1", server.url)),
            ("OPENAI_API_KEY", server.key()),
        ],
        removed: &["OPENAI_BASE_URL"],
        key_variable: Some("OPENAI_API_KEY"),
        files: vec![(file, metadata.to_string())],
        install: "pip install aider-chat",
        ..Recipe::default()
    }
}

fn claude(server: &Server) -> Recipe {
    let model = &server.model;
    let variables = [
        ("ANTHROPIC_BASE_URL", server.url.clone()),
        ("ANTHROPIC_AUTH_TOKEN", server.key()),
        ("ANTHROPIC_MODEL", model.clone()),
        ("ANTHROPIC_DEFAULT_OPUS_MODEL", model.clone()),
        ("ANTHROPIC_DEFAULT_SONNET_MODEL", model.clone()),
        ("ANTHROPIC_DEFAULT_HAIKU_MODEL", model.clone()),
        ("CLAUDE_CODE_SUBAGENT_MODEL", model.clone()),
        // It compacts a conversation before it reaches this.
        ("CLAUDE_CODE_AUTO_COMPACT_WINDOW", server.n_ctx.to_string()),
        (
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
            server.n_answer().to_string(),
        ),
        // A line that changes with every turn would stand before the prompt, and all of it would be read again.
        ("CLAUDE_CODE_ATTRIBUTION_HEADER", "0".into()),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into()),
    ];
    Recipe {
        program: "claude",
        variables: variables.to_vec(),
        removed: &[
            "ANTHROPIC_API_KEY",
            "CLAUDE_CODE_USE_BEDROCK",
            "CLAUDE_CODE_USE_VERTEX",
        ],
        key_variable: Some("ANTHROPIC_AUTH_TOKEN"),
        install: "npm install --global @anthropic-ai/claude-code",
        ..Recipe::default()
    }
}

fn llm(server: &Server) -> Recipe {
    // A YAML list of one; JSON strings are YAML.
    let text = |text: &str| quoted(text);
    let models = format!(
        "- model_id: {}\n  model_name: {}\n  api_base: {}\n  api_key_name: hearth\n  supports_schema: true\n  supports_tools: true\n",
        text(&server.model),
        text(&server.model),
        text(&format!("{}/v1", server.url)),
    );
    let folder = server.folder.join("llm");
    Recipe {
        program: "llm",
        variables: vec![
            // Its settings and logs stand in this folder then, apart from the user's own.
            ("LLM_USER_PATH", folder.to_string_lossy().into_owned()),
            ("OPENAI_API_KEY", server.key()),
        ],
        key_variable: Some("OPENAI_API_KEY"),
        files: vec![
            (folder.join("extra-openai-models.yaml"), models),
            // An argument would be in the way of its other commands.
            (folder.join("default_model.txt"), server.model.clone()),
        ],
        install: "pip install llm",
        ..Recipe::default()
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    fn server() -> Server {
        Server {
            url: "http://127.0.0.1:4327".into(),
            model: "org/m:1".into(),
            n_ctx: 32_768,
            key: Some("secret".into()),
            folder: PathBuf::from("/home/of/hearth"),
        }
    }

    #[test]
    fn every_client_learns_address_model_key_and_context() {
        for client in ClientArg::value_variants() {
            let recipe = Recipe::new(*client, &server());
            let all = format!("{recipe:?}");
            for part in ["http://127.0.0.1:4327", "org/m:1"] {
                assert!(all.contains(part), "{client:?} does not get {part}");
            }
            // llm has no notion of a context.
            assert!(
                all.contains("32768") || *client == ClientArg::Llm,
                "{client:?}"
            );
            let key = recipe
                .variables
                .iter()
                .find(|(name, _)| Some(*name) == recipe.key_variable);
            assert_eq!(
                key.map(|(_, value)| value.as_str()),
                Some("secret"),
                "{client:?}"
            );
            let elsewhere = all.matches("secret").count();
            assert_eq!(
                elsewhere, 1,
                "{client:?}: the key is in one variable and nowhere else"
            );
        }
    }

    #[test]
    fn files_are_ours_alone() {
        for client in ClientArg::value_variants() {
            for (path, _) in Recipe::new(*client, &server()).files {
                assert!(path.starts_with("/home/of/hearth"), "{}", path.display());
            }
        }
    }
}
