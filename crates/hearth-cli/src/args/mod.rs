//! Every command and flag, defined once.
//!
//! Help, shell completions and the man page are all made from these definitions, so a flag is one item: its name, its
//! range, its default and the sentence that teaches it stand together. Values are checked for range here; what they mean
//! is decided in `commands/`.

mod server;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

pub use server::*;

/// Run open-weight language models on your own computer.
#[derive(Debug, Parser)]
#[command(
    name = "hearth",
    version,
    about = "Run open-weight language models on your own computer",
    long_about = "Run open-weight language models on your own computer.\n\n\
        Without a command, hearth chats with `spark`, a small model that is part of the program: no download, no \
        account, no network. With text on standard input it answers once and ends.",
    after_help = "Start here:\n  hearth                            chat with the built-in model\n  \
        hearth run model.gguf \"Hello\"     ask a model file one question\n  \
        hearth show model.gguf            what is inside a model file\n  \
        hearth serve model.gguf           take the place of OpenAI's, Anthropic's and Ollama's servers\n\n\
        Environment:\n  HEARTH_CPU   scalar, portable, avx2, avxvnni, avx512, neon, neon-dotprod or neon-i8mm: use this\n  \
        \x20            instruction set instead of the best one\n  \
        HEARTH_HOME  the folder for models, keys and caches instead of the platform's own\n  \
        HEARTH_KEY   the key that 'hearth launch' uses\n  \
        HEARTH_LOG   what 'hearth serve' logs: error, warn, info (the default), debug\n  \
        NO_COLOR     any value: no colours",
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do; nothing means: chat with the built-in model
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Print the causes behind an error, and what hearth chose for itself
    #[arg(long, global = true)]
    pub verbose: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask a model one question, or chat with it
    Run(RunArgs),
    /// Serve models to other programs: the dialects of OpenAI, Anthropic and Ollama
    Serve(Box<ServeArgs>),
    /// Make, list and revoke the keys of the server
    Keys(KeysArgs),
    /// Start a program against a running server: codex, opencode, aider, claude, llm
    Launch(LaunchArgs),
    /// Show what a model file contains: metadata, tensors, the plan
    Show(ShowArgs),
    /// Measure how fast a model reads and writes on this machine
    Bench(BenchArgs),
    /// Print the model's raw scores for the next token (for tests and tools)
    Logits(LogitsArgs),
    /// Turn text from standard input into token ids (for tests and tools)
    Tokenize(TokenizeArgs),
    /// Turn token ids back into text (for tests and tools)
    Detokenize(DetokenizeArgs),
    /// Render a chat template with a context from standard input (for tests and tools)
    Template(TemplateArgs),
    /// Print the completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page (roff; view it with: hearth man | man -l -)
    Man,
}

const MODEL_HELP: &str = "A GGUF file (a path with a slash, or ending in .gguf), a name in the store, or `spark`, the built-in model";

/// `hearth run`
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:\n  hearth run ./model.gguf \"Why is the sky blue?\"\n  \
        git diff | hearth run ./model.gguf \"Summarise this change\"\n  \
        hearth run spark                              chat; Ctrl-D leaves"
)]
pub struct RunArgs {
    #[arg(help = MODEL_HELP, value_hint = ValueHint::FilePath)]
    pub model: OsString,

    /// What to say; text from standard input is added after a blank line. Without either: a chat
    pub prompt: Option<String>,

    /// Continue the prompt as plain text: no chat template, no roles
    #[arg(long)]
    pub raw: bool,

    /// Instructions that stand before the conversation
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub system: Option<String>,

    /// Stop an answer after this many tokens; the default is what the context has room for
    #[arg(long, value_name = "N", value_parser = parse_positive)]
    pub max_tokens: Option<NonZeroUsize>,

    /// Stop before this text would be printed; may be given up to 64 times
    #[arg(long, value_name = "TEXT", action = clap::ArgAction::Append)]
    pub stop: Vec<String>,

    /// Print speeds and counts on standard error when done
    #[arg(long)]
    pub stats: bool,

    #[command(flatten)]
    pub sampling: SamplingArgs,

    #[command(flatten)]
    pub machine: MachineArgs,
}

/// How the next token is chosen. Bias and penalties come before the temperature; the filters after it, in the order listed here.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Choosing tokens")]
pub struct SamplingArgs {
    /// How daring: 0 always takes the likeliest token, 1 draws as the model was trained, more is wilder
    #[arg(long, value_name = "T", default_value_t = 0.8, value_parser = parse_temperature)]
    pub temperature: f32,

    /// Keep only the N likeliest tokens; 0 keeps all
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub top_k: u32,

    /// Keep the likeliest tokens that together reach this probability; 1 keeps all
    #[arg(long, value_name = "P", default_value_t = 0.95, value_parser = parse_share)]
    pub top_p: f32,

    /// Drop tokens less likely than this share of the likeliest one; 0 drops none
    #[arg(long, value_name = "P", default_value_t = 0.05, value_parser = parse_probability)]
    pub min_p: f32,

    /// Keep only tokens about as surprising as the model expects, up to this share of probability; 1 keeps all
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = parse_share)]
    pub typical: f32,

    /// Make tokens among the last 64 less likely; 1 changes nothing, 1.1 is mild
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = parse_repeat_penalty)]
    pub repeat_penalty: f32,

    /// Lower a token's score by this much for each time it occurred (-2 to 2)
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true, value_parser = parse_penalty)]
    pub frequency_penalty: f32,

    /// Lower a token's score by this much once it occurred at all (-2 to 2)
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true, value_parser = parse_penalty)]
    pub presence_penalty: f32,

    /// Add BIAS to the score of token ID, for example 42=-5; -inf forbids it; may be given several times
    #[arg(long, value_name = "ID=BIAS", action = clap::ArgAction::Append, value_parser = parse_logit_bias)]
    pub logit_bias: Vec<(u32, f32)>,

    /// Draw the same tokens again: same file, prompt, flags and seed give the same text on every machine
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// What of the machine is used. None of it changes a single bit of the result, except the type of the keys and values.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Machine")]
pub struct MachineArgs {
    /// Tokens the conversation may hold; the default is what the model was trained for
    #[arg(long, value_name = "N", value_parser = parse_positive)]
    pub context: Option<NonZeroUsize>,

    /// Guess the tokens that come next and test several in one step, where that is faster
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = SpeculateArg::Auto)]
    pub speculate: SpeculateArg,

    /// A smaller model with the same vocabulary, whose guesses are tested too: a GGUF file
    #[arg(long, value_name = "MODEL")]
    pub draft: Option<OsString>,

    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// When tokens are guessed ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SpeculateArg {
    /// While it pays: when the text repeats itself, or a draft model guesses well
    Auto,
    /// Never
    Off,
}

/// Threads, key/value type and chunk: shared by every command that computes.
#[derive(Debug, Clone, Args)]
pub struct ComputeArgs {
    /// Threads to compute with; the default is the number of fast physical cores
    #[arg(short = 't', long, value_name = "N", value_parser = parse_threads)]
    pub threads: Option<NonZeroUsize>,

    /// Type in which attention keys and values are kept: q8_0 takes little more than half the memory of f16 and is faster at
    /// long contexts, at some accuracy; f32 is the reference
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = KvArg::F16)]
    pub kv: KvArg,

    /// Prompt tokens per step; smaller steps answer Ctrl-C sooner, larger ones are faster
    #[arg(long, value_name = "N", value_parser = parse_chunk)]
    pub chunk: Option<NonZeroUsize>,
}

/// Types of kept keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KvArg {
    /// 16-bit floats
    F16,
    /// 32-bit floats
    F32,
    /// 8-bit integers with steps
    #[value(name = "q8_0")]
    Q8_0,
}

/// `hearth show`
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[arg(help = MODEL_HELP, value_hint = ValueHint::FilePath)]
    pub model: OsString,

    /// Also print the plan: the operations of one step, in order
    #[arg(long)]
    pub plan: bool,

    /// Also print every tensor: name, shape, type, bytes
    #[arg(long)]
    pub tensors: bool,

    /// Print everything as one JSON object, arrays of metadata in full
    #[arg(long)]
    pub json: bool,
}

/// `hearth bench`
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "The tokens are random, from a fixed seed, so the speeds of two machines or versions can be compared.\n\
        Reading a prompt (pp) is bound by arithmetic, writing (tg) by memory: every written token reads the whole model \
        once. '% of limit' compares with the same work at the best rates that this machine reaches in plain loops, \
        measured in the same run.\n\nExamples:\n  \
        hearth bench model.gguf                          read 512 tokens, write 64\n  \
        hearth bench model.gguf -d 4096                  the same with 4096 tokens already in the context\n  \
        hearth bench model.gguf --batch 8,32 -p 128      8 and 32 conversations at once\n  \
        hearth bench model.gguf --ops                    where the time goes\n  \
        hearth bench model.gguf --json > before.json     keep the figures, and later:\n  \
        hearth bench model.gguf --compare before.json    what has changed since"
)]
pub struct BenchArgs {
    #[arg(help = MODEL_HELP, value_hint = ValueHint::FilePath)]
    pub model: OsString,

    /// Tokens of the prompt that is read; 0 skips this part
    #[arg(
        short = 'p',
        long = "prompt-tokens",
        value_name = "N",
        default_value_t = 512,
        value_parser = parse_bench_tokens
    )]
    pub prompt_tokens: usize,

    /// Tokens that are written; 0 skips this part
    #[arg(
        short = 'n',
        long = "new-tokens",
        value_name = "N",
        default_value_t = 64,
        value_parser = parse_bench_tokens
    )]
    pub new_tokens: usize,

    /// Tokens that are in the context already when measuring begins: long conversations are slower
    #[arg(short = 'd', long, value_name = "N", default_value_t = 0, value_parser = parse_bench_tokens)]
    pub depth: usize,

    /// Measure N sequences together instead of one, each reading -p tokens and then writing -n; several
    /// numbers, separated by commas, are measured one after the other
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = parse_batch)]
    pub batch: Vec<NonZeroUsize>,

    /// With --batch: prompts of different lengths, from half of -p to one and a half times as much
    #[arg(long, requires = "batch")]
    pub ragged: bool,

    /// With --batch: while the sequences write, every step also reads N tokens of another prompt
    #[arg(long, value_name = "N", requires = "batch", value_parser = parse_chunk)]
    pub beside: Option<NonZeroUsize>,

    /// Repetitions after a warm-up run; the median and the spread are reported
    #[arg(long, value_name = "R", default_value = "3", value_parser = parse_reps)]
    pub reps: NonZeroUsize,

    /// Also show how much time each kind of operation takes, in one more run
    #[arg(long)]
    pub ops: bool,

    /// Show ratios to the figures in FILE, written by --json for the same model and the same work
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub compare: Option<PathBuf>,

    #[command(flatten)]
    pub compute: ComputeArgs,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `hearth logits`
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct LogitsArgs {
    #[arg(help = MODEL_HELP, value_hint = ValueHint::FilePath)]
    pub model: OsString,

    /// Token ids, separated by commas: 1,2,3
    #[arg(long, value_name = "IDS", value_delimiter = ',', required = true)]
    pub tokens: Vec<u32>,

    /// Print the scores after every token, not only the last
    #[arg(long)]
    pub all: bool,

    #[command(flatten)]
    pub compute: ComputeArgs,

    /// Print {"logits":[...]}; with --all one list per token. Floats read back to the same bits
    #[arg(long)]
    pub json: bool,
}

/// `hearth tokenize`
#[derive(Debug, Args)]
pub struct TokenizeArgs {
    #[arg(help = MODEL_HELP, value_hint = ValueHint::FilePath)]
    pub model: OsString,

    /// Do not add the special tokens that the model puts around a text
    #[arg(long)]
    pub no_special: bool,

    /// Read the text of special tokens, such as <|im_start|>, as those tokens
    #[arg(long)]
    pub parse_special: bool,

    /// Print {"tokens":[...],"pieces":[...]}; a piece that is not UTF-8 is a list of bytes
    #[arg(long)]
    pub json: bool,
}

/// `hearth detokenize`
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct DetokenizeArgs {
    #[arg(help = MODEL_HELP, value_hint = ValueHint::FilePath)]
    pub model: OsString,

    /// Token ids, separated by commas: 1,2,3
    #[arg(long, value_name = "IDS", value_delimiter = ',', required = true)]
    pub tokens: Vec<u32>,

    /// Print {"text":"..."}
    #[arg(long)]
    pub json: bool,
}

/// `hearth template`
#[derive(Debug, Args)]
#[command(
    after_help = "Standard input is a JSON object: either the template's context (messages, tools,\n\
        add_generation_prompt, ...) or {\"context\": {...}, \"now\": \"2024-06-12T10:00:00\"}."
)]
pub struct TemplateArgs {
    #[arg(
        help = "Take the template of this model: a GGUF file, or `spark`",
        required_unless_present = "file"
    )]
    pub model: Option<OsString>,

    /// Take the template from this file instead of a model
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    pub file: Option<PathBuf>,

    /// Print {"text":"..."}, or {"error":"..."} when the template raised an error
    #[arg(long)]
    pub json: bool,
}

/// `hearth completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell to complete in
    pub shell: clap_complete::Shell,
}

fn parse_number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("not {what}"))
}

fn parse_positive(text: &str) -> Result<NonZeroUsize, String> {
    parse_number(text, "a whole number of at least 1")
}

/// More threads than any machine has cores only wastes memory; the bound catches slips such as a pasted number.
fn parse_threads(text: &str) -> Result<NonZeroUsize, String> {
    match parse_positive(text)? {
        n if n.get() <= 1024 => Ok(n),
        _ => Err("more than 1024 threads".into()),
    }
}

/// A step's buffers grow with its tokens; 16384 is far above where reading gets no faster.
fn parse_chunk(text: &str) -> Result<NonZeroUsize, String> {
    match parse_positive(text)? {
        n if n.get() <= 16_384 => Ok(n),
        _ => Err("more than 16384 tokens per step".into()),
    }
}

/// The rows of all steps are laid out before measuring: this bounds their memory.
fn parse_bench_tokens(text: &str) -> Result<usize, String> {
    match parse_number(text, "a whole number")? {
        n if n <= 1 << 20 => Ok(n),
        _ => Err("more than 1048576 tokens".into()),
    }
}

/// Far above what any processor can serve.
fn parse_batch(text: &str) -> Result<NonZeroUsize, String> {
    match parse_positive(text)? {
        n if n.get() <= 1024 => Ok(n),
        _ => Err("more than 1024 sequences".into()),
    }
}

/// All times are kept for the median.
fn parse_reps(text: &str) -> Result<NonZeroUsize, String> {
    match parse_positive(text)? {
        n if n.get() <= 100_000 => Ok(n),
        _ => Err("more than 100000 repetitions".into()),
    }
}

fn parse_in(text: &str, low: f32, high: f32) -> Result<f32, String> {
    let value: f32 = parse_number(text, "a number")?;
    if (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(format!("must lie between {low} and {high}"))
    }
}

fn parse_temperature(text: &str) -> Result<f32, String> {
    match parse_in(text, 0.0, 100.0)? {
        value if value > 0.0 && value < 1e-4 => Err("must be 0, or between 0.0001 and 100".into()),
        value => Ok(value),
    }
}

fn parse_probability(text: &str) -> Result<f32, String> {
    parse_in(text, 0.0, 1.0)
}

/// A share of probability that keeps something.
fn parse_share(text: &str) -> Result<f32, String> {
    match parse_probability(text)? {
        0.0 => Err("must be more than 0 and at most 1".into()),
        value => Ok(value),
    }
}

fn parse_repeat_penalty(text: &str) -> Result<f32, String> {
    parse_in(text, 0.01, 100.0)
}

fn parse_penalty(text: &str) -> Result<f32, String> {
    parse_in(text, -2.0, 2.0)
}

fn parse_logit_bias(text: &str) -> Result<(u32, f32), String> {
    let (id, bias) = text
        .split_once('=')
        .ok_or("expected ID=BIAS, for example 42=-5")?;
    let id = parse_number(id, "a token id before the equals sign")?;
    let bias: f32 = parse_number(bias, "a number after the equals sign")?;
    if bias != f32::NEG_INFINITY && !(-1e6..=1e6).contains(&bias) {
        return Err("the bias must lie between -1000000 and 1000000, or be -inf".into());
    }
    Ok((id, bias))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_and_argument_explains_itself() {
        fn check(command: &clap::Command, silent: &mut Vec<String>) {
            for argument in command.get_arguments() {
                if argument.get_help().is_none() {
                    silent.push(format!("{} {}", command.get_name(), argument.get_id()));
                }
            }
            command.get_subcommands().for_each(|sub| check(sub, silent));
        }
        let mut silent = Vec::new();
        check(&Cli::command(), &mut silent);
        assert!(silent.is_empty(), "no help text: {silent:?}");
    }

    #[test]
    fn threads_are_t_everywhere() {
        for command in Cli::command().get_subcommands() {
            for argument in command
                .get_arguments()
                .filter(|argument| argument.get_id() == "threads")
            {
                assert_eq!(argument.get_short(), Some('t'), "in {}", command.get_name());
            }
        }
    }

    #[test]
    fn logit_bias_takes_minus_infinity_and_nothing_stranger() {
        assert_eq!(parse_logit_bias("7=-inf"), Ok((7, f32::NEG_INFINITY)));
        assert_eq!(parse_logit_bias("7=0.5"), Ok((7, 0.5)));
        for bad in [
            "7",
            "=1",
            "x=1",
            "7=",
            "7=nan",
            "7=inf",
            "-1=2",
            "4294967296=1",
        ] {
            assert!(parse_logit_bias(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_checked_for_range() {
        assert!(parse_temperature("-1").is_err() && parse_temperature("nan").is_err());
        assert!(parse_probability("1.5").is_err() && parse_probability("1").is_ok());
        assert!(parse_repeat_penalty("0").is_err() && parse_repeat_penalty("1.1").is_ok());
        assert!(
            parse_threads("0").is_err()
                && parse_threads("1025").is_err()
                && parse_threads("4").is_ok()
        );
        assert!(parse_chunk("20000").is_err() && parse_penalty("-2").is_ok());
    }
}
