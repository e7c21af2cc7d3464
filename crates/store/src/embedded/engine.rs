//! The durable part behind a small seam: SQLite in production, a faulty one in tests.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::OpenError;
use crate::{Error, Revision};

/// The format this version writes. 1: first.
const FORMAT: i64 = 1;
/// Bytes of a page: a page holds several objects, so that a batch writes few of them.
const PAGE_BYTES: u32 = 16 << 10;
/// The WAL is emptied into the database when it is longer than this many pages.
const WAL_PAGES_MAX: u32 = (16 << 20) / PAGE_BYTES;
/// Free pages given back to the file system in one step.
const VACUUM_PAGES_MAX: u32 = (1 << 20) / PAGE_BYTES;

/// One change as the engine keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// The new value; `None` for a deletion.
    pub value: Option<Bytes>,
    /// Its revision.
    pub revision: Revision,
    /// When the key ends, in milliseconds since 1970.
    pub expires_at: Option<i64>,
}

/// What an engine holds when it is opened.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Changes in revision order: at least the newest of every live key and all above the floor.
    pub changes: Vec<Change>,
    /// The compaction floor.
    pub floor: Revision,
    /// The newest revision ever committed.
    pub newest: Revision,
}

/// Durable storage of changes. One thread uses it.
pub trait Engine: Send {
    /// Reads everything; called once, first.
    fn load(&mut self) -> Result<Loaded, OpenError>;

    /// Makes a batch durable, all or nothing. After an error the engine is not used again.
    fn commit(&mut self, batch: &[Change]) -> Result<(), Error>;

    /// Stores a new compaction floor.
    fn set_floor(&mut self, floor: Revision) -> Result<(), Error>;

    /// Removes superseded changes by revision; they are not needed even if this fails half-way.
    fn remove(&mut self, revisions: &[Revision]) -> Result<(), Error>;
}

/// SQLite in WAL mode with a sync for each commit.
pub struct SqliteEngine {
    db: Connection,
    path: String,
}

fn backend(error: rusqlite::Error) -> Error {
    Error::Backend(error.to_string())
}

impl SqliteEngine {
    /// Opens or creates a database file and takes its lock.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let text = path.display().to_string();
        let db = Connection::open(path).map_err(|e| open_error(&text, &e))?;
        Self::prepare(&db).map_err(|e| open_error(&text, &e))?;
        let format: i64 = db
            .query_row("SELECT value FROM meta WHERE name = 'format'", [], |row| row.get(0))
            .map_err(|e| open_error(&text, &e))?;
        if format > FORMAT {
            return Err(OpenError::NewerFormat { path: text, found: format, known: FORMAT });
        }
        Ok(Self { db, path: text })
    }

    fn prepare(db: &Connection) -> rusqlite::Result<()> {
        db.busy_timeout(Duration::ZERO)?;
        db.execute_batch(&format!(
            "PRAGMA page_size = {PAGE_BYTES};
             PRAGMA auto_vacuum = INCREMENTAL;
             PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX};
             PRAGMA cache_size = -4096;
             BEGIN IMMEDIATE;
             CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS revision (
                 rev INTEGER PRIMARY KEY, key BLOB NOT NULL, value BLOB, expires_at INTEGER);
             INSERT OR IGNORE INTO meta VALUES ('format', {FORMAT}), ('floor', 0), ('newest', 0);
             COMMIT;"
        ))
    }

    fn number(&self, name: &str) -> rusqlite::Result<Revision> {
        let value: Option<i64> = self
            .db
            .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
            .optional()?;
        Ok(Revision(value.unwrap_or(0).cast_unsigned()))
    }

    fn read_changes(&self) -> rusqlite::Result<Vec<Change>> {
        let mut statement =
            self.db.prepare("SELECT rev, key, value, expires_at FROM revision ORDER BY rev")?;
        let rows = statement.query_map([], |row| {
            Ok(Change {
                revision: Revision(row.get::<_, i64>(0)?.cast_unsigned()),
                key: Bytes::from(row.get::<_, Vec<u8>>(1)?),
                value: row.get::<_, Option<Vec<u8>>>(2)?.map(Bytes::from),
                expires_at: row.get(3)?,
            })
        })?;
        rows.collect()
    }

    fn write(&mut self, batch: &[Change]) -> rusqlite::Result<()> {
        let txn = self.db.transaction()?;
        {
            let mut insert = txn.prepare_cached(
                "INSERT INTO revision (rev, key, value, expires_at) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for change in batch {
                insert.execute(params![
                    change.revision.0.cast_signed(),
                    change.key.as_ref(),
                    change.value.as_deref(),
                    change.expires_at,
                ])?;
            }
            if let Some(last) = batch.last() {
                txn.prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'newest'")?
                    .execute([last.revision.0.cast_signed()])?;
            }
        }
        txn.commit()
    }

    fn delete(&mut self, revisions: &[Revision]) -> rusqlite::Result<()> {
        let txn = self.db.transaction()?;
        {
            let mut delete = txn.prepare_cached("DELETE FROM revision WHERE rev = ?1")?;
            for revision in revisions {
                delete.execute([revision.0.cast_signed()])?;
            }
        }
        txn.commit()?;
        let mut vacuum =
            self.db.prepare_cached(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES_MAX})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }
}

impl Engine for SqliteEngine {
    fn load(&mut self) -> Result<Loaded, OpenError> {
        let read = || {
            Ok(Loaded {
                changes: self.read_changes()?,
                floor: self.number("floor")?,
                newest: self.number("newest")?,
            })
        };
        let loaded: Loaded = read().map_err(|e| open_error(&self.path, &e))?;
        if loaded.changes.last().is_some_and(|last| last.revision > loaded.newest) {
            let why = "a change is newer than the newest committed revision".to_owned();
            return Err(OpenError::Damaged { path: self.path.clone(), why });
        }
        Ok(loaded)
    }

    fn commit(&mut self, batch: &[Change]) -> Result<(), Error> {
        self.write(batch).map_err(backend)
    }

    fn set_floor(&mut self, floor: Revision) -> Result<(), Error> {
        self.db
            .execute("UPDATE meta SET value = ?1 WHERE name = 'floor'", [floor.0.cast_signed()])
            .map(|_| ())
            .map_err(backend)
    }

    fn remove(&mut self, revisions: &[Revision]) -> Result<(), Error> {
        self.delete(revisions).map_err(backend)
    }
}

fn open_error(path: &str, error: &rusqlite::Error) -> OpenError {
    let (path, why) = (path.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked(path),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { path, why }
        }
        _ => OpenError::Io { path, why },
    }
}
