//! Models come and go: found by name, loaded once, unloaded by age and for others.

mod support;

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use hearth_kernels::{Kernels, Level};
use hearth_server::{
    metrics::Metrics,
    models::{ModelFile, ModelSettings, Models, NamedModel},
};
use support::{TempFile, settings};

/// A folder of models of one test.
struct Store(PathBuf);

impl Store {
    fn new(name: &str, models: &[&str]) -> Store {
        let path = std::env::temp_dir().join(format!("hearth-store-{}-{name}", std::process::id()));
        let store = Store(path);
        for model in models {
            store.add(model);
        }
        store
    }

    fn add(&self, model: &str) {
        let path = self.0.join(format!("{model}.gguf"));
        std::fs::create_dir_all(path.parent().expect("it is in the store")).expect("a folder");
        std::fs::write(path, hearth_testing::tiny_chat::tiny_chat().build()).expect("a file");
    }

    fn models(&self, change: impl FnOnce(&mut ModelSettings)) -> Arc<Models> {
        let mut settings = ModelSettings {
            store: Some(self.0.clone()),
            ..settings()
        };
        change(&mut settings);
        Models::new(
            Vec::new(),
            settings,
            kernels(),
            Arc::new(Metrics::default()),
        )
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn kernels() -> Kernels {
    Kernels::new(Level::best(), NonZeroUsize::MIN).expect("this machine has its best level")
}

async fn loaded(models: &Models) -> Vec<String> {
    let list = models.list().await;
    let loaded = list.into_iter().filter(|model| model.loaded.is_some());
    loaded.map(|model| model.name).collect()
}

#[tokio::test]
async fn models_of_the_store_are_loaded_when_asked_for() {
    let store = Store::new("ask", &["a", "maker/b"]);
    let models = store.models(|_| {});
    assert!(loaded(&models).await.is_empty());
    assert_eq!(
        models
            .get("maker/b:latest")
            .await
            .expect("it is there")
            .name,
        "maker/b"
    );
    assert_eq!(loaded(&models).await, ["maker/b"]);
    assert_eq!(models.get("c").await.expect_err("not there").status, 404);
    store.add("c");
    assert!(models.get("c").await.is_ok(), "found without a restart");
    std::fs::remove_file(store.0.join("a.gguf")).expect("it was there");
    assert_eq!(models.get("a").await.expect_err("gone").status, 404);
}

#[tokio::test]
async fn a_file_that_is_no_model_is_left_out_and_refused() {
    let store = Store::new("bad", &["good"]);
    std::fs::write(store.0.join("bad.gguf"), "GGUF nonsense").expect("a file");
    let models = store.models(|_| {});
    let names: Vec<String> = models
        .list()
        .await
        .into_iter()
        .map(|model| model.name)
        .collect();
    assert_eq!(names, ["good"]);
    assert_eq!(models.get("bad").await.expect_err("no model").status, 503);
    assert!(models.get("good").await.is_ok());
}

#[tokio::test]
async fn unused_models_are_unloaded_and_used_ones_are_not() {
    let store = Store::new("ttl", &["a", "b"]);
    let models = store.models(|settings| settings.ttl = Some(Duration::ZERO));
    let a = models.get("a").await.expect("it is there");
    models.get("b").await.expect("it is there").keep_alive(None);
    models.sweep().await;
    assert_eq!(
        loaded(&models).await,
        ["a", "b"],
        "one is in use, the other was asked to stay"
    );
    drop(a);
    models.sweep().await;
    assert_eq!(loaded(&models).await, ["b"]);
    let b = models.get("b").await.expect("it is there");
    assert!(b.expires_at().is_none());
    b.keep_alive(Some(Duration::ZERO));
    assert!(b.expires_at().is_some());
    drop(b);
    models.sweep().await;
    assert!(loaded(&models).await.is_empty());
}

#[tokio::test]
async fn the_longest_unused_makes_room_and_one_in_use_does_not() {
    let store = Store::new("room", &["a", "b", "c"]);
    let size = std::fs::metadata(store.0.join("a.gguf"))
        .expect("it is there")
        .len();
    let models = store.models(|settings| {
        settings.memory_bytes = Some(2 * size + size / 2);
        settings.engine.kv_budget_bytes = Some(1 << 20);
    });
    drop(models.get("a").await.expect("room"));
    drop(models.get("b").await.expect("room"));
    drop(models.get("c").await.expect("room is made"));
    assert_eq!(
        loaded(&models).await,
        ["b", "c"],
        "a was unused for the longest time"
    );
    let held = [
        models.get("b").await.expect("loaded"),
        models.get("c").await.expect("loaded"),
    ];
    let refused = models.get("a").await.expect_err("nobody can be unloaded");
    assert_eq!(
        (refused.status.as_u16(), refused.retry_after),
        (503, Some(10))
    );
    drop(held);
    assert!(models.get("a").await.is_ok());
}

#[tokio::test]
async fn a_model_larger_than_memory_is_loaded_alone() {
    let store = Store::new("large", &["a"]);
    let models = store.models(|settings| {
        settings.memory_bytes = Some(1);
        settings.engine.kv_budget_bytes = Some(1 << 20);
    });
    assert!(models.get("a").await.is_ok());
}

#[tokio::test]
async fn named_models_are_loaded_at_the_start_and_stay() {
    let file = TempFile::new(&hearth_testing::tiny_chat::tiny_chat().build());
    let named = vec![NamedModel {
        name: "ours".into(),
        file: ModelFile::Path(file.0.clone()),
    }];
    let settings = ModelSettings {
        ttl: Some(Duration::ZERO),
        ..settings()
    };
    let models = Models::new(named, settings, kernels(), Arc::new(Metrics::default()));
    models.load_named().await.expect("a model");
    models.sweep().await;
    assert_eq!(loaded(&models).await, ["ours"]);
}

#[tokio::test]
async fn a_first_request_that_goes_away_does_not_stop_the_load() {
    let store = Store::new("away", &["a"]);
    let models = store.models(|_| {});
    let first = tokio::spawn({
        let models = models.clone();
        async move { models.get("a").await.map(drop) }
    });
    tokio::task::yield_now().await;
    first.abort();
    let second = models.get("a").await.expect("it is there");
    assert_eq!(loaded(&models).await, ["a"]);
    drop(second);
}
