//! Responses that were kept, for `previous_response_id` and for those who ask for them again.
//!
//! One SQLite database, in a file or in memory. An item (a message, a call, a result) is kept once and named by every
//! response it belongs to, so a long conversation costs what it says, not the square of it. Everything has an owner, and
//! nobody sees what is another's. Bounded per owner by number and bytes, and by age: the oldest goes first.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::Value;

use crate::{limits::Limits, private::make_private};

/// Kept no longer than this, as the service whose dialect it is does.
const MAX_AGE_S: u64 = 30 * 24 * 3600;

/// The form of the tables; a file with another is begun again.
const FORM: i64 = 1;

const TABLES: &str = "
    CREATE TABLE response (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, created INTEGER NOT NULL, object TEXT NOT NULL
    );
    CREATE INDEX response_owner ON response (owner, created);
    CREATE TABLE item (number INTEGER PRIMARY KEY, owner TEXT NOT NULL, id TEXT NOT NULL, object TEXT NOT NULL);
    CREATE INDEX item_id ON item (owner, id);
    CREATE TABLE entry (
        response TEXT NOT NULL REFERENCES response (id) ON DELETE CASCADE, position INTEGER NOT NULL,
        item INTEGER NOT NULL REFERENCES item (number), is_output INTEGER NOT NULL, PRIMARY KEY (response, position)
    ) WITHOUT ROWID;
    CREATE INDEX entry_item ON entry (item);
";

/// Why something could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the store of responses failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// What stands in the database is no JSON.
    #[error("the store of responses is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
}

/// How much is kept of each owner.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Responses.
    pub n_responses: usize,
    /// Bytes of them and of their items.
    pub n_bytes: usize,
}

impl Bounds {
    /// Those that stand among a server's limits.
    pub fn of(limits: &Limits) -> Self {
        Bounds {
            n_responses: limits.stored_responses,
            n_bytes: limits.stored_bytes,
        }
    }
}

/// A response to keep.
pub struct Record<'a> {
    /// Its id.
    pub id: &'a str,
    /// Seconds since 1970.
    pub created: u64,
    /// The response it continues: what that read and answered comes first.
    pub previous: Option<&'a str>,
    /// What it was given, each with an id.
    pub input: &'a [Value],
    /// What it answered.
    pub output: &'a [Value],
    /// The whole object.
    pub object: &'a Value,
}

/// The responses that were kept. A handle; all clones are one store.
#[derive(Clone)]
pub struct ResponseStore {
    connection: Arc<Mutex<Connection>>,
    bounds: Bounds,
}

impl ResponseStore {
    /// A store that ends with the process.
    ///
    /// # Errors
    ///
    /// The database cannot be made.
    pub fn in_memory(bounds: Bounds) -> Result<Self, StoreError> {
        Self::with(Connection::open_in_memory()?, bounds)
    }

    /// The store in a file, which is made if it is missing, readable by its owner only.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or is no database of ours.
    pub fn open(path: &Path, bounds: Bounds) -> Result<Self, StoreError> {
        make_private(path);
        let connection = Connection::open(path)?;
        // After a crash the last answers may be missing, the file is whole all the same.
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
        Self::with(connection, bounds)
    }

    fn with(connection: Connection, bounds: Bounds) -> Result<Self, StoreError> {
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON;")?;
        let form: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if form != FORM {
            connection.execute_batch(
                "BEGIN; DROP TABLE IF EXISTS entry; DROP TABLE IF EXISTS item; DROP TABLE IF EXISTS response;",
            )?;
            connection.execute_batch(TABLES)?;
            connection.execute_batch(&format!("PRAGMA user_version = {FORM}; COMMIT;"))?;
        }
        let connection = Arc::new(Mutex::new(connection));
        Ok(ResponseStore { connection, bounds })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic in the middle of a transaction has rolled it back.
        self.connection
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Keeps a response, and gives up what is too much or too old of its owner's.
    ///
    /// # Errors
    ///
    /// The database failed; nothing has changed.
    pub fn keep(&self, owner: &str, record: &Record) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        transaction.execute(
            "INSERT INTO response (id, owner, created, object) VALUES (?1, ?2, ?3, ?4)",
            params![
                record.id,
                owner,
                record.created as i64,
                record.object.to_string()
            ],
        )?;
        let mut position = 0;
        if let Some(previous) = record.previous {
            position = transaction.execute(
                "INSERT INTO entry SELECT ?1, position, item, 0 FROM entry JOIN response ON id = response
                 WHERE response = ?2 AND owner = ?3",
                params![record.id, previous, owner],
            )?;
        }
        let input = record.input.iter().map(|item| (item, false));
        for (item, is_output) in input.chain(record.output.iter().map(|item| (item, true))) {
            add_item(&transaction, owner, record.id, position, item, is_output)?;
            position += 1;
        }
        self.give_up(&transaction, owner, record.created)?;
        transaction.commit()?;
        Ok(())
    }

    fn give_up(&self, transaction: &Transaction, owner: &str, now: u64) -> Result<(), StoreError> {
        let oldest = now.saturating_sub(MAX_AGE_S) as i64;
        transaction.execute("DELETE FROM response WHERE created < ?1", [oldest])?;
        transaction.execute(
            "DELETE FROM response WHERE id IN (SELECT id FROM response WHERE owner = ?1 ORDER BY created DESC, rowid DESC LIMIT -1 OFFSET ?2)",
            params![owner, self.bounds.n_responses as i64],
        )?;
        delete_loose_items(transaction)?;
        while n_bytes(transaction, owner)? > self.bounds.n_bytes {
            let n_deleted = transaction.execute(
                "DELETE FROM response WHERE id = (SELECT id FROM response WHERE owner = ?1 ORDER BY created, rowid LIMIT 1)",
                [owner],
            )?;
            delete_loose_items(transaction)?;
            if n_deleted == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The object of a response.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn response(&self, owner: &str, id: &str) -> Result<Option<Value>, StoreError> {
        let connection = self.lock();
        let object: Option<String> = connection
            .query_row(
                "SELECT object FROM response WHERE id = ?1 AND owner = ?2",
                [id, owner],
                |row| row.get(0),
            )
            .optional()?;
        Ok(object.as_deref().map(serde_json::from_str).transpose()?)
    }

    /// What a response was given and, if asked for, what it answered, in order; none if there is no such response.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn items(
        &self,
        owner: &str,
        id: &str,
        with_output: bool,
    ) -> Result<Option<Vec<Value>>, StoreError> {
        let connection = self.lock();
        let exists: Option<i64> = connection
            .query_row(
                "SELECT 1 FROM response WHERE id = ?1 AND owner = ?2",
                [id, owner],
                |row| row.get(0),
            )
            .optional()?;
        if exists.is_none() {
            return Ok(None);
        }
        let mut query = connection.prepare(
            "SELECT item.object FROM entry JOIN item ON item.number = entry.item
             WHERE response = ?1 AND is_output <= ?2 ORDER BY position",
        )?;
        let rows = query.query_map(params![id, with_output], |row| row.get::<_, String>(0))?;
        let mut items = Vec::new();
        for row in rows {
            items.push(serde_json::from_str(&row?)?);
        }
        Ok(Some(items))
    }

    /// An item by its id; of several the newest.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn item(&self, owner: &str, id: &str) -> Result<Option<Value>, StoreError> {
        let connection = self.lock();
        let object: Option<String> = connection
            .query_row(
                "SELECT object FROM item WHERE owner = ?1 AND id = ?2 ORDER BY number DESC LIMIT 1",
                [owner, id],
                |row| row.get(0),
            )
            .optional()?;
        Ok(object.as_deref().map(serde_json::from_str).transpose()?)
    }

    /// Forgets a response; says whether there was one. Items that later responses go on from stay with them.
    ///
    /// # Errors
    ///
    /// The database failed; nothing has changed.
    pub fn delete(&self, owner: &str, id: &str) -> Result<bool, StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let n_deleted = transaction.execute(
            "DELETE FROM response WHERE id = ?1 AND owner = ?2",
            [id, owner],
        )?;
        delete_loose_items(&transaction)?;
        transaction.commit()?;
        Ok(n_deleted > 0)
    }
}

fn add_item(
    transaction: &Transaction,
    owner: &str,
    response: &str,
    position: usize,
    item: &Value,
    is_output: bool,
) -> Result<(), StoreError> {
    let id = item.get("id").and_then(Value::as_str).unwrap_or_default();
    transaction
        .prepare_cached("INSERT INTO item (owner, id, object) VALUES (?1, ?2, ?3)")?
        .execute(params![owner, id, item.to_string()])?;
    transaction
        .prepare_cached(
            "INSERT INTO entry (response, position, item, is_output) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            response,
            position as i64,
            transaction.last_insert_rowid(),
            is_output
        ])?;
    Ok(())
}

fn delete_loose_items(transaction: &Transaction) -> Result<(), StoreError> {
    transaction.execute(
        "DELETE FROM item WHERE NOT EXISTS (SELECT 1 FROM entry WHERE entry.item = item.number)",
        [],
    )?;
    Ok(())
}

fn n_bytes(transaction: &Transaction, owner: &str) -> Result<usize, StoreError> {
    let n: i64 = transaction.query_row(
        "SELECT (SELECT coalesce(sum(octet_length(object)), 0) FROM response WHERE owner = ?1)
              + (SELECT coalesce(sum(octet_length(object)), 0) FROM item WHERE owner = ?1)",
        [owner],
        |row| row.get(0),
    )?;
    Ok(n as usize)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ROOMY: Bounds = Bounds {
        n_responses: 100,
        n_bytes: 1 << 20,
    };

    fn store(bounds: Bounds) -> ResponseStore {
        ResponseStore::in_memory(bounds).unwrap()
    }

    fn message(id: &str) -> Value {
        json!({"type": "message", "id": id, "role": "user", "content": []})
    }

    fn keep(store: &ResponseStore, owner: &str, id: &str, created: u64, previous: Option<&str>) {
        let (input, output) = (
            [message(&format!("in_{id}"))],
            [message(&format!("out_{id}"))],
        );
        let object = json!({"id": id});
        let record = Record {
            id,
            created,
            previous,
            input: &input,
            output: &output,
            object: &object,
        };
        store.keep(owner, &record).unwrap();
    }

    fn ids(items: Option<Vec<Value>>) -> Vec<String> {
        items
            .unwrap()
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_response_holds_what_came_before_it() {
        let store = store(ROOMY);
        keep(&store, "a", "1", 1, None);
        keep(&store, "a", "2", 2, Some("1"));
        assert_eq!(store.response("a", "2").unwrap(), Some(json!({"id": "2"})));
        assert_eq!(
            ids(store.items("a", "2", true).unwrap()),
            ["in_1", "out_1", "in_2", "out_2"]
        );
        assert_eq!(
            ids(store.items("a", "2", false).unwrap()),
            ["in_1", "out_1", "in_2"]
        );
        assert_eq!(store.item("a", "out_1").unwrap(), Some(message("out_1")));
    }

    #[test]
    fn nobody_sees_what_is_anothers() {
        let store = store(ROOMY);
        keep(&store, "a", "1", 1, None);
        assert_eq!(store.response("b", "1").unwrap(), None);
        assert_eq!(store.items("b", "1", true).unwrap(), None);
        assert_eq!(store.item("b", "in_1").unwrap(), None);
        assert!(!store.delete("b", "1").unwrap());
        keep(&store, "b", "2", 2, Some("1"));
        assert_eq!(ids(store.items("b", "2", true).unwrap()), ["in_2", "out_2"]);
        assert!(store.response("a", "1").unwrap().is_some());
    }

    #[test]
    fn a_conversation_outlives_its_first_response() {
        let store = store(ROOMY);
        keep(&store, "a", "1", 1, None);
        keep(&store, "a", "2", 2, Some("1"));
        assert!(store.delete("a", "1").unwrap());
        assert!(!store.delete("a", "1").unwrap());
        assert_eq!(store.response("a", "1").unwrap(), None);
        assert_eq!(
            ids(store.items("a", "2", true).unwrap()),
            ["in_1", "out_1", "in_2", "out_2"]
        );
        assert!(store.delete("a", "2").unwrap());
        assert_eq!(
            store.item("a", "in_1").unwrap(),
            None,
            "its items went with the last response"
        );
    }

    #[test]
    fn the_oldest_goes_first() {
        let store = store(Bounds {
            n_responses: 2,
            ..ROOMY
        });
        keep(&store, "b", "other", 1, None);
        for (created, id) in ["1", "2", "3"].into_iter().enumerate() {
            keep(&store, "a", id, created as u64, None);
        }
        assert_eq!(store.response("a", "1").unwrap(), None);
        assert_eq!(store.item("a", "in_1").unwrap(), None);
        assert!(store.response("a", "2").unwrap().is_some());
        assert!(
            store.response("b", "other").unwrap().is_some(),
            "bounds are each owner's own"
        );
    }

    #[test]
    fn bytes_are_bounded() {
        let store = store(Bounds {
            n_responses: 100,
            n_bytes: 300,
        });
        for (created, id) in ["1", "2", "3", "4", "5", "6"].into_iter().enumerate() {
            keep(&store, "a", id, created as u64, None);
        }
        let kept: Vec<_> = (1..=6)
            .filter(|id| store.response("a", &id.to_string()).unwrap().is_some())
            .collect();
        assert_eq!(kept, [5, 6]);
        let connection = store.lock();
        let n: i64 = connection
            .query_row("SELECT count(*) FROM item", [], |row| row.get(0))
            .unwrap();
        assert_eq!(n, 4);
    }

    #[test]
    fn a_month_is_enough() {
        let store = store(ROOMY);
        keep(&store, "a", "1", 1, None);
        keep(&store, "b", "2", 2 + MAX_AGE_S, None);
        assert_eq!(store.response("a", "1").unwrap(), None);
    }

    #[test]
    fn a_file_is_found_again() {
        let folder = std::env::temp_dir().join(format!("hearth-responses-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("responses.sqlite");
        keep(
            &ResponseStore::open(&path, ROOMY).unwrap(),
            "a",
            "1",
            1,
            None,
        );
        let store = ResponseStore::open(&path, ROOMY).unwrap();
        assert!(store.response("a", "1").unwrap().is_some());
        drop(store);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
