//! The server: it listens, serves connections, and ends without cutting answers off.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::app::{Administration, App, BODY_UNIT, Phase, Shared};
use crate::error::Error;
use crate::failure::Failure;
use crate::io::Timed;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::models::{Load, Registry, Source};
use crate::options::{Admin, Options};
use crate::router::router;
use crate::tls::{Connection, acceptor};

/// Bytes of a request's line and headers.
const HEADER_BYTES: usize = 64 << 10;
/// Headers of a request.
const HEADERS: usize = 100;
/// For what ended answers still have to be told, after the grace.
const FAREWELL: Duration = Duration::from_secs(2);
/// Between tries to accept where the system has no room for a connection.
const NO_ROOM: Duration = Duration::from_millis(50);
/// Connections over the bound that are told so at the same time.
const TURNED_AWAY: usize = 256;
/// For a client over the bound to read that it is turned away.
const TURN_AWAY_TIME: Duration = Duration::from_secs(2);

/// A server that listens.
pub struct Server {
    app: Shared,
    router: Router,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    loads: Vec<Load>,
    phase: watch::Sender<Phase>,
}

impl Server {
    /// Listens on an address, and begins to load the models.
    ///
    /// # Errors
    /// When an option is wrong, the address is taken, or a model has no name of its own.
    pub async fn start(sources: Vec<Source>, address: &str, options: Options) -> Result<Self, Error> {
        let admin = options.admin.map(|admin| administration(admin, &options.keys)).transpose()?;
        let tls = options.tls.as_ref().map(|(chain, key)| acceptor(chain, key)).transpose()?;
        let listen = |source| Error::Listen { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let (registry, loads) = Registry::start(sources, &options.limits, options.log.clone())?;
        let (phase, received) = watch::channel(Phase::Serving);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let app = Arc::new(App {
            registry,
            keys: Keys::new(&options.keys),
            metrics: Metrics::default(),
            draft: options.draft,
            fetch: options.fetch,
            log: options.log,
            admin,
            phase: received,
            bodies: Arc::new(Semaphore::new(options.limits.bodies / BODY_UNIT)),
            preparing: Arc::new(Semaphore::new(cores)),
            limits: options.limits,
        });
        let router = router(app.clone(), &options.origins)?;
        Ok(Self { app, router, listener, tls, loads, phase })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is done, and then until what runs has ended or the grace is over. `ready` is called when all
    /// models are loaded.
    ///
    /// # Errors
    /// When a model cannot be loaded.
    pub async fn run(self, ready: impl FnOnce(), stop: impl Future<Output = ()>) -> Result<(), Error> {
        let Self { app, router, listener, tls, loads, phase } = self;
        let mut connections = JoinSet::new();
        let room = Arc::new(Semaphore::new(app.limits.connections));
        let away = Arc::new(Semaphore::new(TURNED_AWAY));
        let service = TowerToHyperService::new(router);
        let loaded = async {
            for load in loads {
                // A thread that ended without a word panicked.
                let lost = |_| Error::Setting("a model's thread ended while it loaded the model".into());
                load.await.map_err(lost)??;
            }
            Ok::<_, Error>(())
        };
        let (mut ready, mut loading) = (Some(ready), true);
        tokio::pin!(stop, loaded);
        let mut result = Ok(());
        loop {
            tokio::select! {
                () = &mut stop => break,
                done = &mut loaded, if loading => {
                    loading = false;
                    match (done, ready.take()) {
                        (Ok(()), Some(ready)) => ready(),
                        (Ok(()), None) => {}
                        (Err(error), _) => {
                            result = Err(error);
                            break;
                        }
                    }
                }
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else {
                        sleep(NO_ROOM).await;
                        continue;
                    };
                    let tls = tls.clone();
                    let Ok(permit) = room.clone().try_acquire_owned() else {
                        // With too many of those as well, a connection is closed, and that says it too.
                        let Ok(permit) = away.clone().try_acquire_owned() else { continue };
                        connections.spawn(async move {
                            // A client that does not listen is let go of.
                            let _ = timeout(TURN_AWAY_TIME, turn_away(stream, tls.as_ref())).await;
                            drop(permit);
                        });
                        continue;
                    };
                    let (app, service) = (app.clone(), service.clone());
                    connections.spawn(async move {
                        app.metrics.connections(1);
                        serve(&app, stream, service, tls.as_ref()).await;
                        app.metrics.connections(-1);
                        drop(permit);
                    });
                }
                // Ended connections are let go of.
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        // Nobody but this function could have closed the channel, here and below.
        let _ = phase.send(Phase::Draining);
        let mut all = async |time: Duration| {
            timeout(time, async { while connections.join_next().await.is_some() {} }).await.is_ok()
        };
        let ended = result.is_err() || all(app.limits.grace).await;
        let _ = phase.send(Phase::Ending);
        app.registry.stop();
        if !ended {
            all(FAREWELL).await;
        }
        // A thread ends after its step; a long one is not waited for.
        let registry = app.registry.clone();
        let _ = timeout(FAREWELL, tokio::task::spawn_blocking(move || registry.join())).await;
        result
    }
}

/// Who may load and unload models: nobody whose key asks for answers.
fn administration(admin: Admin, keys: &[String]) -> Result<Administration, Error> {
    if admin.keys.is_empty() {
        return Err(Error::Setting("whoever loads and unloads models needs a key, and there is none".into()));
    }
    if admin.keys.iter().any(|key| keys.contains(key)) {
        let why = "an admin key is an API key too; give those who load and unload models keys of their own";
        return Err(Error::Setting(why.into()));
    }
    Ok(Administration { keys: Keys::new(&admin.keys), open: admin.open })
}

/// Tells a client that there is no room for its connection, and waits until it has read that.
///
/// # Errors
/// When the client is gone, or its handshake fails.
async fn turn_away(stream: TcpStream, tls: Option<&TlsAcceptor>) -> std::io::Result<()> {
    let failure = Failure::unavailable("the server has as many connections as it takes; try again later", 1);
    let body = failure.openai().to_string();
    let response = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = Connection::of(stream, tls, TURN_AWAY_TIME).await?;
    connection.write_all(response.as_bytes()).await?;
    connection.shutdown().await?;
    // A connection that is closed before its request is read is reset, and the client may lose the response. So the
    // request is read, as far as headers go.
    let mut request = (&mut connection).take(HEADER_BYTES as u64);
    tokio::io::copy(&mut request, &mut tokio::io::sink()).await?;
    Ok(())
}

/// Serves one connection until it ends, or the server does and its request is answered.
async fn serve(
    app: &Shared,
    stream: TcpStream,
    service: TowerToHyperService<Router>,
    tls: Option<&TlsAcceptor>,
) {
    // Pieces of a stream are not held back to be sent together.
    let _ = stream.set_nodelay(true);
    let limits = &app.limits;
    let Ok(connection) = Connection::of(stream, tls, limits.header_time).await else { return };
    let io = TokioIo::new(Timed::new(connection, limits.write_time));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header_time);
    builder.max_buf_size(HEADER_BYTES).max_headers(HEADERS);
    let connection = builder.serve_connection(io, service);
    tokio::pin!(connection);
    let mut phase = app.phase.clone();
    let stops = async {
        // The value is let go of at once: it is a lock.
        let _ = phase.wait_for(|phase| *phase != Phase::Serving).await.map(|phase| *phase);
    };
    tokio::select! {
        // What is wrong with a connection is no fault of the server's, and was answered where it could be.
        _ = connection.as_mut() => return,
        () = stops => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
