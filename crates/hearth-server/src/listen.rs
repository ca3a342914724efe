//! Connections: accepted, bounded, timed, and ended in order.
//!
//! A head must come within a time, and so must each next piece of a body (`body.rs`), so half a request holds nothing for long. When
//! all connections are used up, the one that has idled longest makes room, or else the one whose client has not read its answer
//! for longest: clients that keep connections open lock nobody out.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    response::Response,
};
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt;

use crate::{app::App, limits::Limits};

/// Between looks at models that nobody uses.
const SWEEP: Duration = Duration::from_secs(1);

/// Serves until `stop` resolves. Then no connection is accepted, idle ones are closed, and answers have `grace` to end; at the
/// end of it engines write their pages to disk and what still runs is told that the server is going down.
pub async fn serve(
    listener: TcpListener,
    app: App,
    stop: impl Future<Output = ()>,
    grace: Duration,
) {
    let router = crate::app::router(app.clone());
    let table = Arc::new(Table::default());
    let (closing, is_closing) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let sweeper = tokio::spawn(sweep(app.clone()));
    let mut stop = std::pin::pin!(stop);
    loop {
        let stream = tokio::select! {
            () = &mut stop => break,
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, mostly: an idle connection has one to give.
                    tracing::warn!(%error, "a connection was not accepted");
                    table.make_room(app.limits.body_pause());
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        if table.len() >= app.limits.connections {
            table.make_room(app.limits.body_pause());
        }
        if table.len() >= app.limits.connections {
            continue;
        }
        let place = table.add(&app);
        tasks.spawn(connection(
            stream,
            router.clone(),
            place,
            is_closing.clone(),
            app.limits.clone(),
        ));
    }
    drop(listener);
    app.close();
    sweeper.abort();
    let _ = closing.send(true);
    // Engines give their jobs the grace; answers then end by themselves, and connections with them.
    app.models.shut_down(grace).await;
    let _ = timeout(Duration::from_secs(2), async {
        while tasks.join_next().await.is_some() {}
    })
    .await;
}

async fn sweep(app: App) {
    loop {
        sleep(SWEEP).await;
        app.models.sweep().await;
        app.metrics.tidy();
    }
}

/// One connection to its end.
async fn connection(
    stream: TcpStream,
    router: Router,
    place: Place,
    mut closing: watch::Receiver<bool>,
    limits: Arc<Limits>,
) {
    // Pieces of a stream are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let line = place.line.clone();
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let busy = Busy::new(line.clone());
        let router = router.clone();
        async move {
            let answer: Result<Response, Infallible> = router.oneshot(request.map(Body::new)).await;
            answer.map(|response| response.map(|body| Body::new(Guarded { body, busy })))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time())
        .max_buf_size(limits.head_bytes.max(8192))
        .max_headers(limits.headers)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            _ = closing.changed() => connection.as_mut().graceful_shutdown(),
            () = line.close.notified() => return,
        }
    }
}

/// The open connections.
#[derive(Debug, Default)]
struct Table {
    lines: Mutex<HashMap<u64, Arc<Line>>>,
    next: AtomicU64,
}

/// What is known of a connection.
#[derive(Debug)]
struct Line {
    /// Requests being answered: 0 or 1, more only while one ends and the next begins.
    n_busy: AtomicUsize,
    idle_since: Mutex<Instant>,
    /// When a piece of an answer was handed over and no next one was asked for, as its client reads nothing.
    stalled_since: Mutex<Option<Instant>>,
    close: Notify,
}

impl Line {
    fn stalled_since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.stalled_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn len(&self) -> usize {
        self.lines().len()
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Line>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(self: &Arc<Self>, app: &App) -> Place {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let line = Arc::new(Line {
            n_busy: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            stalled_since: Mutex::new(None),
            close: Notify::new(),
        });
        let mut lines = self.lines();
        lines.insert(id, line.clone());
        app.metrics.connections(lines.len());
        drop(lines);
        Place {
            table: self.clone(),
            app: app.clone(),
            id,
            line,
        }
    }

    /// Closes the connection that has had no request for the longest time, or one that has stalled for longer than `patience`.
    fn make_room(&self, patience: Duration) {
        let mut lines = self.lines();
        let idle = lines
            .iter()
            .filter(|(_, line)| line.n_busy.load(Ordering::Acquire) == 0);
        let idlest = idle.min_by_key(|(_, line)| {
            *line
                .idle_since
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        });
        let stalled = lines.iter().filter_map(|(id, line)| {
            let since = (*line.stalled_since())?;
            (since.elapsed() > patience).then_some((since, *id))
        });
        let idlest = idlest.map(|(id, _)| *id);
        let Some(id) = idlest.or_else(|| stalled.min().map(|(_, id)| id)) else {
            return;
        };
        if let Some(line) = lines.remove(&id) {
            line.close.notify_one();
        }
    }
}

/// A connection's place in the table, given up when dropped.
struct Place {
    table: Arc<Table>,
    app: App,
    id: u64,
    line: Arc<Line>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.table.lines();
        lines.remove(&self.id);
        self.app.metrics.connections(lines.len());
    }
}

/// A request being answered, from its head to the last byte of the answer.
struct Busy(Arc<Line>);

impl Busy {
    fn new(line: Arc<Line>) -> Busy {
        line.n_busy.fetch_add(1, Ordering::AcqRel);
        Busy(line)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *self
            .0
            .idle_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.n_busy.fetch_sub(1, Ordering::AcqRel);
    }
}

/// An answer's body, which keeps its connection busy.
struct Guarded {
    body: Body,
    busy: Busy,
}

impl hyper::body::Body for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        *self.busy.0.stalled_since() = frame.is_ready().then(Instant::now);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
