//! Custom resources while their definitions come and go.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use longshore_apiserver::body::full;
use longshore_store::{RangeRequest, prefix_end};
use serde_json::{Value, json};

use crate::wire::{PATIENCE, Rig, rig};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";
/// How often the definition is made and deleted.
const ROUNDS: usize = 4;
/// Who creates at the same time.
const CREATORS: usize = 8;
/// How many objects each of them creates at most.
const CREATES: usize = 16;

fn widgets() -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    })
}

async fn delete(rig: &Rig, path: &str) -> u16 {
    rig.send(Request::delete(path).body(full("")).unwrap()).await.code
}

/// Requests that found the resource served may still be on their way when its definition ends. What
/// they create is deleted as well, or they are refused: nothing is left for the next definition of
/// the same name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_a_definition_that_is_deleted_under_creates() {
    let rig = Arc::new(rig(false).await);
    for round in 0..ROUNDS {
        assert_eq!(rig.post(DEFINITIONS, &widgets()).await.code, 201);
        rig.until(WIDGETS, 200).await;
        let creators: Vec<_> = (0..CREATORS)
            .map(|creator| {
                let rig = rig.clone();
                tokio::spawn(async move {
                    for number in 0..CREATES {
                        let name = format!("w-{creator}-{number}");
                        let widget = json!({
                            "apiVersion": "example.com/v1", "kind": "Widget",
                            "metadata": {"name": name},
                        });
                        if rig.post(WIDGETS, &widget).await.code != 201 {
                            break;
                        }
                    }
                })
            })
            .collect();
        let definition = format!("{DEFINITIONS}/widgets.example.com");
        assert_eq!(delete(&rig, &definition).await, 200);
        rig.until(&definition, 404).await;
        for creator in creators {
            tokio::time::timeout(PATIENCE, creator).await.expect("creates end").unwrap();
        }
        let start = Bytes::from_static(b"/registry/example.com/");
        let end = prefix_end(&start);
        let request = RangeRequest { start, end, ..RangeRequest::default() };
        let left = rig.store.range(request).await.unwrap().kvs;
        assert!(left.is_empty(), "round {round}: {:?}", left.first().map(|kv| &kv.key));
    }
}
