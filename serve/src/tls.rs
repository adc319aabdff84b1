//! TLS for connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::error::Error;

/// What speaks TLS with a certificate chain and its key, both PEM.
///
/// # Errors
/// When one of them is none, or they do not belong together.
pub(crate) fn acceptor(chain: &[u8], key: &[u8]) -> Result<TlsAcceptor, Error> {
    let wrong = |why: String| Error::Tls(why);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(format!("the certificate is no PEM: {error}")))?;
    if chain.is_empty() {
        return Err(wrong(
            "the file of the certificate holds none; it begins with -----BEGIN CERTIFICATE-----".into(),
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| wrong(format!("the key is no private key in PEM: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| wrong(format!("certificate and key do not go together: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A connection, with TLS or without.
pub(crate) enum Connection {
    Plain(TcpStream),
    Secret(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// A connection that was accepted, after its handshake where it has one.
    ///
    /// # Errors
    /// When the handshake fails or takes too long.
    pub async fn of(stream: TcpStream, tls: Option<&TlsAcceptor>, time: Duration) -> io::Result<Self> {
        let Some(tls) = tls else { return Ok(Connection::Plain(stream)) };
        let done = timeout(time, tls.accept(stream)).await;
        let stream = done.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(Connection::Secret(Box::new(stream)))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Connection::Secret(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Connection::Secret(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Connection::Secret(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Connection::Secret(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
