//! A real server on a free port with a tiny model, and a client that writes bytes: nothing between the test and the socket.

// Every test file compiles this module for itself and uses a part of it.
#![allow(dead_code)]

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hearth_engine::{EngineOptions, prefix::PrefixOptions};
use hearth_kernels::{Kernels, Level};
use hearth_server::{
    app::App,
    auth::{Access, Origin},
    keys::{KeyFile, Keys},
    limits::Limits,
    listen,
    metrics::Metrics,
    models::{ModelFile, ModelSettings, Models, NamedModel},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

/// No test waits longer for anything; a server that hangs fails here.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a server of a test is made of.
pub struct Setup {
    pub model: Vec<u8>,
    pub name: &'static str,
    pub keys: Vec<String>,
    pub key_file: Option<PathBuf>,
    pub limits: Limits,
    pub origins: Vec<&'static str>,
    pub store: Option<PathBuf>,
    pub may_manage: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            model: hearth_testing::tiny_chat::tiny_chat().build(),
            name: "tiny",
            keys: Vec::new(),
            key_file: None,
            limits: Limits::default(),
            origins: Vec::new(),
            store: None,
            may_manage: false,
        }
    }
}

/// A file of its own for a test, removed with the value.
pub struct TempFile(pub PathBuf);

impl TempFile {
    pub fn new(bytes: &[u8]) -> TempFile {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!(
            "hearth-server-{}-{number}.gguf",
            std::process::id()
        ));
        std::fs::write(&path, bytes).expect("the temporary folder takes files");
        TempFile(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Setup {
    /// The state of a server with one model.
    pub fn app(&self) -> (App, TempFile) {
        let file = TempFile::new(&self.model);
        let named = vec![NamedModel {
            name: self.name.into(),
            file: ModelFile::Path(file.0.clone()),
        }];
        let metrics = Arc::new(Metrics::default());
        let kernels = Kernels::new(Level::best(), NonZeroUsize::MIN)
            .expect("this machine has its best level");
        let mut settings = settings();
        settings.store = self.store.clone();
        settings.engine.max_sequences = self.limits.sequences;
        settings.engine.max_queue = self.limits.queue;
        let models = Models::new(named, settings, kernels, metrics.clone());
        let access = Access {
            is_loopback: true,
            hosts: Vec::new(),
            origins: self
                .origins
                .iter()
                .map(|origin| Origin::parse(origin).expect("an origin"))
                .collect(),
        };
        let key_file = self.key_file.as_deref();
        let key_file = key_file.map(|path| KeyFile::open(path).expect("a file of keys"));
        let keys = Keys::new(&self.keys, key_file).expect("usable keys");
        let app = App::new(models, self.limits.clone(), keys, access, metrics);
        match self.may_manage {
            true => (app.managing(), file),
            false => (app, file),
        }
    }

    /// Starts it.
    pub async fn serve(self) -> Server {
        let (app, file) = self.app();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(listen::serve(
            listener,
            app.clone(),
            stopped,
            Duration::from_millis(200),
        ));
        Server {
            port,
            app,
            stop: Some(stop),
            task: Some(task),
            _file: file,
        }
    }
}

pub fn settings() -> ModelSettings {
    ModelSettings {
        store: None,
        engine: EngineOptions {
            prefix: PrefixOptions::default(),
            ..EngineOptions::default()
        },
        ttl: None,
        memory_bytes: None,
        max_name_bytes: 256,
    }
}

/// A running server.
pub struct Server {
    pub port: u16,
    pub app: App,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
    _file: TempFile,
}

impl Server {
    pub async fn connect(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port))
            .await
            .expect("the server listens");
        Client {
            stream,
            buffer: Vec::new(),
            host: format!("127.0.0.1:{}", self.port),
        }
    }

    /// One request on a connection of its own.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        self.connect().await.ask(method, path, headers, body).await
    }

    /// One POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[], &body.to_string()).await
    }

    /// The server answers, and not with an error of its own.
    pub async fn is_alive(&self) -> bool {
        self.ask("GET", "/health", &[], "").await.status == 200
    }

    /// Ends it in order.
    pub async fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(task) = self.task.take() {
            timeout(PATIENCE, task)
                .await
                .expect("the server ends")
                .expect("it does not panic");
        }
    }
}

/// A connection.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    host: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

impl Client {
    pub async fn write(&mut self, bytes: &[u8]) {
        // The server may have closed already; what it said is still to be read.
        let _ = self.stream.write_all(bytes).await;
    }

    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) {
        self.send_bytes(method, path, headers, body.as_bytes())
            .await;
    }

    pub async fn send_bytes(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            head += &format!("Host: {}\r\n", self.host);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        self.write(&[head.as_bytes(), b"\r\n", body].concat()).await;
    }

    pub async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        self.send(method, path, headers, body).await;
        self.answer(method == "HEAD").await.expect("an answer")
    }

    /// The next answer; `None` when the connection ends first.
    pub async fn answer(&mut self, is_head: bool) -> Option<Answer> {
        timeout(PATIENCE, self.read_answer(is_head))
            .await
            .expect("an answer in time")
    }

    /// Whether the server has closed the connection.
    pub async fn is_closed(&mut self) -> bool {
        timeout(PATIENCE, self.fill()).await.is_ok_and(|n| n == 0)
    }

    async fn fill(&mut self) -> usize {
        let mut piece = [0; 16 << 10];
        let n = self.stream.read(&mut piece).await.unwrap_or(0);
        self.buffer.extend_from_slice(&piece[..n]);
        n
    }

    /// Bytes up to and with `end`.
    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self
                .buffer
                .windows(end.len())
                .position(|window| window == end)
            {
                return Some(self.buffer.drain(..at + end.len()).collect());
            }
            if self.fill().await == 0 {
                return None;
            }
        }
    }

    async fn exactly(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < n {
            if self.fill().await == 0 {
                return None;
            }
        }
        Some(self.buffer.drain(..n).collect())
    }

    async fn read_answer(&mut self, is_head: bool) -> Option<Answer> {
        let head = self.until(b"\r\n\r\n").await?;
        let head = String::from_utf8(head).expect("heads are ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().expect("a status");
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        if status == 100 {
            return Box::pin(self.read_answer(is_head)).await;
        }
        if is_head || status == 204 {
            return Some(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = self.chunks().await?;
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().expect("a length");
            answer.body = self.exactly(length).await?;
        }
        Some(answer)
    }

    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n").await?;
            let length = usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim(), 16).ok()?;
            let chunk = self.exactly(length + 2).await?;
            if length == 0 {
                return Some(body);
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }
}

/// Which dialect an error is written in; panics when it is none.
pub fn dialect_of(answer: &Answer) -> &'static str {
    let body = answer.json();
    if body["type"] == "error" {
        assert!(
            body["error"]["type"].is_string() && body["error"]["message"].is_string(),
            "{body}"
        );
        assert_eq!(
            body["request_id"].as_str(),
            answer.header("request-id"),
            "{body}"
        );
        return "anthropic";
    }
    if body["error"].is_string() {
        assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
        return "ollama";
    }
    let error = body["error"]
        .as_object()
        .unwrap_or_else(|| panic!("{body}"));
    let keys: Vec<&str> = error.keys().map(String::as_str).collect();
    assert_eq!(keys, ["message", "type", "param", "code"], "{body}");
    assert!(
        error["code"].is_null() || error["code"].is_string(),
        "{body}"
    );
    assert!(answer.header("x-request-id").unwrap().starts_with("req_"));
    "openai"
}

/// The dialect that belongs to a path.
pub fn expected_dialect(path: &str) -> &'static str {
    match path {
        "/" => "ollama",
        path if path.starts_with("/api/") => "ollama",
        path if path.starts_with("/v1/messages") => "anthropic",
        _ => "openai",
    }
}

/// Where conversations are sent.
pub const CHAT: &str = "/v1/chat/completions";

/// A short request to [`CHAT`], with further fields.
pub fn chat(more: Value) -> Value {
    let mut body =
        json!({"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4});
    merge(&mut body, more);
    body
}

/// Fields of `more` in `body`.
pub fn merge(body: &mut Value, more: Value) {
    let (Value::Object(body), Value::Object(more)) = (body, more) else {
        panic!("objects")
    };
    body.extend(more);
}
