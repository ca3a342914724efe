//! Copying and deleting models of the store, and that nothing else can be touched.

mod support;

use std::path::PathBuf;

use hearth_gguf::shard_name;
use serde_json::{Value, json};
use support::{CHAT, Server, Setup, chat, merge};

/// A server with a store of its own beside its model `tiny`, which is named.
struct Managed {
    server: Server,
    store: PathBuf,
}

impl Managed {
    async fn new(name: &str, may_manage: bool, models: &[&str]) -> Managed {
        let home =
            std::env::temp_dir().join(format!("hearth-manage-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&home);
        let store = home.join("models");
        let bytes = hearth_testing::tiny_chat::tiny_chat().build();
        for model in models {
            let path = store.join(format!("{model}.gguf"));
            std::fs::create_dir_all(path.parent().expect("it is in the store")).expect("a folder");
            std::fs::write(path, &bytes).expect("a file");
        }
        let setup = Setup {
            store: Some(store.clone()),
            may_manage,
            ..Setup::default()
        };
        Managed {
            server: setup.serve().await,
            store,
        }
    }

    async fn copy(&self, source: &str, destination: &str) -> (u16, String) {
        let body = json!({"source": source, "destination": destination});
        let answer = self.server.post("/api/copy", &body).await;
        (answer.status, answer.text())
    }

    async fn delete(&self, model: &str) -> (u16, String) {
        let body = json!({"model": model}).to_string();
        let answer = self.server.ask("DELETE", "/api/delete", &[], &body).await;
        (answer.status, answer.text())
    }

    async fn names(&self) -> Vec<String> {
        let tags = self.server.ask("GET", "/api/tags", &[], "").await.json();
        let models = tags["models"].as_array().expect("a list").iter();
        models
            .map(|model| model["name"].as_str().expect("a name").to_owned())
            .collect()
    }

    async fn says(&self, model: &str) -> Value {
        let body = chat(json!({"model": model, "temperature": 0}));
        let answer = self.server.post(CHAT, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["choices"][0]["message"]["content"].clone()
    }

    /// Every file below the home of the store.
    fn files(&self) -> Vec<String> {
        fn visit(folder: &std::path::Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                match entry.path() {
                    path if path.is_dir() => visit(&path, found),
                    path => found.push(path.file_name().expect("a name").to_string_lossy().into()),
                }
            }
        }
        let mut found = Vec::new();
        visit(self.store.parent().expect("a home"), &mut found);
        found.sort();
        found
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.store.parent().expect("a home"));
    }
}

/// The text of an error in the dialect's form.
fn error(answer: &(u16, String)) -> String {
    let body: Value = serde_json::from_str(&answer.1).expect("an object");
    body["error"].as_str().expect("a string").to_owned()
}

#[tokio::test]
async fn a_copy_is_a_name_that_outlives_the_first() {
    let managed = Managed::new("copy", true, &["a"]).await;
    let said = managed.says("a").await;
    assert_eq!(
        managed.copy("a", "maker/b:latest").await,
        (200, String::new())
    );
    assert_eq!(managed.names().await, ["tiny", "a", "maker/b"]);
    assert_eq!(managed.says("maker/b").await, said);
    let body = json!({"model": "a"});
    let [a, b] = ["a", "maker/b"].map(|name| managed.store.join(format!("{name}.gguf")));
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let [a, b] = [&a, &b].map(|path| std::fs::metadata(path).expect("it is there").ino());
        assert_eq!(a, b, "one file with two names");
    }
    assert_eq!(managed.delete("a").await, (200, String::new()));
    assert!(!a.exists() && b.exists());
    assert_eq!(managed.server.post("/api/show", &body).await.status, 404);
    assert_eq!(managed.says("maker/b:latest").await, said);
    assert_eq!(managed.delete("maker/b").await.0, 200);
    assert_eq!(managed.names().await, ["tiny"]);
    assert!(
        !managed.store.join("maker").exists(),
        "an empty folder goes too"
    );
    assert!(managed.store.exists());
}

#[tokio::test]
async fn all_parts_of_a_model_are_copied_and_deleted() {
    let managed = Managed::new("parts", true, &[]).await;
    std::fs::create_dir_all(&managed.store).expect("a folder");
    for no in 0..3 {
        let path = managed.store.join(shard_name("big", no, 3));
        std::fs::write(path, no.to_string()).expect("a file");
    }
    assert_eq!(managed.copy("big", "other").await.0, 200);
    for no in 0..3 {
        let path = managed.store.join(shard_name("other", no, 3));
        assert_eq!(
            std::fs::read_to_string(path).expect("a part"),
            no.to_string()
        );
    }
    assert_eq!(managed.delete("big").await.0, 200);
    let left: Vec<String> = (0..3).map(|no| shard_name("other", no, 3)).collect();
    assert_eq!(managed.files(), left);
}

#[tokio::test]
async fn a_model_that_answers_is_not_deleted_and_one_that_is_idle_is_unloaded() {
    let managed = Managed::new("busy", true, &["a"]).await;
    let held = managed
        .server
        .app
        .models
        .get("a")
        .await
        .expect("it is there");
    let refused = managed.delete("a").await;
    assert_eq!(refused.0, 503);
    assert!(
        error(&refused).contains("'a' is answering"),
        "{}",
        refused.1
    );
    drop(held);
    assert_eq!(managed.delete("a").await.0, 200);
    let ps = managed.server.ask("GET", "/api/ps", &[], "").await.json();
    assert_eq!(ps["models"], json!([]));
}

#[tokio::test]
async fn deletes_and_requests_at_once_end_in_an_answer() {
    let managed = Managed::new("race", true, &["a"]).await;
    for round in 0..8 {
        let copy = format!("copy{round}");
        assert_eq!(managed.copy("a", &copy).await.0, 200);
        let body = chat(json!({"model": copy}));
        let (answer, deleted) =
            tokio::join!(managed.server.post(CHAT, &body), managed.delete(&copy));
        assert!(matches!(answer.status, 200 | 404), "{}", answer.text());
        assert!(matches!(deleted.0, 200 | 503), "{}", deleted.1);
    }
    assert!(managed.server.is_alive().await);
}

#[tokio::test]
async fn what_cannot_be_copied_or_deleted_is_named() {
    let managed = Managed::new("bad", true, &["a", "b"]).await;
    let before = managed.files();
    for (source, destination, status, words) in [
        ("nowhere", "c", 404, "model 'nowhere' not found"),
        ("../a", "c", 404, "not found"),
        ("a", "b", 400, "a model of that name already"),
        ("a", "a:latest", 400, "a model of that name already"),
        ("a", "tiny", 400, "a model of that name already"),
    ] {
        let refused = managed.copy(source, destination).await;
        assert_eq!(refused.0, status, "{source} {destination}: {}", refused.1);
        assert!(error(&refused).contains(words), "{}", refused.1);
    }
    for (model, status, words) in [
        ("nowhere", 404, "model 'nowhere' not found"),
        ("tiny", 403, "only models of the store"),
    ] {
        let refused = managed.delete(model).await;
        assert_eq!(refused.0, status, "{model}: {}", refused.1);
        assert!(error(&refused).contains(words), "{}", refused.1);
    }
    for body in [
        json!({}),
        json!({"source": "a"}),
        json!({"source": 1, "destination": "c"}),
    ] {
        assert_eq!(managed.server.post("/api/copy", &body).await.status, 400);
    }
    let strict = json!({"source": "a", "destination": "c", "wings": 2, "hearth": {"strict": true}});
    assert_eq!(managed.server.post("/api/copy", &strict).await.status, 400);
    assert_eq!(managed.files(), before);
    assert_eq!(managed.says("tiny").await, managed.says("a").await);
}

#[tokio::test]
async fn cve_2024_37032_and_45436_a_name_leads_nowhere_with_management_on() {
    let managed = Managed::new("paths", true, &["a"]).await;
    let outside = managed.store.with_file_name("outside.gguf");
    std::fs::write(&outside, "not ours").expect("a file");
    let before = managed.files();
    let absolute = outside.to_string_lossy().into_owned();
    for name in [
        "../outside",
        "..",
        ".",
        "",
        "/etc/passwd",
        &absolute,
        "x/../../outside",
        "a/b/c/d",
        ".hidden",
        "x/.y",
        "c:/x",
        "c:\\x",
        "x\\..\\..\\outside",
        "x\0",
        "x\n",
        "%2e%2e%2foutside",
        "http://127.0.0.1/x",
        "file:///etc/passwd",
        "~/x",
        "x-00001-of-00002",
        &"x".repeat(250),
        &"x".repeat(5000),
    ] {
        let copied = managed.copy("a", name).await;
        assert_eq!(copied.0, 400, "{name:?}: {}", copied.1);
        error(&copied);
        let deleted = managed.delete(name).await;
        assert!(matches!(deleted.0, 400 | 404), "{name:?}: {}", deleted.1);
        let pulled = managed
            .server
            .post("/api/pull", &json!({"model": name}))
            .await;
        assert!(
            matches!(pulled.status, 400 | 404),
            "{name:?}: {}",
            pulled.text()
        );
    }
    assert_eq!(managed.files(), before);
}

#[cfg(unix)]
#[tokio::test]
async fn links_lead_nothing_out_of_the_store() {
    let managed = Managed::new("links", true, &["a"]).await;
    let outside = managed.store.with_file_name("outside");
    std::fs::create_dir_all(&outside).expect("a folder");
    std::fs::write(
        outside.join("theirs.gguf"),
        hearth_testing::tiny_chat::tiny_chat().build(),
    )
    .expect("a file");
    std::os::unix::fs::symlink(&outside, managed.store.join("way")).expect("a link");
    std::os::unix::fs::symlink(outside.join("theirs.gguf"), managed.store.join("link.gguf"))
        .expect("a link");
    let before = managed.files();
    let copied = managed.copy("a", "way/out").await;
    assert_eq!(copied.0, 400, "{}", copied.1);
    assert!(error(&copied).contains("outside the store"), "{}", copied.1);
    let deleted = managed.delete("way/theirs").await;
    assert_eq!(deleted.0, 403, "{}", deleted.1);
    assert_eq!(managed.files(), before);
    assert_eq!(managed.delete("link").await.0, 200);
    assert!(
        outside.join("theirs.gguf").exists(),
        "only the link is the store's"
    );
}

#[tokio::test]
async fn nothing_is_changed_unless_the_server_is_told_to() {
    let managed = Managed::new("off", false, &["a"]).await;
    let before = managed.files();
    for refused in [managed.copy("a", "b").await, managed.delete("a").await] {
        assert_eq!(refused.0, 403);
        assert!(error(&refused).contains("--manage"), "{}", refused.1);
    }
    assert_eq!(managed.files(), before);
}

#[tokio::test]
async fn a_pull_finds_what_is_there_and_says_that_nothing_else_can_be_had() {
    let managed = Managed::new("pull", true, &["a"]).await;
    let pull = async |more: Value| {
        let mut body = json!({"model": "a"});
        merge(&mut body, more);
        let answer = managed.server.post("/api/pull", &body).await;
        (
            answer.status,
            answer.json(),
            answer.header("hearth-notice").map(str::to_owned),
        )
    };
    let success = json!({"status": "success"});
    assert_eq!(pull(json!({})).await, (200, success.clone(), None));
    let insecure = pull(json!({"stream": false, "insecure": true})).await;
    assert_eq!(insecure, (200, success, Some("ignored=insecure".into())));
    let (status, body, _) = pull(json!({"model": "llama3"})).await;
    assert_eq!(status, 404);
    assert!(
        body["error"]
            .as_str()
            .expect("a string")
            .contains("no downloader yet"),
        "{body}"
    );
    for path in ["/api/push", "/api/create"] {
        let answer = managed.server.post(path, &json!({"model": "a"})).await;
        assert_eq!(answer.status, 403);
    }
}
