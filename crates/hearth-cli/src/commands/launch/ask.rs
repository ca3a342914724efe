//! Asks a running server which models it has: one request to our own server, so no HTTP library is needed for it.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use crate::failure::Failure;

const PATIENCE: Duration = Duration::from_secs(5);
/// The most that is read of an answer.
const MAX_BYTES: u64 = 8 << 20;

/// A model of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedModel {
    /// What to ask for.
    pub name: String,
    /// Tokens it can hold.
    pub n_ctx: usize,
}

/// The server's address without a slash at the end, checked.
pub fn base_url(url: &str) -> Result<String, Failure> {
    let url = url.trim_end_matches('/').trim_end_matches("/v1");
    match host_of(url) {
        Some(_) => Ok(url.to_owned()),
        None => Err(Failure::input(format!("'{url}' is no address of a server"))
            .hint("it looks like http://127.0.0.1:4327, the first line 'hearth serve' prints")),
    }
}

/// `host:port` of `http://host[:port]`.
fn host_of(url: &str) -> Option<String> {
    let host = url.strip_prefix("http://")?;
    let is_host = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok() && !host.ends_with(']'));
    is_host.then(|| {
        if has_port {
            host.to_owned()
        } else {
            format!("{host}:80")
        }
    })
}

/// The models of the server at `url`.
pub fn models(url: &str, key: Option<&str>) -> Result<Vec<ServedModel>, Failure> {
    let host = host_of(url).expect("base_url checked it");
    let answer = get(&host, "/v1/models", key).map_err(|error| {
        Failure::input(format!("no server answers at {url}: {error}"))
            .caused_by(&error)
            .hint("start one with 'hearth serve MODEL', or say where it is with --url")
    })?;
    let (status, body) = split(&answer).ok_or_else(|| foreign(url))?;
    match status {
        200 => read(body).ok_or_else(|| foreign(url)),
        401 => Err(Failure::input(format!(
            "the server at {url} needs a key, and {}",
            said(key)
        ))
        .hint("set HEARTH_KEY to a key made with 'hearth keys add NAME'")),
        _ => Err(
            Failure::input(format!("the server at {url} answers with status {status}"))
                .hint("is it hearth's? --url says where hearth is"),
        ),
    }
}

fn said(key: Option<&str>) -> &'static str {
    match key {
        Some(_) => "does not know this one",
        None => "none was given",
    }
}

fn foreign(url: &str) -> Failure {
    Failure::input(format!("what answers at {url} is no server of hearth's"))
        .hint("--url says where hearth is")
}

fn get(host: &str, path: &str, key: Option<&str>) -> std::io::Result<Vec<u8>> {
    let addresses: Vec<_> = host.to_socket_addrs()?.collect();
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return talk(stream, host, path, key),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn talk(
    mut stream: TcpStream,
    host: &str,
    path: &str,
    key: Option<&str>,
) -> std::io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let key = key.filter(|key| key.bytes().all(|byte| byte.is_ascii_graphic()));
    let key = key
        .map(|key| format!("Authorization: Bearer {key}\r\n"))
        .unwrap_or_default();
    // HTTP/1.0: the answer comes whole and ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n{key}\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body of an answer.
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some((status, &answer[end + 4..]))
}

fn read(body: &[u8]) -> Option<Vec<ServedModel>> {
    let list: Value = serde_json::from_slice(body).ok()?;
    let model = |entry: &Value| {
        Some(ServedModel {
            name: entry["id"].as_str()?.to_owned(),
            n_ctx: usize::try_from(entry["max_model_len"].as_u64()?).ok()?,
        })
    };
    list["data"].as_array()?.iter().map(model).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_servers() {
        for (url, host) in [
            ("http://127.0.0.1:4327", "127.0.0.1:4327"),
            ("http://localhost", "localhost:80"),
            ("http://[::1]:4327", "[::1]:4327"),
            ("http://[::1]", "[::1]:80"),
        ] {
            assert_eq!(host_of(url).as_deref(), Some(host), "{url}");
        }
        assert_eq!(
            base_url("http://a:1/v1/").ok().as_deref(),
            Some("http://a:1")
        );
        for bad in [
            "",
            "127.0.0.1:4327",
            "https://a",
            "http://",
            "http://a b",
            "http://a/x",
            "http://a\r\nx: y",
        ] {
            assert!(base_url(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn answers_are_read() {
        let answer =
            b"HTTP/1.1 200 OK\r\na: b\r\n\r\n{\"data\":[{\"id\":\"m\",\"max_model_len\":8}]}";
        let (status, body) = split(answer).unwrap();
        assert_eq!(status, 200);
        assert_eq!(
            read(body).unwrap(),
            [ServedModel {
                name: "m".into(),
                n_ctx: 8
            }]
        );
        assert_eq!(split(b"nonsense"), None);
        assert_eq!(read(b"{\"data\":[{}]}"), None);
    }
}
