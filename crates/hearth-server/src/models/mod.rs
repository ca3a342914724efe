//! The models a server has: found by name, loaded when first asked for, unloaded when long unused or when memory is needed.
//!
//! Each loaded model has an engine, and so a thread, of its own. The first requests for a model load it once, however
//! many there are and even if the one that came first goes away. Whoever holds an `Arc<Loaded>` keeps the model loaded:
//! an answer that is being streamed must.

mod budget;
mod details;
mod entry;
mod loaded;
mod manage;
mod names;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use hearth_engine::{EngineOptions, EngineSnapshot};
use hearth_gguf::Gguf;
use hearth_kernels::Kernels;
use indexmap::IndexMap;
use tokio::sync::Mutex as AsyncMutex;

pub use details::Details;
pub use loaded::{LoadError, Loaded};
pub use names::{in_folder, is_name, of_file, without_latest};

use crate::{error::ApiError, metrics::Metrics};
use entry::Entry;
use loaded::Load;

/// Where a model's bytes are.
#[derive(Clone, Debug)]
pub enum ModelFile {
    /// A file, or the first of several.
    Path(PathBuf),
    /// Part of the program.
    Builtin(&'static [u8]),
}

impl ModelFile {
    /// Opens and checks it.
    ///
    /// # Errors
    ///
    /// It is no model file.
    pub fn open(&self) -> Result<Arc<Gguf>, hearth_gguf::GgufError> {
        let gguf = match self {
            ModelFile::Path(path) => Gguf::open(path)?,
            ModelFile::Builtin(bytes) => Gguf::from_static(bytes)?,
        };
        Ok(Arc::new(gguf))
    }

    /// When it was changed; a file that cannot be asked is as old as can be.
    fn modified(&self) -> SystemTime {
        let modified = match self {
            ModelFile::Path(path) => std::fs::metadata(path)
                .and_then(|metadata| metadata.modified())
                .ok(),
            ModelFile::Builtin(_) => None,
        };
        modified.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// A model that was named on the command line.
#[derive(Clone, Debug)]
pub struct NamedModel {
    /// What clients call it.
    pub name: String,
    /// Its bytes.
    pub file: ModelFile,
}

/// How models are loaded and kept.
#[derive(Clone, Debug)]
pub struct ModelSettings {
    /// Everything in this folder can be asked for.
    pub store: Option<PathBuf>,
    /// How their engines are set up.
    pub engine: EngineOptions,
    /// A model of the store that nobody uses is unloaded after this time.
    pub ttl: Option<Duration>,
    /// Bytes that weights and pages of all loaded models may take; a single model may take more, and is slow then.
    pub memory_bytes: Option<u64>,
    /// Longest name that is looked up.
    pub max_name_bytes: usize,
}

/// A model as lists show it.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// What clients call it.
    pub name: String,
    /// Facts of its file.
    pub details: Details,
    /// The model, when it is loaded.
    pub loaded: Option<Arc<Loaded>>,
}

/// All models of a server.
pub struct Models {
    entries: RwLock<IndexMap<String, Arc<Entry>>>,
    settings: ModelSettings,
    /// Models of the command line, at least 1: they share the memory.
    n_named: u64,
    kernels: Arc<Mutex<Kernels>>,
    metrics: Arc<Metrics>,
    /// Held while room is made and a model is loaded: two that load at once would both count on the same bytes.
    room: AsyncMutex<()>,
}

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

impl Models {
    /// The named models, and those of the store. Nothing is loaded yet.
    pub fn new(
        named: Vec<NamedModel>,
        settings: ModelSettings,
        kernels: Kernels,
        metrics: Arc<Metrics>,
    ) -> Arc<Models> {
        let n_named = named.len().max(1) as u64;
        let entries = named
            .into_iter()
            .map(|model| (model.name.clone(), Entry::new(model.name, model.file, true)))
            .collect();
        let models = Models {
            entries: RwLock::new(entries),
            settings,
            n_named,
            kernels: Arc::new(Mutex::new(kernels)),
            metrics,
            room: AsyncMutex::default(),
        };
        models.look_into_store();
        Arc::new(models)
    }

    /// Loads the named models.
    ///
    /// # Errors
    ///
    /// The first that cannot be loaded, with its name.
    pub async fn load_named(self: &Arc<Self>) -> Result<(), (String, LoadError)> {
        for entry in self.entries() {
            if entry.is_named {
                self.load(&entry)
                    .await
                    .map_err(|error| (entry.name.clone(), error))?;
            }
        }
        Ok(())
    }

    /// The model of that name, loaded. `m` and `m:latest` are the same.
    ///
    /// # Errors
    ///
    /// There is none of that name, it cannot be loaded, or there is no room for it now.
    pub async fn get(self: &Arc<Self>, name: &str) -> Result<Arc<Loaded>, ApiError> {
        let entry = self.find(name)?;
        if let Some(loaded) = entry.loaded() {
            loaded.touch();
            return Ok(loaded);
        }
        // The gate goes into a task of its own: the load is finished also when this request goes away.
        let gate = entry.gate.clone().lock_owned().await;
        if let Some(loaded) = entry.loaded() {
            loaded.touch();
            return Ok(loaded);
        }
        if !entry.is_named && !entry.is_there() {
            return Err(ApiError::unknown_model(name));
        }
        let models = self.clone();
        let task = tokio::spawn(async move {
            let _room = models.room.lock().await;
            models.make_room(&entry).await?;
            let loaded = models.load(&entry).await;
            drop(gate);
            loaded.map_err(|error| {
                tracing::error!(model = entry.name, error = %causes(&error), "a model cannot be loaded");
                ApiError::new(
                    crate::error::ErrorKind::Unavailable,
                    format!("model '{}' cannot be loaded; the server's log says why", entry.name),
                )
            })
        });
        task.await
            .unwrap_or_else(|error| Err(ApiError::internal(error)))
    }

    /// The only model there is, for routes whose clients do not name one.
    ///
    /// # Errors
    ///
    /// There are none or several, or it cannot be loaded.
    pub async fn only(self: &Arc<Self>) -> Result<Arc<Loaded>, ApiError> {
        let entries = self.entries();
        match entries.as_slice() {
            [entry] => self.get(&entry.name).await,
            _ => Err(ApiError::invalid(
                "model",
                "'model' is required: this server has several",
            )),
        }
    }

    /// Facts of one model.
    ///
    /// # Errors
    ///
    /// There is none of that name.
    pub async fn info(&self, name: &str) -> Result<ModelInfo, ApiError> {
        let entry = self.find(name)?;
        let unknown = ApiError::unknown_model(name);
        blocking(move || info(&entry)).await.ok_or(unknown)
    }

    /// The file of a model, for what its head says.
    ///
    /// # Errors
    ///
    /// There is none of that name, or no longer a model file.
    pub async fn open(&self, name: &str) -> Result<Arc<Gguf>, ApiError> {
        let entry = self.find(name)?;
        let gguf = blocking(move || entry.file.open()).await;
        gguf.map_err(|_| ApiError::unknown_model(name))
    }

    /// All models.
    pub async fn list(&self) -> Vec<ModelInfo> {
        self.look_into_store();
        let entries = self.entries();
        blocking(move || entries.iter().filter_map(|entry| info(entry)).collect()).await
    }

    /// Unloads a model if nobody uses it now, and says whether it is unloaded.
    ///
    /// # Errors
    ///
    /// There is none of that name.
    pub async fn unload(&self, name: &str) -> Result<bool, ApiError> {
        let entry = self.find(name)?;
        self.unload_idle(&entry).await;
        Ok(entry.loaded().is_none())
    }

    /// Unloads what has not been used for too long: to be called now and then.
    pub async fn sweep(&self) {
        for entry in self.entries() {
            if entry.is_busy() {
                if let Some(loaded) = entry.loaded() {
                    loaded.touch();
                }
            } else if entry.loaded().is_some_and(|loaded| loaded.is_expired()) {
                self.unload_idle(&entry).await;
            }
        }
    }

    /// Ends all engines: what ends within the grace is finished, the rest fails, pages go to disk.
    pub async fn shut_down(&self, grace: Duration) {
        let loaded: Vec<Arc<Loaded>> = self
            .entries()
            .iter()
            .filter_map(|entry| entry.loaded())
            .collect();
        let tasks = loaded
            .into_iter()
            .map(|loaded| blocking(move || loaded.engine.shut_down(grace)));
        futures_util::future::join_all(tasks).await;
    }

    /// Figures of the loaded models.
    pub fn snapshots(&self) -> Vec<(String, EngineSnapshot)> {
        let loaded = self
            .entries()
            .into_iter()
            .filter_map(|entry| entry.loaded());
        loaded
            .map(|loaded| (loaded.name.clone(), loaded.engine.snapshot()))
            .collect()
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.values().cloned().collect()
    }

    fn find(&self, name: &str) -> Result<Arc<Entry>, ApiError> {
        if !is_name(name, self.settings.max_name_bytes) {
            return Err(ApiError::unknown_model(name));
        }
        let known = |name: &str| {
            let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
            let entry = entries
                .get(name)
                .or_else(|| entries.get(without_latest(name)));
            entry
                .filter(|entry| entry.is_named || entry.is_there())
                .cloned()
        };
        known(name)
            .or_else(|| {
                self.look_into_store();
                known(name)
            })
            .ok_or_else(|| ApiError::unknown_model(name))
    }

    /// Takes in files that have come, and forgets those that are gone.
    fn look_into_store(&self) {
        let Some(folder) = &self.settings.store else {
            return;
        };
        let files = in_folder(folder);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|name, entry| {
            entry.is_named
                || entry.loaded().is_some()
                || files.iter().any(|(known, _)| known == name)
        });
        for (name, path) in files {
            if is_name(&name, self.settings.max_name_bytes) && !entries.contains_key(&name) {
                entries.insert(name.clone(), Entry::new(name, ModelFile::Path(path), false));
            }
        }
    }

    /// Loads a model whose gate the caller holds, or that nobody else can ask for yet.
    async fn load(&self, entry: &Arc<Entry>) -> Result<Arc<Loaded>, LoadError> {
        let load = Load {
            name: entry.name.clone(),
            file: entry.file.clone(),
            kernels: self.kernels.clone(),
            options: self.settings.engine.clone(),
            memory_bytes: self.settings.memory_bytes.map(|bytes| bytes / self.n_named),
            keep: self.settings.ttl.filter(|_| !entry.is_named),
        };
        let loaded = blocking(move || load.run()).await?;
        let loaded = Arc::new(loaded);
        entry.put(loaded.clone());
        tracing::info!(
            model = entry.name,
            n_ctx = loaded.engine.n_ctx(),
            ms = loaded.load_time.as_millis() as u64,
            "model loaded"
        );
        Ok(loaded)
    }

    /// Unloads what is idle, longest unused first, until the model fits beside the rest.
    async fn make_room(&self, entry: &Entry) -> Result<(), ApiError> {
        let Some(limit) = self.settings.memory_bytes else {
            return Ok(());
        };
        let details = entry.details();
        let needed = details.map_or(0, |details| details.size);
        loop {
            let mut loaded: Vec<(Arc<Entry>, Instant)> = Vec::new();
            let mut used = 0;
            for other in self.entries() {
                if let Some(model) = other.loaded() {
                    used += model.memory_bytes();
                    loaded.push((other, model.last_used()));
                }
            }
            // A model larger than memory is slow, not refused.
            if loaded.is_empty() || used + needed <= limit {
                return Ok(());
            }
            loaded.sort_by_key(|(_, last_used)| *last_used);
            let mut is_freed = false;
            for (other, _) in &loaded {
                if self.unload_idle(other).await {
                    is_freed = true;
                    break;
                }
            }
            if !is_freed {
                return Err(ApiError::unavailable(format!(
                    "there is no memory for model '{}' while others answer; try again later",
                    entry.name
                ))
                .retry_after(10));
            }
        }
    }

    async fn unload_idle(&self, entry: &Entry) -> bool {
        // Whoever has the gate is loading or unloading it.
        let Ok(_gate) = entry.gate.try_lock() else {
            return false;
        };
        self.unload_held(entry).await
    }

    /// The same for a caller that has the gate.
    async fn unload_held(&self, entry: &Entry) -> bool {
        let Some(loaded) = entry.take_idle() else {
            return false;
        };
        self.metrics.ended(&entry.name, &loaded.engine.snapshot());
        blocking(move || loaded.engine.shut_down(Duration::ZERO)).await;
        tracing::info!(model = entry.name, "model unloaded");
        true
    }
}

fn info(entry: &Entry) -> Option<ModelInfo> {
    let loaded = entry.loaded();
    let details = match &loaded {
        Some(loaded) => loaded.details.clone(),
        None => entry.details()?,
    };
    Some(ModelInfo {
        name: entry.name.clone(),
        details,
        loaded,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error and all behind it on one line, for the log.
fn causes(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Runs what may block on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
