//! What files and folders of this store are to the operating system: who may read them, and which is which.
//!
//! On Unix only their owner may read them, and a file is known by device and inode. Elsewhere the user's folders are
//! closed to others by themselves, and a file is known by its path.

use std::{
    fs::{self, DirBuilder, Metadata, OpenOptions},
    io,
    path::Path,
};

/// Options for files that only their owner may read.
pub(super) fn private() -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "no modes there"))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a folder that only its owner may enter, or makes sure of it. A link in its place is refused: it leads to a
/// folder that may be meant for something else.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "no modes there"))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => return result,
    }
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if metadata.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        }
    }
    Ok(())
}

/// Which file it is, for the operating system.
#[cfg_attr(unix, expect(unused_variables, reason = "the inode is enough"))]
pub(super) fn place(path: &Path, metadata: &Metadata) -> Vec<u8> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        [metadata.dev(), metadata.ino()]
            .map(u64::to_le_bytes)
            .concat()
    }
    #[cfg(not(unix))]
    path.as_os_str().as_encoded_bytes().to_vec()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::prefix::tests::{Rig, TempFolder, files, tokens};

    #[test]
    fn only_the_user_may_read() {
        let folder = TempFolder::new();
        let ours = folder.0.join("prefix");
        fs::create_dir(&ours).unwrap();
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).unwrap();
        let mut rig = Rig::new(&folder.options());
        rig.read(&tokens(300, 1));
        rig.flush();
        drop(rig);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&ours), 0o700);
        assert_eq!(mode(&folder.0), 0o755, "not ours to change");
        let all = files(&ours);
        assert_eq!(all.len(), 6, "pages, lock and models: {all:?}");
        for path in all {
            assert_eq!(mode(&path), 0o600, "{path:?}");
            assert_eq!(mode(path.parent().unwrap()), 0o700);
        }
    }

    #[test]
    fn a_link_in_the_place_of_the_folder_is_refused() {
        let folder = TempFolder::new();
        let elsewhere = TempFolder::new();
        symlink(&elsewhere.0, folder.0.join("prefix")).unwrap();
        let rig = Rig::new(&folder.options());
        assert!(rig.store.statistics().is_disk_off);
        assert!(files(&elsewhere.0).is_empty());
    }
}
