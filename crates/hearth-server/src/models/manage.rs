//! Names of the store that come and go at a client's word.
//!
//! A copy is a further name for the same bytes, a hard link, which takes no room and stays when the first name goes. Names of files
//! are made from names that were checked, and what leads out of the store's folder through a link is refused.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hearth_gguf::{shard_name, shard_of};

use super::{
    ModelFile, Models, blocking,
    names::{can_be_stored, without_latest},
};
use crate::error::ApiError;

/// Why files of the store stay as they are.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("there is a file of that name already")]
    Exists,
    #[error("its folder lies outside the store")]
    Outside,
    #[error("this disk gives the model's file no second name: {0}")]
    NoLink(io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Models {
    /// Gives the model `source` a further name.
    ///
    /// # Errors
    ///
    /// There is no such model, it is no file, or the name cannot be one or is taken.
    pub async fn copy(&self, source: &str, destination: &str) -> Result<(), ApiError> {
        let store = self.store()?.to_owned();
        let entry = self.find(source)?;
        let name = without_latest(destination).to_owned();
        let refused = |why: &str| {
            let message = format!("'destination' is '{}': {why}", shortened(destination));
            ApiError::invalid("destination", message)
        };
        if !can_be_stored(&name, self.settings.max_name_bytes) {
            return Err(refused("that cannot be the name of a model in the store"));
        }
        if self.find(&name).is_ok() {
            return Err(refused("there is a model of that name already"));
        }
        let ModelFile::Path(first) = entry.file.clone() else {
            let message =
                format!("model '{source}' is part of the program and has no file to copy");
            return Err(ApiError::invalid("source", message));
        };
        match blocking(move || link(&store, &first, &name)).await {
            Ok(()) => {}
            Err(StoreError::Io(error)) => return Err(ApiError::internal(error)),
            Err(error) => return Err(refused(&error.to_string())),
        }
        self.look_into_store();
        tracing::info!(model = entry.name, copy = destination, "model copied");
        Ok(())
    }

    /// Removes a model from the store, unloaded first if nobody uses it.
    ///
    /// # Errors
    ///
    /// There is no such model, it does not belong to the store, or it is answering.
    pub async fn remove(&self, name: &str) -> Result<(), ApiError> {
        let store = self.store()?.to_owned();
        let entry = self.find(name)?;
        let first = match &entry.file {
            ModelFile::Path(path) if !entry.is_named => path.clone(),
            _ => {
                return Err(ApiError::forbidden(format!(
                    "model '{}' was named when the server was started; only models of the store can be deleted",
                    entry.name
                )));
            }
        };
        // Whoever asks for it meanwhile waits, and finds it gone.
        let _gate = entry.gate.lock().await;
        self.unload_held(&entry).await;
        if entry.loaded().is_some() {
            return Err(ApiError::unavailable(format!(
                "model '{}' is answering and cannot be deleted now; try again later",
                entry.name
            )));
        }
        match blocking(move || remove(&store, &first)).await {
            Ok(()) => {}
            Err(StoreError::Io(error)) => return Err(ApiError::internal(error)),
            Err(error) => {
                let message = format!("model '{}' cannot be deleted: {error}", entry.name);
                return Err(ApiError::forbidden(message));
            }
        }
        self.look_into_store();
        tracing::info!(model = entry.name, "model deleted");
        Ok(())
    }

    fn store(&self) -> Result<&Path, ApiError> {
        let store = self.settings.store.as_deref();
        store.ok_or_else(|| ApiError::forbidden("this server has no store of models"))
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The files of a model, and how the name of each ends.
fn parts(first: &Path) -> Vec<(PathBuf, String)> {
    let name = first.file_name().and_then(|name| name.to_str());
    let prefix = name.and_then(|name| {
        let (_, count) = shard_of(name)?;
        Some((name.strip_suffix(&shard_name("", 0, count))?, count))
    });
    match prefix {
        None => vec![(first.to_owned(), ".gguf".to_owned())],
        Some((prefix, count)) => (0..count)
            .map(|no| {
                let path = first.with_file_name(shard_name(prefix, no, count));
                (path, shard_name("", no, count))
            })
            .collect(),
    }
}

/// Whether a folder, which need not be there yet, is the store's or inside it, links followed.
fn is_inside(store: &Path, folder: &Path) -> io::Result<bool> {
    let there = folder.ancestors().find(|folder| folder.exists());
    let there = there.unwrap_or(store).canonicalize()?;
    Ok(there.starts_with(store.canonicalize()?))
}

/// Links the files of a model under a name of the store: all of them or none.
fn link(store: &Path, first: &Path, name: &str) -> Result<(), StoreError> {
    let target = store.join(name);
    let folder = target.parent().unwrap_or(store);
    fs::create_dir_all(store)?;
    if !is_inside(store, folder)? {
        return Err(StoreError::Outside);
    }
    fs::create_dir_all(folder)?;
    let mut made = Vec::new();
    for (from, suffix) in parts(first) {
        let to = store.join(format!("{name}{suffix}"));
        // Of a link, the file it leads to.
        if let Err(error) = from
            .canonicalize()
            .and_then(|from| fs::hard_link(from, &to))
        {
            for path in made {
                // What cannot be undone is at worst a name too many.
                let _ = fs::remove_file(path);
            }
            return Err(match error.kind() {
                io::ErrorKind::AlreadyExists => StoreError::Exists,
                _ => StoreError::NoLink(error),
            });
        }
        made.push(to);
    }
    Ok(())
}

/// Removes the files of a model, the first one last: while it is there, the model can be found and removed.
fn remove(store: &Path, first: &Path) -> Result<(), StoreError> {
    let folder = first.parent().unwrap_or(store);
    if !is_inside(store, folder)? {
        return Err(StoreError::Outside);
    }
    for (path, _) in parts(first).into_iter().rev() {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let empty = folder.ancestors().take_while(|folder| *folder != store);
    // The first that is not empty stays, and so does all above it.
    let _ = empty.map(fs::remove_dir).take_while(Result::is_ok).count();
    Ok(())
}
