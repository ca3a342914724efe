//! A model the server knows, loaded or not.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::Mutex as AsyncMutex;

use super::{Details, Loaded, ModelFile, lock};

/// A model the server knows.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) file: ModelFile,
    /// Stays loaded unless memory is needed.
    pub(super) is_named: bool,
    /// Held while it is being loaded or unloaded.
    pub(super) gate: Arc<AsyncMutex<()>>,
    loaded: RwLock<Option<Arc<Loaded>>>,
    details: Mutex<Option<Details>>,
}

impl Entry {
    /// A model that is not loaded.
    pub(super) fn new(name: String, file: ModelFile, is_named: bool) -> Arc<Entry> {
        Arc::new(Entry {
            name,
            file,
            is_named,
            gate: Arc::default(),
            loaded: RwLock::default(),
            details: Mutex::default(),
        })
    }

    /// The model, if it is loaded.
    pub(super) fn loaded(&self) -> Option<Arc<Loaded>> {
        self.loaded
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes the model out if nobody uses it. Nobody can begin to while the lock is held.
    pub(super) fn take_idle(&self) -> Option<Arc<Loaded>> {
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        let is_idle = loaded
            .as_ref()
            .is_some_and(|loaded| Arc::strong_count(loaded) == 1);
        if is_idle { loaded.take() } else { None }
    }

    /// Puts a model in.
    pub(super) fn put(&self, loaded: Arc<Loaded>) {
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
    }

    /// Whether it is loaded and in use.
    pub(super) fn is_busy(&self) -> bool {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        loaded
            .as_ref()
            .is_some_and(|loaded| Arc::strong_count(loaded) > 1)
    }

    /// Whether there is something to load.
    pub(super) fn is_there(&self) -> bool {
        match &self.file {
            ModelFile::Path(path) => self.loaded().is_some() || path.exists(),
            ModelFile::Builtin(_) => true,
        }
    }

    /// Facts of the file, read again when it has changed.
    pub(super) fn details(&self) -> Option<Details> {
        let modified = self.file.modified();
        let mut details = lock(&self.details);
        if let Some(known) = details.as_ref().filter(|known| known.modified == modified) {
            return Some(known.clone());
        }
        match self.file.open() {
            Ok(gguf) => *details = Some(Details::of(&gguf, modified)),
            Err(error) => {
                tracing::warn!(model = self.name, %error, "a file of the store is left out");
                *details = None;
            }
        }
        details.clone()
    }
}
