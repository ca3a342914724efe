//! Files that only their owner may read: keys, and what was said.

use std::path::Path;

/// Makes the file of a database before the database does, so that it is its owner's alone from the beginning; SQLite gives
/// the files beside it the same mode.
pub(crate) fn make_private(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let made = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path);
        let result =
            made.and_then(|file| file.set_permissions(std::fs::Permissions::from_mode(0o600)));
        if let Err(error) = result {
            tracing::warn!(path = %path.display(), %error, "a file may be read by others");
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use crate::{
        keys::KeyFile,
        limits::Limits,
        openai::responses::store::{Bounds, ResponseStore},
    };

    #[test]
    fn keys_and_answers_are_their_owners_alone() {
        let folder = std::env::temp_dir().join(format!("hearth-private-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (keys, answers) = (folder.join("keys.sqlite"), folder.join("answers.sqlite"));
        // One that others may read, as earlier versions made it, is closed.
        std::fs::write(&keys, "").unwrap();
        std::fs::set_permissions(&keys, PermissionsExt::from_mode(0o644)).unwrap();
        KeyFile::open(&keys).unwrap();
        ResponseStore::open(&answers, Bounds::of(&Limits::default())).unwrap();
        for path in [keys, answers] {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
