//! A server in this process, with tiny models, and a client that checks the form of what comes back.

use std::{num::NonZeroUsize, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request},
};
use hearth_engine::EngineOptions;
use hearth_gguf::TensorType;
use hearth_kernels::{Kernels, Level};
use hearth_server::{
    app::{App, router},
    auth::Access,
    keys::Keys,
    limits::Limits,
    metrics::Metrics,
    models::{ModelFile, ModelSettings, Models, NamedModel},
};
use hearth_testing::{
    TinyModel,
    tiny_chat::{tiny_chat, tiny_thinker},
};
use serde_json::Value;
use tower::ServiceExt;

/// A server and its state.
pub struct Server {
    pub app: App,
    router: Router,
}

/// An answer that is not streamed.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    async fn of(response: axum::response::Response) -> Answer {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)));
        Answer {
            status,
            headers,
            body,
        }
    }
}

impl Server {
    /// One with the models `chat`, `think` and `plain`, which has no turns.
    pub fn new() -> Server {
        let plain = TinyModel::new("llama", TensorType::F32);
        Server::of(vec![
            ("chat", tiny_chat()),
            ("think", tiny_thinker()),
            ("plain", plain),
        ])
    }

    /// One with these models.
    pub fn of(models: Vec<(&str, TinyModel)>) -> Server {
        let named = models.into_iter().map(|(name, model)| NamedModel {
            name: name.to_owned(),
            file: ModelFile::Builtin(model.build().leak()),
        });
        let settings = ModelSettings {
            store: None,
            engine: EngineOptions::default(),
            ttl: None,
            memory_bytes: None,
            max_name_bytes: 256,
        };
        let metrics = Arc::new(Metrics::default());
        let kernels = Kernels::new(Level::best(), NonZeroUsize::MIN).unwrap();
        let models = Models::new(named.collect(), settings, kernels, metrics.clone());
        let keys = Keys::new(&[], None).unwrap();
        let access = Access {
            is_loopback: true,
            ..Access::default()
        };
        let app = App::new(models, Limits::default(), keys, access, metrics);
        Server {
            router: router(app.clone()),
            app,
        }
    }

    async fn send(&self, path: &str, body: &Value) -> axum::response::Response {
        let request = Request::post(path)
            .header("host", "localhost")
            .body(Body::from(body.to_string()))
            .unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Posts and reads the whole answer.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.send(path, &body).await).await
    }

    /// Gets and reads the whole answer.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).await
    }

    /// Deletes and reads the whole answer.
    pub async fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path).await
    }

    async fn ask(&self, method: &str, path: &str) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        let request = request.body(Body::empty()).unwrap();
        Answer::of(self.router.clone().oneshot(request).await.unwrap()).await
    }

    /// The same where nothing but success will do.
    pub async fn ok(&self, path: &str, body: Value) -> Value {
        let answer = self.post(path, body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    /// The same where nothing but a refusal will do: status and error object.
    pub async fn refused(&self, path: &str, body: Value) -> (u16, Value) {
        let answer = self.post(path, body).await;
        assert!(answer.status >= 400, "{}", answer.body);
        let error = answer.body["error"].clone();
        let keys: Vec<&String> = error.as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            ["message", "type", "param", "code"],
            "four keys always"
        );
        (answer.status, error)
    }

    /// A stream that has begun.
    pub async fn open(&self, path: &str, mut body: Value) -> Body {
        body["stream"] = Value::Bool(true);
        let response = self.send(path, &body).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        response.into_body()
    }

    /// The events of a stream that have names: name and data.
    pub async fn events(&self, path: &str, body: Value) -> Vec<(String, Value)> {
        let bytes = to_bytes(self.open(path, body).await, usize::MAX)
            .await
            .unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let events = text
            .split("\n\n")
            .filter(|event| !event.is_empty() && !event.starts_with(':'));
        let named = |event: &str| {
            let (name, data) = event
                .strip_prefix("event: ")
                .unwrap()
                .split_once("\ndata: ")
                .unwrap();
            (name.to_owned(), serde_json::from_str(data).unwrap())
        };
        events.map(named).collect()
    }

    /// The data of a stream's events, `[DONE]` excluded but checked.
    pub async fn stream(&self, path: &str, body: Value) -> Vec<Value> {
        let bytes = to_bytes(self.open(path, body).await, usize::MAX)
            .await
            .unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.ends_with("\n\n"));
        let events = text
            .split("\n\n")
            .filter(|event| !event.is_empty() && !event.starts_with(':'));
        let mut data: Vec<&str> = events
            .map(|event| event.strip_prefix("data: ").unwrap())
            .collect();
        assert_eq!(data.pop(), Some("[DONE]"));
        data.iter()
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }
}

/// `base` with the fields of `more`.
pub fn with(base: &Value, more: Value) -> Value {
    let mut whole = base.clone();
    whole
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    whole
}
