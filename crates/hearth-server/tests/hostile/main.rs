//! One test for each class of attack that other servers fell to, named after it. Each ends with the server alive.

mod files;
mod network;
mod requests;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use support::Answer;
use tokio::{net::TcpListener, time::timeout};

/// A port that nobody should ever connect to.
struct Trap(TcpListener);

impl Trap {
    async fn new() -> (Trap, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        (Trap(listener), address)
    }

    async fn was_touched(&self) -> bool {
        timeout(Duration::from_millis(300), self.0.accept())
            .await
            .is_ok()
    }
}

fn is_refused(answer: &Answer) -> bool {
    (400..500).contains(&answer.status)
}
