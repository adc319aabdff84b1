//! Detects servers that send more bytes than they announced.
//!
//! A client of HTTP stops at the announced length, so a body that is longer looks whole although it is cut
//! off. Bytes that follow a body on its connection show it: nothing was requested yet that they could answer.

use std::cell::Cell;
use std::time::Duration;

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// How long bytes may take that were sent along with the end of a body.
const GRACE: Duration = Duration::from_millis(2);

thread_local! {
    // The client reads a body on the thread that requested it and has no other way to say what it saw.
    static EXCESS: Cell<bool> = const { Cell::new(false) };
}

/// Whether more than announced came since the last call, on a connection that this thread used.
pub(super) fn take() -> bool {
    EXCESS.take()
}

/// Puts a [`Watched`] around each connection.
#[derive(Debug)]
pub(super) struct WatchConnector;

impl<In: Transport> Connector<In> for WatchConnector {
    type Out = Watched<In>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| Watched { inner, in_use: false }))
    }
}

/// A connection that looks for excess bytes when the client is through with a body.
#[derive(Debug)]
pub(super) struct Watched<T: Transport> {
    inner: T,
    /// Whether a request was sent since the client last found the connection fit to be kept.
    in_use: bool,
}

impl<T: Transport> Watched<T> {
    fn look(&mut self) {
        if self.inner.buffers().input().is_empty() {
            let after = ureq::unversioned::transport::time::Duration::Exact(GRACE);
            let wait = NextTimeout { after, reason: ureq::Timeout::RecvBody, ..NextTimeout::default() };
            // An error means that nothing came, or that the connection is closed, which is as good.
            let _ = self.inner.await_input(wait);
        }
        // Some old servers end a body with a line feed too many, which does no harm.
        let excess = self.inner.buffers().input().iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
        EXCESS.set(excess);
    }
}

impl<T: Transport> Transport for Watched<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.in_use = true;
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        let open = self.inner.is_open();
        self.in_use &= !open;
        open
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

impl<T: Transport> Drop for Watched<T> {
    fn drop(&mut self) {
        // What a server says to a connection that idles, such as that it closes it, belongs to no body.
        if self.in_use {
            self.look();
        }
    }
}
