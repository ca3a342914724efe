//! The commands around the server: `serve`, `keys`, `launch`.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use hearth_server::auth::Origin;

use super::{KvArg, SpeculateArg, parse_positive, parse_threads};

/// The port when nobody says.
pub const DEFAULT_PORT: u16 = 4327;

/// `hearth serve`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
        hearth serve ./model.gguf                     one model, for programs on this machine\n  \
        hearth serve a.gguf b.gguf --name small --name large\n  \
        hearth serve                                  everything in the store, loaded when asked for\n  \
        hearth keys add anna && hearth serve --host 0.0.0.0 --allow-host mybox.lan\n\n\
        The store is the folder `models` under HEARTH_HOME; every GGUF file in it is a model.")]
pub struct ServeArgs {
    #[arg(
        help = "Models to serve: GGUF files, names in the store, or `spark`; without any, everything in the store",
        value_name = "MODEL",
        value_hint = ValueHint::FilePath
    )]
    pub models: Vec<OsString>,

    /// What clients call a model, in the order of the models; the default is the name of the file
    #[arg(long, value_name = "NAME", action = clap::ArgAction::Append)]
    pub name: Vec<String>,

    /// The address to listen at; anything beyond this machine needs a key
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    pub host: String,

    /// The port to listen at; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    pub port: u16,

    /// A further name this server may be asked under; may be given several times
    #[arg(long, value_name = "NAME", action = clap::ArgAction::Append)]
    pub allow_host: Vec<String>,

    /// A web origin whose pages may ask, such as `https://chat.example`; may be given several times
    #[arg(long, value_name = "ORIGIN", action = clap::ArgAction::Append, value_parser = parse_origin)]
    pub allow_origin: Vec<Origin>,

    /// The key that every request must carry; other users of this machine can see it in the list of processes
    #[arg(long, value_name = "KEY", conflicts_with = "key_file")]
    pub key: Option<String>,

    /// A file of keys, one a line, each a user of its own
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub key_file: Option<PathBuf>,

    /// Serve the store too, and let clients copy and delete its models through Ollama's routes
    #[arg(long)]
    pub manage: bool,

    /// Print all limits on what a client may ask for, and end
    #[arg(long)]
    pub limits: bool,

    /// Change a limit; may be given several times
    #[arg(long, value_name = "NAME=N", action = clap::ArgAction::Append)]
    pub limit: Vec<String>,

    /// How the log is written
    #[arg(long, value_name = "FORM", value_enum, default_value_t = LogArg::Text)]
    pub log: LogArg,

    #[command(flatten)]
    pub machine: ServeMachineArgs,
}

/// What of the machine the server uses.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub struct ServeMachineArgs {
    /// Tokens a conversation may hold; the default is what the model was trained for
    #[arg(long, value_name = "N", value_parser = parse_positive)]
    pub context: Option<NonZeroUsize>,

    /// Type in which attention keys and values are kept: q8_0 takes little more than half the memory of f16
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = KvArg::F16)]
    pub kv: KvArg,

    /// Memory for keys and values of each model, such as 8G; the default is half of what is free beside the weights
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub kv_budget: Option<u64>,

    /// Memory for all models together; the default is what is free when the server starts
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,

    /// Unload a model of the store when nobody has used it for this time, such as 30m; `never` keeps it
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_ttl)]
    pub ttl: Ttl,

    /// Keep no prompts on disk
    #[arg(long)]
    pub no_disk_cache: bool,

    /// The most that prompts on disk may take; never more than a tenth of what the disk has free
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "no_disk_cache")]
    pub disk_cache: Option<u64>,

    /// Let users find each other's prompts in the cache: faster, but speed then tells what others asked
    #[arg(long)]
    pub share_cache: bool,

    /// Guess the tokens that come next and test several in one step, where that is faster
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = SpeculateArg::Auto)]
    pub speculate: SpeculateArg,

    /// Threads to compute with; the default is the number of fast physical cores
    #[arg(short = 't', long, value_name = "N", value_parser = parse_threads)]
    pub threads: Option<NonZeroUsize>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogArg {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

/// How long an unused model stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl(pub Option<Duration>);

/// `hearth keys`
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// What to do
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it: the only time it can be read
    Add(KeysAddArgs),
    /// List the keys by name
    List(KeysListArgs),
    /// Revoke a key; a running server refuses it from the next request on
    Revoke(KeysRevokeArgs),
}

/// `hearth keys add`
#[derive(Debug, Args)]
pub struct KeysAddArgs {
    /// Whose key it is: letters, digits, '.', '_' and '-'
    pub name: String,

    /// The share of the machine against that of others
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub weight: u32,

    /// Requests with this key wait for those of people
    #[arg(long)]
    pub background: bool,
}

/// `hearth keys list`
#[derive(Debug, Args)]
pub struct KeysListArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `hearth keys revoke`
#[derive(Debug, Args)]
pub struct KeysRevokeArgs {
    /// Whose key
    pub name: String,
}

/// `hearth launch`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hearth launch codex\n  hearth launch opencode --model qwen3 -- run \"Write a test\"\n  \
        hearth launch aider --print\n\n\
        The client is started with variables and arguments of its own; none of your files is written or changed."
)]
pub struct LaunchArgs {
    /// The client to start
    #[arg(value_enum)]
    pub client: ClientArg,

    /// Where the server is
    #[arg(long, value_name = "URL", default_value_t = format!("http://127.0.0.1:{DEFAULT_PORT}"))]
    pub url: String,

    /// The model to use; needed when the server has several
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,

    /// The key to use, if the server needs one; HEARTH_KEY is the safer way to give it
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,

    /// Print variables, files and command instead of starting the client
    #[arg(long)]
    pub print: bool,

    /// Arguments for the client, after --
    #[arg(last = true, value_name = "ARGUMENT")]
    pub arguments: Vec<OsString>,
}

/// Clients there is a recipe for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClientArg {
    /// OpenAI's coding agent (npm: @openai/codex)
    Codex,
    /// The coding agent opencode (npm: opencode-ai)
    Opencode,
    /// Pair programming in the terminal (PyPI: aider-chat)
    Aider,
    /// Anthropic's coding agent (npm: @anthropic-ai/claude-code)
    Claude,
    /// The command-line tool llm (PyPI: llm)
    Llm,
}

/// `8G`, `512M`, `1.5GiB`, or plain bytes. Units are powers of 1024, as memory is sold.
fn parse_size(text: &str) -> Result<u64, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a size such as 8G or 512M".to_string())?;
    let unit = unit.trim().to_ascii_lowercase();
    let factor = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 1_u64,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err(format!("unknown unit '{unit}'; K, M, G and T are known")),
    };
    let bytes = number * factor as f64;
    match (1.0..=1e18).contains(&bytes) {
        true => Ok(bytes as u64),
        false => Err("not a size".into()),
    }
}

/// `30m`, `90s`, `2h`, or `never`.
fn parse_ttl(text: &str) -> Result<Ttl, String> {
    if text == "never" {
        return Ok(Ttl(None));
    }
    let wanted = || "expected a time such as 90s, 30m or 2h, or 'never'".to_string();
    let unit = text.chars().last().ok_or_else(wanted)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(wanted()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wanted())?;
    match number.checked_mul(seconds) {
        Some(seconds @ 1..=31_536_000) => Ok(Ttl(Some(Duration::from_secs(seconds)))),
        _ => Err("must be between one second and a year".into()),
    }
}

fn parse_origin(text: &str) -> Result<Origin, String> {
    Origin::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("1", 1),
            ("8G", 8 << 30),
            ("512mb", 512 << 20),
            ("1.5GiB", 3 << 29),
            ("4k", 4096),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "0", "G", "-1", "8X", "1e9", "nan", "999999999T"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(parse_ttl("30m"), Ok(Ttl(Some(Duration::from_secs(1800)))));
        assert_eq!(parse_ttl("never"), Ok(Ttl(None)));
        for bad in ["", "m", "30", "0s", "-1m", "1.5h", "30\u{fc}", "99999999h"] {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
    }
}
