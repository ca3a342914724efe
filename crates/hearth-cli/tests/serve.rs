//! The commands around the server, driven as a user drives them.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use support::{TempFile, hearth, refused, stdout_of, tiny_model};

/// A folder for models, keys and caches of one test.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Home {
        let path = std::env::temp_dir().join(format!("hearth-home-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Home(path)
    }

    fn hearth(&self, arguments: &[&str]) -> Command {
        let mut command = hearth(arguments);
        command.env("HEARTH_HOME", &self.0);
        command
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn output(command: &mut Command) -> Output {
    command.output().expect("hearth runs")
}

/// A server that listens; killed with the value.
struct Serving {
    child: Child,
    url: String,
    screen: String,
}

impl Serving {
    fn start(command: &mut Command) -> Serving {
        let mut child = command
            .args(["--port", "0"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("hearth starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut screen = String::new();
        while !screen.contains("Ctrl-C ends it") {
            let line = lines
                .next()
                .unwrap_or_else(|| panic!("it ended: {screen}"))
                .expect("text");
            screen += &(line + "\n");
        }
        // Nobody reads the log of a test; an unread pipe would stop the server.
        std::thread::spawn(move || lines.for_each(drop));
        let url = screen
            .split_whitespace()
            .find(|word| word.starts_with("http://"))
            .expect("an address")
            .to_owned();
        Serving { child, url, screen }
    }

    /// Status and answer of a GET.
    fn get(&self, path: &str, headers: &str) -> (u16, String) {
        self.ask("GET", path, headers, "")
    }

    /// Status and answer of any request.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let host = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).expect("it listens");
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        )
        .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("a status");
        (status, answer)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn limits_are_printed_and_changed() {
    let text = stdout_of(&mut hearth(["serve", "--limits", "--limit", "n=7"]));
    assert!(
        text.lines()
            .any(|line| line.starts_with("n ") && line.contains(" 7 ")),
        "{text}"
    );
    assert!(
        text.contains("body_bytes") && text.lines().count() > 20,
        "{text}"
    );
    refused(
        &output(&mut hearth(["serve", "--limits", "--limit", "x=7"])),
        "there is no limit 'x'",
        "--limits",
    );
    refused(
        &output(&mut hearth(["serve", "--limits", "--limit", "n=0"])),
        "limit 'n' takes",
        "--limits",
    );
}

#[test]
fn go_2025_4251_nothing_beyond_this_machine_without_a_key() {
    let home = Home::new("open");
    for host in ["0.0.0.0", "::", "[::]"] {
        let refusal = output(&mut home.hearth(&["serve", "spark", "--host", host, "--port", "0"]));
        refused(
            &refusal,
            "lets other machines in, and there is no key",
            "hearth keys add",
        );
    }
    let with_key = Serving::start(&mut home.hearth(&[
        "serve",
        "spark",
        "--host",
        "0.0.0.0",
        "--key",
        "secret-of-a-test",
    ]));
    assert_eq!(with_key.get("/v1/models", "").0, 401);
    assert_eq!(
        with_key
            .get("/v1/models", "x-api-key: secret-of-a-test\r\n")
            .0,
        200
    );
    assert!(
        !with_key.screen.contains("secret-of-a-test"),
        "{}",
        with_key.screen
    );
}

#[test]
fn mistakes_are_found_before_anything_listens() {
    let home = Home::new("mistakes");
    let file = TempFile::new("served.gguf", &tiny_model().build());
    let cases: [(&[&str], &str, &str); 8] = [
        (&["serve", "missing.gguf"], "there is no file", ""),
        (&["serve", "nobody"], "no model is called 'nobody'", "spark"),
        (
            &["serve", "spark", "--name", "a", "--name", "b"],
            "2 names for 1 models",
            "in their order",
        ),
        (
            &["serve", "spark", "--name", "../x"],
            "cannot be the name",
            "--name",
        ),
        (
            &["serve", "spark", file.path(), "--name", "x", "--name", "x"],
            "two models are called 'x'",
            "--name",
        ),
        (
            &["serve", "spark", "--allow-origin", "null"],
            "stands for pages of anybody",
            "hearth serve --help",
        ),
        (
            &["serve", "spark", "--host", "no.such.host.invalid"],
            "is no address of this machine",
            "127.0.0.1",
        ),
        (
            &["serve", "spark", "--key", "a b"],
            "visible ASCII",
            "hearth keys add",
        ),
    ];
    for (arguments, error, hint) in cases {
        refused(&output(&mut home.hearth(arguments)), error, hint);
    }
    let bytes = tiny_model().build();
    let cut = TempFile::new("cut.gguf", &bytes[..bytes.len() / 2]);
    let refusal = output(&mut home.hearth(&["serve", "spark", cut.path()]));
    let text = String::from_utf8_lossy(&refusal.stderr);
    let which = format!("note: model '{}' cannot be served", cut.path());
    assert!(text.contains(&which), "{text}");
    assert_eq!(refusal.status.code(), Some(2), "{text}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    refused(
        &output(&mut home.hearth(&["serve", "spark", "--port", &port])),
        "cannot listen at 127.0.0.1",
        "--port",
    );
}

#[test]
fn a_server_says_what_it_is_and_serves_it() {
    let home = Home::new("screen");
    let file = TempFile::new("screen.gguf", &tiny_model().build());
    let server =
        Serving::start(&mut home.hearth(&["serve", "spark", file.path(), "--name", "ours"]));
    for part in [
        "ours",
        "spark",
        "only programs on this machine",
        "none is needed",
        "/v1",
        "switched off",
    ] {
        let is_there = server.screen.contains(part);
        // The first name goes to the first model.
        assert!(is_there || part == "spark", "{part} in {}", server.screen);
    }
    let (status, list) = server.get("/v1/models", "");
    assert_eq!(status, 200);
    assert!(
        list.contains("\"ours\"") && list.contains("screen"),
        "{list}"
    );
}

#[test]
fn the_store_is_served_when_no_model_is_named() {
    let home = Home::new("store");
    let folder = home.0.join("models/maker");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("small.gguf"), tiny_model().build()).expect("a file");
    let server = Serving::start(&mut home.hearth(&["serve"]));
    assert!(
        server.screen.contains("maker/small") && server.screen.contains("when asked for"),
        "{}",
        server.screen
    );
    for path in ["/v1/models/maker/small", "/v1/models/maker%2Fsmall"] {
        assert_eq!(server.get(path, "").0, 200, "{path}");
    }
    let late = home.0.join("models/late.gguf");
    std::fs::write(late, tiny_model().build()).expect("a file");
    assert_eq!(
        server.get("/v1/models/late", "").0,
        200,
        "found without a restart"
    );
    stdout_of(&mut home.hearth(&["run", "late", "hi", "--max-tokens", "1"]));
}

#[test]
fn the_store_is_managed_only_when_the_server_is_told_to() {
    let home = Home::new("manage");
    let file = |name: &str| home.0.join(format!("models/{name}.gguf"));
    std::fs::create_dir_all(home.0.join("models")).expect("a folder");
    std::fs::write(file("small"), tiny_model().build()).expect("a file");
    let copy = r#"{"source": "small", "destination": "other"}"#;
    let server = Serving::start(&mut home.hearth(&["serve"]));
    assert_eq!(server.ask("POST", "/api/copy", "", copy).0, 403);
    drop(server);
    let server = Serving::start(&mut home.hearth(&["serve", "spark", "--manage"]));
    assert!(
        server.screen.contains("may copy and delete") && server.screen.contains("small"),
        "{}",
        server.screen
    );
    assert_eq!(server.ask("POST", "/api/copy", "", copy).0, 200);
    assert!(file("other").exists());
    let delete = r#"{"model": "small"}"#;
    assert_eq!(server.ask("DELETE", "/api/delete", "", delete).0, 200);
    assert!(!file("small").exists());
    stdout_of(&mut home.hearth(&["run", "other", "hi", "--max-tokens", "1"]));
}

#[test]
fn keys_live_from_add_to_revoke() {
    let home = Home::new("keys");
    let added = output(&mut home.hearth(&["keys", "add", "anna", "--weight", "3"]));
    let key = String::from_utf8(added.stdout)
        .expect("text")
        .trim()
        .to_owned();
    assert!(key.starts_with("hearth-") && key.len() > 40, "{key}");
    refused(
        &output(&mut home.hearth(&["keys", "add", "anna"])),
        "a key named 'anna' already",
        "revoke",
    );
    let list = stdout_of(&mut home.hearth(&["keys", "list"]));
    assert!(list.contains("anna") && !list.contains(&key), "{list}");
    let json = stdout_of(&mut home.hearth(&["keys", "list", "--json"]));
    assert!(
        json.contains("\"weight\":3") && !json.contains(&key),
        "{json}"
    );
    let server = Serving::start(&mut home.hearth(&["serve", "spark"]));
    let header = format!("Authorization: Bearer {key}\r\n");
    assert_eq!(server.get("/v1/models", "").0, 401);
    assert_eq!(server.get("/v1/models", &header).0, 200);
    stdout_of(&mut home.hearth(&["keys", "revoke", "anna"]));
    assert_eq!(
        server.get("/v1/models", &header).0,
        401,
        "revoked while it runs"
    );
    refused(
        &output(&mut home.hearth(&["keys", "revoke", "anna"])),
        "no key named 'anna'",
        "keys list",
    );
}

#[test]
fn a_stored_answer_outlives_the_server_and_is_its_keys_alone() {
    let home = Home::new("stored");
    let header = |name| {
        let key = stdout_of(&mut home.hearth(&["keys", "add", name]));
        format!("x-api-key: {}\r\n", key.trim())
    };
    let (key, other) = (&header("anna"), &header("ben"));
    let serve = || Serving::start(&mut home.hearth(&["serve", "spark"]));
    let server = serve();
    let body = r#"{"model":"spark","input":"hi","max_output_tokens":2}"#;
    let (status, answer) = server.ask("POST", "/v1/responses", key, body);
    assert_eq!(status, 200, "{answer}");
    let id = answer.split('"').find(|part| part.starts_with("resp_"));
    let id = id.expect("an id").to_owned();
    // Killed, not ended.
    drop(server);
    let server = serve();
    let path = format!("/v1/responses/{id}");
    assert_eq!(server.get(&path, key).0, 200);
    assert_eq!(server.get(&path, other).0, 404);
    let more = format!(
        r#"{{"model":"spark","input":"And?","max_output_tokens":2,"previous_response_id":"{id}"}}"#
    );
    let (status, answer) = server.ask("POST", "/v1/responses", key, &more);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn launch_prints_a_recipe_without_the_key() {
    let home = Home::new("launch");
    let server = Serving::start(&mut home.hearth(&["serve", "spark", "--key", "secret-of-a-test"]));
    for client in ["codex", "opencode", "aider", "claude", "llm"] {
        let mut command = home.hearth(&["launch", client, "--print", "--url", &server.url]);
        let text = stdout_of(command.env("HEARTH_KEY", "secret-of-a-test"));
        assert!(
            text.contains(&server.url) && text.contains("spark"),
            "{client}: {text}"
        );
        assert!(!text.contains("secret-of-a-test"), "{client}: {text}");
        assert!(!home.0.join("launch").exists(), "printing writes nothing");
    }
    let none = output(&mut home.hearth(&["launch", "codex", "--url", &server.url]));
    refused(&none, "needs a key, and none was given", "HEARTH_KEY");
}

/// Every file below a folder with what is in it.
#[cfg(unix)]
fn contents(folder: &std::path::Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(contents(&path)),
            path => {
                let text = std::fs::read_to_string(&path).expect("text");
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

#[cfg(unix)]
#[test]
fn launch_touches_no_file_of_the_users() {
    use std::os::unix::fs::PermissionsExt;
    let (home, users) = (Home::new("launched"), Home::new("users"));
    for file in [
        ".codex/config.toml",
        ".config/opencode/opencode.json",
        ".aider.conf.yml",
        ".claude/settings.json",
        ".config/io.datasette.llm/extra-openai-models.yaml",
    ] {
        let path = users.0.join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, "theirs").expect("a file");
    }
    let programs = home.0.join("programs");
    std::fs::create_dir_all(&programs).expect("a folder");
    let seen = home.0.join("seen");
    let clients = ["codex", "opencode", "aider", "claude", "llm"];
    for client in clients {
        let path = programs.join(client);
        let script = format!("#!/bin/sh\nenv > {}\n", seen.display());
        std::fs::write(&path, script).expect("a file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).expect("ours");
    }
    let before = contents(&users.0);
    let server = Serving::start(&mut home.hearth(&["serve", "spark", "--key", "secret-of-a-test"]));
    let path = format!("{}:/usr/bin:/bin", programs.display());
    for client in clients {
        let mut command = home.hearth(&["launch", client, "--url", &server.url]);
        let command = command
            .current_dir(&users.0)
            .env("HOME", &users.0)
            .env("PATH", &path)
            .env("HEARTH_KEY", "secret-of-a-test")
            .env("OPENAI_BASE_URL", "http://elsewhere")
            .env("ANTHROPIC_API_KEY", "of-somebody")
            .env("CLAUDE_CODE_USE_BEDROCK", "1");
        stdout_of(command);
        let variables = std::fs::read_to_string(&seen).expect("it was started");
        assert!(variables.contains("secret-of-a-test"), "{client}");
        let elsewhere = match client {
            "claude" => ["ANTHROPIC_API_KEY=", "CLAUDE_CODE_USE_BEDROCK="].as_slice(),
            "aider" => &["OPENAI_BASE_URL="],
            _ => &[],
        };
        for name in elsewhere {
            assert!(!variables.contains(name), "{client} has {name}");
        }
    }
    assert_eq!(contents(&users.0), before);
}

#[test]
fn launch_starts_a_client_and_says_what_is_missing() {
    let home = Home::new("start");
    refused(
        &output(&mut home.hearth(&["launch", "codex", "--url", "http://127.0.0.1:1"])),
        "no server answers at http://127.0.0.1:1",
        "hearth serve",
    );
    refused(
        &output(&mut home.hearth(&["launch", "codex", "--url", "ftp://x"])),
        "is no address of a server",
        "http://127.0.0.1:4327",
    );
    let server = Serving::start(&mut home.hearth(&["serve", "spark"]));
    let mut missing = home.hearth(&["launch", "llm", "--url", &server.url]);
    refused(
        &output(missing.env("PATH", "/nowhere")),
        "'llm' is not installed",
        "pip install llm",
    );
    refused(
        &output(&mut home.hearth(&["launch", "llm", "--url", &server.url, "--model", "x"])),
        "no model 'x'",
        "spark",
    );
}
