//! Keys: made, listed and revoked by name, kept as hashes, compared in constant time.
//!
//! A key of ours is 256 random bits, so one SHA-256 is all the hashing it needs: there is nothing to guess, and slow hashes
//! exist for passwords, which can be guessed. A key is shown once, when it is made; the file keeps its hash and its first letters. Every
//! comparison looks at every known hash whole, so the time it takes says nothing about any of them. The server asks the file
//! whether it has changed with each request, so a revoked key is refused from the next request on.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hearth_engine::{Owner, Priority};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::{error::ApiError, ids, private::make_private};

/// What every key of ours begins with, so that a leaked one is recognised.
const PREFIX: &str = "hearth-";
/// Letters of a key that are shown in lists.
const SHOWN: usize = PREFIX.len() + 6;
/// The most keys a file may have: all are compared with each request.
const MAX_KEYS: usize = 10_000;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS keys (
    name TEXT PRIMARY KEY NOT NULL,
    hash BLOB UNIQUE NOT NULL,
    shown TEXT NOT NULL,
    weight INTEGER NOT NULL,
    is_background INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT";

/// Why keys could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The database.
    #[error("cannot use the file of keys: {0}")]
    Database(#[from] rusqlite::Error),
    /// A name that is taken.
    #[error("there is a key named '{0}' already")]
    Exists(String),
    /// A name that nobody has.
    #[error("there is no key named '{0}'")]
    Unknown(String),
    /// A name that cannot be one.
    #[error("'{0}' is no name for a key: 1 to 64 letters, digits, '.', '_' or '-'")]
    Name(String),
    /// Too many.
    #[error("there are {MAX_KEYS} keys already")]
    TooMany,
    /// A given key that is empty or cannot be sent in a header.
    #[error("a key must be 1 to 512 visible ASCII characters")]
    Key,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// What its owner is told apart by; no other key ever has it, also not one that gets the name of a revoked one.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// Its first letters.
    pub shown: String,
    /// Share of the machine against that of other owners, from 1.
    pub weight: u32,
    /// How urgent its requests are unless they say otherwise.
    pub priority: Priority,
    /// Unix seconds of its making.
    pub created: i64,
}

impl KeyInfo {
    /// The owner of the work done with this key.
    pub fn owner(&self) -> Owner {
        Owner {
            name: Arc::from(self.id.as_str()),
            weight: self.weight,
        }
    }
}

type Hash = [u8; 32];

fn hash(key: &[u8]) -> Hash {
    Sha256::digest(key).into()
}

/// The id of a key: as unlikely to come twice as the key itself, the same after a restart, and no part of the hash.
fn id(hash: &Hash) -> String {
    let digest = Sha256::new()
        .chain_update("hearth owner")
        .chain_update(hash);
    format!("key-{}", ids::hex(&digest.finalize()[..16]))
}

/// The file of keys.
#[derive(Debug)]
pub struct KeyFile {
    connection: Connection,
}

impl KeyFile {
    /// Opens the file, or makes it. Its folder must exist.
    ///
    /// # Errors
    ///
    /// It cannot be opened or is none of ours.
    pub fn open(path: &Path) -> Result<KeyFile, KeyError> {
        make_private(path);
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(2))?;
        connection.execute(SCHEMA, [])?;
        Ok(KeyFile { connection })
    }

    /// Makes a key and gives it: the only time it can be read.
    ///
    /// # Errors
    ///
    /// The name is taken or impossible, or the file cannot be written.
    pub fn add(&self, name: &str, weight: u32, priority: Priority) -> Result<String, KeyError> {
        check_name(name)?;
        if self.list()?.len() >= MAX_KEYS {
            return Err(KeyError::TooMany);
        }
        let key = PREFIX.to_owned() + &BASE64_URL_SAFE_NO_PAD.encode(ids::random::<32>());
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let inserted = self.connection.execute(
            "INSERT INTO keys VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                name,
                hash(key.as_bytes()),
                &key[..SHOWN],
                weight.max(1),
                priority == Priority::Background,
                now.as_secs() as i64
            ],
        );
        match inserted {
            Err(rusqlite::Error::SqliteFailure(failure, _))
                if failure.code == ErrorCode::ConstraintViolation =>
            {
                Err(KeyError::Exists(name.to_owned()))
            }
            Err(error) => Err(error.into()),
            Ok(_) => Ok(key),
        }
    }

    /// All keys by name.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        Ok(self.read()?.into_iter().map(|(_, info)| info).collect())
    }

    /// Forgets a key.
    ///
    /// # Errors
    ///
    /// There is none of that name, or the file cannot be written.
    pub fn revoke(&self, name: &str) -> Result<(), KeyError> {
        match self
            .connection
            .execute("DELETE FROM keys WHERE name = ?1", [name])?
        {
            0 => Err(KeyError::Unknown(name.to_owned())),
            _ => Ok(()),
        }
    }

    fn read(&self) -> Result<Vec<(Hash, KeyInfo)>, KeyError> {
        let query =
            "SELECT hash, name, shown, weight, is_background, created FROM keys ORDER BY name";
        let mut statement = self.connection.prepare(query)?;
        let rows = statement.query_map([], |row| {
            let hash: Hash = row.get(0)?;
            let info = KeyInfo {
                id: id(&hash),
                name: row.get(1)?,
                shown: row.get(2)?,
                weight: row.get::<_, u32>(3)?.max(1),
                priority: match row.get(4)? {
                    true => Priority::Background,
                    false => Priority::Interactive,
                },
                created: row.get(5)?,
            };
            Ok((hash, info))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A number that changes when another connection has changed the file.
    fn version(&self) -> Result<i64, KeyError> {
        let version = self
            .connection
            .query_row("PRAGMA data_version", [], |row| row.get(0));
        Ok(version.optional()?.unwrap_or_default())
    }
}

fn check_name(name: &str) -> Result<(), KeyError> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match (1..=64).contains(&name.len()) && name.bytes().all(is_letter) {
        true => Ok(()),
        false => Err(KeyError::Name(name.to_owned())),
    }
}

/// The keys a server knows.
#[derive(Debug, Default)]
pub struct Keys {
    given: Vec<(Hash, KeyInfo)>,
    file: Option<Mutex<Watched>>,
    /// Set once there is a key: a server that needed keys does not open up when the last one is revoked.
    are_needed: AtomicBool,
}

/// A file of keys, and what was in it when it last changed.
#[derive(Debug)]
struct Watched {
    file: KeyFile,
    version: Option<i64>,
    keys: Vec<(Hash, KeyInfo)>,
}

impl Watched {
    fn refresh(&mut self) -> Result<&[(Hash, KeyInfo)], KeyError> {
        let version = self.file.version()?;
        if self.version != Some(version) {
            self.keys = self.file.read()?;
            self.version = Some(version);
        }
        Ok(&self.keys)
    }
}

impl Keys {
    /// The keys of a file, and those given beside it. Each given key is an owner of its own.
    ///
    /// # Errors
    ///
    /// A given key cannot be one, or the file cannot be read.
    pub fn new(given: &[String], file: Option<KeyFile>) -> Result<Keys, KeyError> {
        let given = given
            .iter()
            .map(|key| given_key(key))
            .collect::<Result<Vec<_>, _>>()?;
        let mut keys = Keys {
            are_needed: AtomicBool::new(!given.is_empty()),
            given,
            file: None,
        };
        if let Some(file) = file {
            let mut watched = Watched {
                file,
                version: None,
                keys: Vec::new(),
            };
            let has_keys = !watched.refresh()?.is_empty();
            keys.are_needed.fetch_or(has_keys, Ordering::Relaxed);
            keys.file = Some(Mutex::new(watched));
        }
        Ok(keys)
    }

    /// Whether a request needs a key.
    pub fn are_needed(&self) -> bool {
        self.are_needed.load(Ordering::Relaxed)
    }

    /// The key among those a request shows, if one of them is ours.
    ///
    /// # Errors
    ///
    /// The file cannot be read: then nobody is let in.
    pub fn admit<'a>(
        &self,
        shown: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<KeyInfo>, ApiError> {
        // Nobody has a reason to send more; hashing is work.
        let shown: Vec<Hash> = shown.take(4).map(hash).collect();
        let mut found = find(&self.given, &shown, is_same);
        if let Some(file) = &self.file {
            let mut watched = lock(file);
            let keys = watched.refresh().map_err(ApiError::internal)?;
            if !keys.is_empty() {
                self.are_needed.store(true, Ordering::Relaxed);
            }
            found = find(keys, &shown, is_same).or(found);
        }
        Ok(found.filter(|_| self.are_needed()))
    }
}

fn lock(file: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    file.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Whether two hashes are one; takes as long either way.
fn is_same(a: &Hash, b: &Hash) -> Choice {
    a.ct_eq(b)
}

/// Looks at every pair, also after a match. A [`Choice`] is what comparisons give whose time says nothing.
fn find(
    known: &[(Hash, KeyInfo)],
    shown: &[Hash],
    mut is_same: impl FnMut(&Hash, &Hash) -> Choice,
) -> Option<KeyInfo> {
    let mut found = None;
    for (hash, info) in known {
        for candidate in shown {
            if bool::from(is_same(hash, candidate)) {
                found = Some(info);
            }
        }
    }
    found.cloned()
}

fn given_key(key: &str) -> Result<(Hash, KeyInfo), KeyError> {
    let is_sendable =
        (1..=512).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_sendable {
        return Err(KeyError::Key);
    }
    let hash = hash(key.as_bytes());
    let id = id(&hash);
    let info = KeyInfo {
        // Nobody has named it.
        name: id[..16].to_owned(),
        id,
        shown: String::new(),
        weight: 1,
        priority: Priority::Interactive,
        created: 0,
    };
    Ok((hash, info))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct TempFile(PathBuf);

    impl TempFile {
        fn new(name: &str) -> TempFile {
            let path =
                std::env::temp_dir().join(format!("hearth-keys-{}-{name}", std::process::id()));
            let _ = std::fs::remove_file(&path);
            TempFile(path)
        }

        fn open(&self) -> KeyFile {
            KeyFile::open(&self.0).unwrap()
        }
    }

    impl Drop for TempFile {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn admit(keys: &Keys, shown: &str) -> Option<String> {
        let found = keys.admit([shown.as_bytes()].into_iter()).unwrap();
        found.map(|key| key.name)
    }

    #[test]
    fn a_key_lives_from_add_to_revoke() {
        let file = TempFile::new("life");
        let key = file.open().add("anna", 3, Priority::Background).unwrap();
        assert!(key.starts_with("hearth-") && key.len() == 7 + 43, "{key}");
        let keys = Keys::new(&[], Some(file.open())).unwrap();
        assert!(keys.are_needed());
        assert_eq!(admit(&keys, &key), Some("anna".into()));
        assert_eq!(admit(&keys, &key[..key.len() - 1]), None);
        let list = file.open().list().unwrap();
        assert_eq!(
            (list[0].weight, list[0].priority),
            (3, Priority::Background)
        );
        assert!(key.starts_with(&list[0].shown) && list[0].shown.len() < 16);
        file.open().revoke("anna").unwrap();
        assert_eq!(admit(&keys, &key), None, "revoked while the server runs");
        assert!(keys.are_needed(), "and the server does not open up");
    }

    #[test]
    fn a_name_that_is_given_again_is_another_owner() {
        let file = TempFile::new("again");
        let keys = Keys::new(&[], Some(file.open())).unwrap();
        let owner_of = |key: &str| {
            let found = keys.admit([key.as_bytes()].into_iter()).unwrap();
            found.map(|key| (key.name.clone(), key.owner().name))
        };
        let first = file.open().add("anna", 1, Priority::Interactive).unwrap();
        let (name, owner) = owner_of(&first).unwrap();
        assert_eq!(owner_of(&first).unwrap().1, owner, "it stays the same");
        file.open().revoke("anna").unwrap();
        let second = file.open().add("anna", 1, Priority::Interactive).unwrap();
        let (name_again, other) = owner_of(&second).unwrap();
        assert_eq!(name_again, name);
        assert_ne!(other, owner, "what the first one left is not the second's");
    }

    #[test]
    fn cve_2025_59425_keys_are_compared_whole_and_all_of_them() {
        let given: Vec<String> = (0..8).map(|n| format!("key-number-{n}")).collect();
        let keys = Keys::new(&given, None).unwrap();
        let last = keys.given.len() - 1;
        for (place, shown) in [
            (Some(0), &given[0]),
            (Some(last), &given[last]),
            (None, &"key-number-".to_owned()),
        ] {
            let mut n_compared = 0;
            let count = |a: &Hash, b: &Hash| {
                n_compared += 1;
                a.ct_eq(b)
            };
            // Hashes have one length, so how much of a key is right shows nowhere.
            let found = find(
                &keys.given,
                &[hash(shown.as_bytes()), hash(b"other")],
                count,
            );
            assert_eq!(found, place.map(|at| keys.given[at].1.clone()));
            assert_eq!(n_compared, 2 * given.len(), "no match ends the comparison");
        }
    }

    #[test]
    fn the_first_key_closes_a_running_server() {
        let file = TempFile::new("first");
        let keys = Keys::new(&[], Some(file.open())).unwrap();
        assert!(!keys.are_needed());
        assert_eq!(admit(&keys, "anything"), None);
        file.open().add("a", 1, Priority::Interactive).unwrap();
        assert_eq!(admit(&keys, "anything"), None);
        assert!(keys.are_needed());
    }

    #[test]
    fn the_file_has_no_key_in_it() {
        let file = TempFile::new("hashed");
        let key = file.open().add("a", 1, Priority::Interactive).unwrap();
        let bytes = std::fs::read(&file.0).unwrap();
        let secret = &key.as_bytes()[SHOWN..];
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }

    #[test]
    fn names_are_checked_and_unique() {
        let temporary = TempFile::new("names");
        let file = temporary.open();
        for bad in ["", "a b", "a/b", "\u{e4}", "-\n", &"x".repeat(65)] {
            assert!(
                matches!(
                    file.add(bad, 1, Priority::Interactive),
                    Err(KeyError::Name(_))
                ),
                "{bad:?}"
            );
        }
        file.add("a", 1, Priority::Interactive).unwrap();
        assert!(matches!(
            file.add("a", 1, Priority::Interactive),
            Err(KeyError::Exists(_))
        ));
        assert!(matches!(file.revoke("b"), Err(KeyError::Unknown(_))));
    }

    #[test]
    fn given_keys_need_no_file_and_are_owners_of_their_own() {
        let keys = Keys::new(&["one".into(), "two".into()], None).unwrap();
        let (one, two) = (admit(&keys, "one").unwrap(), admit(&keys, "two").unwrap());
        assert!(one != two && one.starts_with("key-"));
        assert_eq!(admit(&keys, "three"), None);
        for bad in ["", "a b", "\u{e4}", "a\n"] {
            assert!(
                matches!(Keys::new(&[bad.into()], None), Err(KeyError::Key)),
                "{bad:?}"
            );
        }
    }
}
