//! Every implementation passes the one contract suite.

use std::sync::Arc;

use longshore_store::contract::CASES;
use longshore_store::{EmbeddedStore, MemoryStore, Options, Store};

#[tokio::test]
async fn the_memory_store_keeps_the_contract() {
    for (name, case) in CASES {
        eprintln!("memory: {name}");
        case(Arc::new(MemoryStore::new())).await;
    }
}

#[tokio::test]
async fn the_embedded_store_keeps_the_contract() {
    for (name, case) in CASES {
        eprintln!("embedded: {name}");
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = EmbeddedStore::open(&dir.path().join("db"), Options::default());
        let store: Arc<dyn Store> = Arc::new(store.expect("a new database opens"));
        case(store).await;
    }
}
