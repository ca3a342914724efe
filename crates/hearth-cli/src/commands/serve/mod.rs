//! `hearth serve`: flags become a server; then it runs until somebody ends it.
//!
//! Whatever is wrong (a model, an address that is taken, a host without a key) is said before anything listens.

mod screen;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hearth_engine::EngineOptions;
use hearth_engine::prefix::{DiskOptions, PrefixOptions};
use hearth_server::app::App;
use hearth_server::auth::{Access, is_loopback};
use hearth_server::keys::Keys;
use hearth_server::limits::Limits;
use hearth_server::listen;
use hearth_server::metrics::Metrics;
use hearth_server::models::{LoadError, ModelSettings, Models, NamedModel, is_name};
use hearth_server::openai::responses::store::{Bounds, ResponseStore};
use tracing_subscriber::EnvFilter;

use crate::args::{LogArg, ServeArgs, SpeculateArg};
use crate::commands::keys;
use crate::env;
use crate::failure::Failure;
use crate::load;
use crate::machine::{self, Stop};
use crate::model_ref::{self, ModelRef};
use crate::printer::{self, Output};

/// How long answers may go on once the server is told to end.
const GRACE: Duration = Duration::from_secs(30);

/// Threads that read and write sockets; arithmetic has its own.
const IO_THREADS: usize = 2;

/// Runs the server.
pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    let limits = limits(args)?;
    if args.limits {
        return print_limits(&limits);
    }
    let addresses = addresses(args)?;
    let is_local = addresses.iter().all(|address| is_loopback(address.ip()));
    let server_keys = server_keys(args)?;
    check_reach(args, is_local, &server_keys)?;
    let named = named_models(args, &limits)?;
    let listener = listen_at(args, &addresses)?;
    let metrics = Arc::new(Metrics::default());
    let settings = settings(args, &limits)?;
    let disk = settings.engine.prefix.disk.clone();
    let models = Models::new(
        named,
        settings,
        load::kernels(args.machine.threads)?,
        metrics.clone(),
    );
    let responses = responses(disk.is_some())?;
    let bounds = Bounds::of(&limits);
    let mut app = App::new(models, limits, server_keys, access(args, is_local), metrics);
    if args.manage {
        app = app.managing();
    }
    if let Some(path) = &responses {
        app = app.keeping_responses(open_responses(path, bounds)?);
    }
    start_log(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .enable_all()
        .build()
        .map_err(|error| Failure::ours("cannot start the server's threads").caused_by(&error))?;
    runtime.block_on(async {
        app.models
            .load_named()
            .await
            .map_err(|(name, error)| cannot_load(&name, error))?;
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(|error| Failure::ours("cannot listen").caused_by(&error))?;
        let address = listener
            .local_addr()
            .map_err(|error| Failure::ours("cannot listen").caused_by(&error))?;
        screen::print(
            &app,
            &screen::Facts {
                address,
                is_local,
                disk,
                responses,
            },
        )
        .await;
        serve(listener, app).await
    })
}

/// Serves until the first signal, and ends the process at the second.
async fn serve(listener: tokio::net::TcpListener, app: App) -> Result<(), Failure> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let signals = tokio::spawn(async move {
        let first = machine::stop_signal().await;
        printer::note(
            "note: ending; running answers may go on for 30 seconds, another Ctrl-C ends at once",
        );
        let _ = sender.send(first);
        let _ = machine::stop_signal().await;
        std::process::exit(130);
    });
    let mut stop = None;
    listen::serve(listener, app, async { stop = receiver.await.ok() }, GRACE).await;
    signals.abort();
    match stop {
        Some(Ok(Stop::Interrupt)) => Err(Failure::Interrupted),
        Some(Ok(Stop::Terminate)) => Ok(()),
        Some(Err(error)) => Err(Failure::ours("cannot wait for signals").caused_by(&error)),
        None => Err(Failure::ours("the server ended by itself")),
    }
}

fn limits(args: &ServeArgs) -> Result<Limits, Failure> {
    let mut limits = Limits::default();
    for text in &args.limit {
        limits
            .set(text)
            .map_err(|error| Failure::input(error).hint("'hearth serve --limits' lists them"))?;
    }
    Ok(limits)
}

fn print_limits(limits: &Limits) -> Result<(), Failure> {
    let row = |(name, value, meaning): (&str, usize, &str)| {
        vec![name.to_owned(), value.to_string(), meaning.to_owned()]
    };
    let rows: Vec<_> = limits.rows().into_iter().map(row).collect();
    let mut output = Output::new();
    output.bytes(
        printer::table(&["name", "value", "meaning"], &[false, true, false], &rows).as_bytes(),
    )?;
    output.flush()
}

/// The addresses that the host is.
fn addresses(args: &ServeArgs) -> Result<Vec<SocketAddr>, Failure> {
    let host = args.host.trim_start_matches('[').trim_end_matches(']');
    let failed = |reason: String| {
        Failure::input(format!(
            "--host {host} is no address of this machine: {reason}"
        ))
        .hint("127.0.0.1 is this machine alone, 0.0.0.0 all its addresses")
    };
    let found = (host, args.port)
        .to_socket_addrs()
        .map_err(|error| failed(error.to_string()))?;
    let found: Vec<SocketAddr> = found.collect();
    match found.is_empty() {
        true => Err(failed("the name has no address".into())),
        false => Ok(found),
    }
}

/// Takes the port before anything is loaded.
fn listen_at(args: &ServeArgs, addresses: &[SocketAddr]) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(addresses).map_err(|error| {
        let message = format!("cannot listen at {} port {}: {error}", args.host, args.port);
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "is a server running there already? --port takes another one"
            }
            _ => "--host and --port take another address",
        };
        Failure::input(message).caused_by(&error).hint(hint)
    })?;
    listener
        .set_nonblocking(true)
        .map_err(|error| Failure::ours("cannot listen").caused_by(&error))?;
    Ok(listener)
}

/// Keys that were given, else those of the file.
fn server_keys(args: &ServeArgs) -> Result<Keys, Failure> {
    let given = match (&args.key, &args.key_file) {
        (Some(key), _) => vec![key.clone()],
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::input(format!(
                    "cannot read the file of keys '{}': {error}",
                    path.display()
                ))
                .caused_by(&error)
            })?;
            let lines = text.lines().map(str::trim);
            lines
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(str::to_owned)
                .collect()
        }
        (None, None) => return file_keys(),
    };
    if given.is_empty() {
        return Err(Failure::input("the file of keys has no key in it")
            .hint("one key a line; lines with # are remarks"));
    }
    Keys::new(&given, None)
        .map_err(|error| Failure::input(error).hint("'hearth keys add NAME' makes a good key"))
}

/// The keys made with `hearth keys`. Where no file can be made, there are none.
fn file_keys() -> Result<Keys, Failure> {
    let file = match keys::open() {
        Ok(file) => Some(file),
        Err(failure) if keys::path().is_ok_and(|path| path.exists()) => return Err(failure),
        Err(_) => None,
    };
    Keys::new(&[], file).map_err(|error| Failure::ours("cannot read the keys").caused_by(&error))
}

/// Nobody opens a machine to a network by accident.
fn check_reach(args: &ServeArgs, is_local: bool, keys: &Keys) -> Result<(), Failure> {
    if is_local || keys.are_needed() {
        return Ok(());
    }
    Err(Failure::input(format!("--host {} lets other machines in, and there is no key", args.host)).hint(
        "make one with 'hearth keys add NAME', or give --key-file; without --host only this machine can ask",
    ))
}

fn access(args: &ServeArgs, is_local: bool) -> Access {
    // What was bound to may be called so.
    let host = args.host.to_ascii_lowercase();
    let hosts = args.allow_host.iter().map(|host| host.to_ascii_lowercase());
    Access {
        is_loopback: is_local,
        hosts: hosts.chain([host]).collect(),
        origins: args.allow_origin.clone(),
    }
}

/// The models of the command line with the names they get.
fn named_models(args: &ServeArgs, limits: &Limits) -> Result<Vec<NamedModel>, Failure> {
    if args.name.len() > args.models.len() {
        return Err(Failure::input(format!(
            "{} names for {} models",
            args.name.len(),
            args.models.len()
        ))
        .hint("--name belongs to the models in their order"));
    }
    let mut known = BTreeSet::new();
    let mut named = Vec::new();
    for (index, word) in args.models.iter().enumerate() {
        let reference = ModelRef::parse(word)?;
        // Says what is wrong with a file in the words of the other commands, which know only one.
        if let Err(failure) = reference.open() {
            if args.models.len() > 1 {
                cannot_serve(&reference);
            }
            return Err(failure);
        }
        let name = args
            .name
            .get(index)
            .cloned()
            .unwrap_or_else(|| reference.name());
        if !is_name(&name, limits.model_name_bytes) {
            return Err(
                Failure::input(format!("'{name}' cannot be the name of a model"))
                    .hint("--name gives it another, such as qwen3 or maker/model:8b"),
            );
        }
        if !known.insert(name.clone()) {
            return Err(Failure::input(format!("two models are called '{name}'"))
                .hint("--name tells them apart"));
        }
        named.push(NamedModel {
            name,
            file: reference.file(),
        });
    }
    Ok(named)
}

fn settings(args: &ServeArgs, limits: &Limits) -> Result<ModelSettings, Failure> {
    let machine = &args.machine;
    let memory_bytes = machine.memory.or_else(machine::available_memory);
    Ok(ModelSettings {
        store: (args.models.is_empty() || args.manage)
            .then(model_ref::store)
            .transpose()?,
        engine: EngineOptions {
            n_ctx: machine.context.map(std::num::NonZeroUsize::get),
            kv_type: load::kv_type(machine.kv),
            kv_budget_bytes: machine.kv_budget,
            max_sequences: limits.sequences,
            max_queue: limits.queue,
            prefix: prefix(args),
            speculate: machine.speculate == SpeculateArg::Auto,
            ..EngineOptions::default()
        },
        ttl: machine.ttl.0,
        memory_bytes,
        max_name_bytes: limits.model_name_bytes,
    })
}

/// What is kept of prompts. Where there is no folder for it, nothing is kept on disk, and the start screen says so.
fn prefix(args: &ServeArgs) -> PrefixOptions {
    let folder = env::home().ok().map(|home| home.join("cache"));
    let folder = folder.filter(|_| !args.machine.no_disk_cache);
    let folder = folder.filter(|folder| machine::make_private_folder(folder).is_ok());
    PrefixOptions {
        disk: folder.map(|folder| {
            let mut disk = DiskOptions::new(folder);
            disk.max_bytes = args.machine.disk_cache.unwrap_or(disk.max_bytes);
            disk
        }),
        share_between_owners: args.machine.share_cache,
        ..PrefixOptions::default()
    }
}

/// Where answers are kept that later requests may go on from: in memory where nothing of prompts may go to disk.
fn responses(keeps_on_disk: bool) -> Result<Option<PathBuf>, Failure> {
    let home = keeps_on_disk.then(env::home).transpose()?;
    Ok(home.map(|home| home.join("responses.sqlite")))
}

fn open_responses(path: &Path, bounds: Bounds) -> Result<ResponseStore, Failure> {
    ResponseStore::open(path, bounds).map_err(|error| {
        let path = path.display();
        Failure::input(format!("cannot keep answers in '{path}'"))
            .caused_by(&error)
            .hint("is it a file of hearth's? --no-disk-cache keeps them in memory")
    })
}

fn cannot_load(name: &str, error: LoadError) -> Failure {
    let failure = match error {
        LoadError::File(error) => error.into(),
        LoadError::Template(error) => error.into(),
        LoadError::Model(error) => error.into(),
        LoadError::Engine(error) => error.into(),
    };
    cannot_serve(&name);
    failure
}

/// Says which of several models an error is about.
fn cannot_serve(model: &dyn std::fmt::Display) {
    printer::note(format!("note: model '{model}' cannot be served"));
}

/// Logs go to standard error. They have routes, times and numbers, and no text of anybody's.
fn start_log(args: &ServeArgs) -> Result<(), Failure> {
    let filter = env::log_filter().unwrap_or_else(|| "info".into());
    let filter = EnvFilter::try_new(&filter).map_err(|error| {
        Failure::input(format!("HEARTH_LOG has the value '{filter}': {error}"))
            .hint("error, warn, info or debug")
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal() && env::allows_colour());
    match args.log {
        LogArg::Text => log.init(),
        LogArg::Json => log.json().init(),
    }
    Ok(())
}
