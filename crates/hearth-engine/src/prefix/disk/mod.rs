//! Pages in files, which outlive the process.
//!
//! One folder for all models, in it one for each identity (model and settings), in that one file for each page. There
//! is no index: the name of a file follows from the key, so what another process wrote is found as well. Files
//! are read where the engine needs them, straight into the pages of the pool; everything else happens on a
//! thread. Whatever fails, requests go on without the files.

mod evict;
mod file;
mod folder;
mod writer;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use hearth_model::PageLayout;

pub(super) use file::{OpenPage, ReadError};
use folder::Root;
use writer::{News, Order, Signals, Writer};

use super::{
    DiskOptions,
    chain::{Key, Link},
    header::Header,
    identity::{ModelIdentity, Remembered},
};

/// Copies of pages that wait to be written take at most this much memory.
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// Copies whose memory is kept for the next ones.
const MAX_SPARE: usize = 2;

/// Threads that read at the same time, and bytes from which on they pay.
const MAX_READERS: usize = 4;
const MIN_THREADED_BYTES: usize = 4 << 20;

/// The files of one model.
#[derive(Debug)]
struct Model {
    file: Key,
    folder: PathBuf,
    identity: Key,
}

/// The side of the files that the engine's thread sees.
#[derive(Debug)]
pub(super) struct Disk {
    identity: ModelIdentity,
    layout: PageLayout,
    root: PathBuf,
    /// None until the model is known.
    model: Option<Model>,
    signals: Arc<Signals>,
    orders: Option<Sender<Order>>,
    news: Receiver<News>,
    thread: Option<JoinHandle<()>>,
    n_queued: usize,
    /// Memory of copies that were written.
    spare: Vec<Vec<u8>>,
    /// Why nothing is written any more.
    notice: Option<String>,
    pub n_written: u64,
}

impl Disk {
    /// Opens the folder and starts the thread.
    pub(super) fn open(
        identity: &ModelIdentity,
        layout: &PageLayout,
        options: &DiskOptions,
    ) -> io::Result<Disk> {
        let root = Root::open(options)?;
        let remembered = Remembered::read(&root.remembered());
        let certain = identity
            .stamp()
            .and_then(|stamp| remembered.by_stamp(stamp));
        let likely = certain.or_else(|| remembered.by_quick(identity.quick()));
        let signals = Arc::new(Signals::default());
        let ((orders, inbox), (outbox, news)) = (mpsc::channel(), mpsc::channel());
        let mut disk = Disk {
            identity: identity.clone(),
            layout: layout.clone(),
            root: root.path().to_owned(),
            model: None,
            signals: signals.clone(),
            orders: Some(orders),
            news,
            thread: None,
            n_queued: 0,
            spare: Vec::new(),
            notice: None,
            n_written: 0,
        };
        disk.model = likely.map(|file| disk.model_of(file));
        let writer = Writer {
            root,
            unknown: certain.is_none().then(|| identity.clone()),
            signals,
            news: outbox,
        };
        let thread = thread::Builder::new()
            .name("hearth-pages".to_owned())
            .spawn(move || writer.run(&inbox))?;
        disk.thread = Some(thread);
        Ok(disk)
    }

    fn model_of(&self, file: Key) -> Model {
        let identity = self.identity.with(file, &self.layout);
        Model {
            file,
            folder: self.root.join(identity.to_string()),
            identity,
        }
    }

    #[cfg(test)]
    pub(super) fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// Whether pages are being written, now or once the model is known.
    pub(super) fn is_writing(&self) -> bool {
        self.notice.is_none()
    }

    /// Whether a further page can be handed over at once.
    pub(super) fn can_write(&self) -> bool {
        let n_most = (MAX_QUEUED_BYTES / self.layout.page_bytes()).max(1);
        self.is_writing() && self.model.is_some() && self.n_queued < n_most
    }

    /// Hands a page over to be written.
    pub(super) fn write(&mut self, root: Key, link: Link, body: &[u8]) {
        let Some((path, header)) = self.place(root, &link) else {
            return;
        };
        // New memory costs more than the copy.
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(body);
        self.n_queued += 1;
        self.order(Order::Store {
            path,
            header: Box::new(header),
            body: copy,
        });
    }

    /// Notes that a page was used, wherever it was found.
    pub(super) fn touch(&mut self, root: Key, link: &Link) {
        if let Some((path, _)) = self.place(root, link) {
            self.order(Order::Touch(path));
        }
    }

    /// Where a page lies, and what its head says but for the body's checksum.
    fn place(&self, root: Key, link: &Link) -> Option<(PathBuf, Header)> {
        let model = self.model.as_ref()?;
        let path = model.folder.join(evict::name(link.key, link.parent));
        let header = Header {
            page_format: self.layout.kv_type().page_format(),
            body_bytes: self.layout.page_bytes() as u64,
            body_checksum: 0,
            identity: model.identity,
            root,
            link: link.clone(),
        };
        Some((path, header))
    }

    /// The file of a page, if there is one that can be used.
    pub(super) fn open_page(&mut self, root: Key, link: &Link) -> Option<OpenPage> {
        let (path, header) = self.place(root, link)?;
        match OpenPage::open(path, &header) {
            Ok(page) => Some(page),
            Err((path, error)) => {
                self.refuse(path, &error);
                None
            }
        }
    }

    /// Reads files into pages; returns how many of them, from the first one on, could be read.
    pub(super) fn read(&mut self, files: Vec<OpenPage>, bodies: Vec<&mut [u8]>) -> usize {
        let n_bytes: usize = bodies.iter().map(|body| body.len()).sum();
        let n_readers = match thread::available_parallelism() {
            Ok(n) if n_bytes >= MIN_THREADED_BYTES => n.get().min(MAX_READERS),
            _ => 1,
        };
        let results = read_all(files, bodies, n_readers);
        let n_read = results
            .iter()
            .take_while(|(_, result)| result.is_ok())
            .count();
        for (path, result) in results {
            if let Err(error) = result {
                self.refuse(path, &error);
            }
        }
        n_read
    }

    /// Tells why a file is not used, and has it removed if it is a damaged one of ours.
    fn refuse(&mut self, path: PathBuf, error: &ReadError) {
        match error {
            ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound => {}
            ReadError::File(damage) if damage.is_damage() => {
                tracing::warn!(path = %path.display(), %error, "a damaged page file is removed");
                self.order(Order::Remove(path));
            }
            error => tracing::warn!(path = %path.display(), %error, "a page file is ignored"),
        }
    }

    fn order(&mut self, order: Order) {
        let is_heard = |orders: &Sender<Order>| orders.send(order).is_ok();
        if !self.orders.as_ref().is_some_and(is_heard) {
            self.switch_off("the thread that writes pages has ended");
        }
    }

    /// Takes what the thread has told; false if pages that were read before may be of another model.
    pub(super) fn settle(&mut self) -> bool {
        let mut is_same = true;
        while let Ok(news) = self.news.try_recv() {
            is_same &= self.hear(news);
        }
        is_same
    }

    /// Waits until the thread has told something; false as in [`Disk::settle`], none when `until` has come.
    pub(super) fn wait(&mut self, until: Instant) -> Option<bool> {
        self.signals.is_urgent.store(true, Ordering::Relaxed);
        let patience = until.saturating_duration_since(Instant::now());
        match self.news.recv_timeout(patience) {
            Ok(news) => Some(self.hear(news)),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                self.switch_off("the thread that writes pages has ended");
                None
            }
        }
    }

    /// Whether something that was ordered, or the model's hash, is not there yet.
    pub(super) fn is_busy(&self) -> bool {
        self.is_writing() && (self.n_queued > 0 || self.model.is_none())
    }

    fn hear(&mut self, news: News) -> bool {
        match news {
            News::Model(file) => {
                let model = self.model_of(file);
                let before = self.model.replace(model);
                return before.is_none_or(|model| model.file == file);
            }
            News::Done { body, is_written } => {
                self.n_queued -= 1;
                self.n_written += u64::from(is_written);
                if self.spare.len() < MAX_SPARE {
                    self.spare.push(body);
                }
            }
            News::Off(reason) => self.switch_off(&reason),
        }
        true
    }

    #[cfg(test)]
    pub(super) fn model_file(&self) -> Option<Key> {
        Some(self.model.as_ref()?.file)
    }

    fn switch_off(&mut self, reason: &str) {
        if self.notice.is_none() {
            tracing::warn!(folder = %self.root.display(), reason, "prefixes are no longer written to disk");
            self.notice = Some(reason.to_owned());
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.signals.is_over.store(true, Ordering::Relaxed);
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has written what it wrote; there is nothing to add here.
            let _ = thread.join();
        }
    }
}

/// Reads each file into its page: the path, and how it went, in order. Fewer where the system has no more threads.
fn read_all(
    mut files: Vec<OpenPage>,
    mut bodies: Vec<&mut [u8]>,
    n_readers: usize,
) -> Vec<(PathBuf, Result<(), ReadError>)> {
    let n_each = files.len().div_ceil(n_readers).max(1);
    let shares = files.chunks_mut(n_each).zip(bodies.chunks_mut(n_each));
    let results: Vec<_> = if n_readers == 1 {
        shares
            .flat_map(|(files, bodies)| read_share(files, bodies))
            .collect()
    } else {
        thread::scope(|scope| {
            let readers: Vec<_> = shares
                .map_while(|(files, bodies)| {
                    let read = move || read_share(files, bodies);
                    thread::Builder::new().spawn_scoped(scope, read).ok()
                })
                .collect();
            let join = |reader: thread::ScopedJoinHandle<'_, Vec<_>>| {
                reader.join().expect("reading a file does not panic")
            };
            readers.into_iter().flat_map(join).collect()
        })
    };
    let paths = files.into_iter().map(|file| file.path);
    paths.zip(results).collect()
}

fn read_share(files: &mut [OpenPage], bodies: &mut [&mut [u8]]) -> Vec<Result<(), ReadError>> {
    let pairs = files.iter_mut().zip(bodies);
    pairs.map(|(file, body)| file.read(body)).collect()
}
