//! Requests that are understood and not answered, for those who test what hostile ones do.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::api::{chat, completions, messages, ollama, responses};
use crate::app::{App, BODY_UNIT, Phase, Shared};
use crate::error::Error;
use crate::failure::Failure;
use crate::fields::Fields;
use crate::keys::Keys;
use crate::media::Fetched;
use crate::metrics::Metrics;
use crate::models::{Registry, Source};
use crate::options::Limits;

/// Understands the bodies of requests as a server does, with no connection and no answer.
pub struct Understanding {
    app: Shared,
}

impl Understanding {
    /// The endpoints whose bodies it understands.
    pub const PATHS: [&str; 6] = [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/api/chat",
        "/api/generate",
    ];

    /// Of requests to these models, which are loaded before it returns.
    ///
    /// # Errors
    /// When a model cannot be loaded.
    pub fn of(sources: Vec<Source>, limits: Limits) -> Result<Self, Error> {
        let (registry, loads) = Registry::start(sources, &limits, None)?;
        for load in loads {
            let lost = |_| Error::Setting("a model's thread ended while it loaded the model".into());
            load.blocking_recv().map_err(lost)??;
        }
        let (_, phase) = watch::channel(Phase::Serving);
        let app = Arc::new(App {
            registry,
            keys: Keys::new(&[]),
            metrics: Metrics::default(),
            draft: None,
            fetch: None,
            log: None,
            admin: None,
            phase,
            bodies: Arc::new(Semaphore::new(limits.bodies / BODY_UNIT)),
            preparing: Arc::new(Semaphore::new(1)),
            limits,
        });
        Ok(Self { app })
    }

    /// Does with the body of a request to one of [`Understanding::PATHS`] all that a server does before a model is given it.
    ///
    /// # Errors
    /// When the server would refuse it.
    pub fn read(&self, path: &str, body: &[u8]) -> Result<(), Failure> {
        let (app, fields) = (&self.app, Fields::of_body(body)?);
        let asked = match path {
            "/v1/chat/completions" => chat::parse(app, fields).map(|ask| ask.asked),
            "/v1/completions" => completions::asked(app, fields),
            "/v1/responses" => responses::parse(app, fields).map(|ask| ask.asked),
            "/v1/messages" => messages::parse(app, fields).map(|ask| ask.asked),
            "/api/chat" => ollama::parse_chat(app, fields).map(|ask| ask.asked),
            "/api/generate" => ollama::parse_generate(app, fields).map(|ask| ask.asked),
            _ => Err(Failure::not_found(format!("{path} has no body that is understood"))),
        };
        asked?.prepared(app, &Fetched::new()).map(|_| ())
    }
}

impl Drop for Understanding {
    fn drop(&mut self) {
        self.app.registry.stop();
        self.app.registry.join();
    }
}
