//! An open adapter: device, queue and limits, with every failure turned into a typed error.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use percept_hal::{Error, Result};

use crate::adapter;
use crate::memory::Pool;
use crate::pipeline::Pipelines;

/// Submissions that may be in flight before the host waits for the oldest; bounds what they keep alive.
const MAX_IN_FLIGHT: usize = 16;

/// An open device of one adapter. It is closed when the driver loses it, and a new one replaces it.
pub(crate) struct Connection {
    /// The device id, for errors.
    pub id: String,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub limits: wgpu::Limits,
    pub features: wgpu::Features,
    /// Distinguishes this connection from those before and after it.
    pub generation: u64,
    pub pipelines: Pipelines,
    pub pool: Pool,
    faults: Arc<Faults>,
    in_flight: Mutex<VecDeque<wgpu::SubmissionIndex>>,
}

/// What callbacks of the driver leave behind.
#[derive(Default)]
struct Faults {
    lost: OnceLock<String>,
    stray: Mutex<Option<String>>,
}

impl Connection {
    /// Open an adapter with its own limits and the features this crate uses.
    pub fn open(id: &str, adapter: &wgpu::Adapter) -> Result<Arc<Self>> {
        let features = adapter::wanted_features(adapter);
        let limits = adapter.limits();
        let experimental_features = if features.intersects(wgpu::Features::all_experimental_mask()) {
            // SAFETY: the one experimental feature requested is cooperative matrices, which only kernels of
            // ours use, within the bounds of their buffers, and only after a product has come out right (see
            // `verify`).
            unsafe { wgpu::ExperimentalFeatures::enabled() }
        } else {
            wgpu::ExperimentalFeatures::disabled()
        };
        let opened = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some(id),
            required_features: features,
            required_limits: limits.clone(),
            experimental_features,
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        }));
        let (device, queue) = opened.map_err(|e| Error::Open {
            id: id.to_string(),
            why: format!("{e}; another program may hold the adapter, or its driver needs an update"),
        })?;
        let faults = Arc::new(Faults::default());
        let sink = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            // A second report of the same loss says nothing new.
            let _ = sink.lost.set(if message.is_empty() { format!("{reason:?}") } else { message });
        });
        let sink = faults.clone();
        device.on_uncaptured_error(Arc::new(move |e| {
            let mut stray = sink.stray.lock().unwrap_or_else(PoisonError::into_inner);
            stray.get_or_insert_with(|| chain(&e));
        }));
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        let info = adapter.get_info();
        let mappable = features.contains(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS)
            && matches!(info.device_type, wgpu::DeviceType::Cpu | wgpu::DeviceType::IntegratedGpu);
        let pipelines = Pipelines::new(&device, &info, features);
        Ok(Arc::new(Self {
            id: id.to_string(),
            pool: Pool::new(mappable),
            pipelines,
            device,
            queue,
            limits,
            features,
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            faults,
            in_flight: Mutex::default(),
        }))
    }

    /// Do something and turn what the driver reports meanwhile into an error that names `op`.
    pub fn guarded<T>(&self, op: &str, f: impl FnOnce() -> T) -> Result<T> {
        self.alive()?;
        let filters =
            [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let out = f();
        let mut error = None;
        for scope in scopes.into_iter().rev() {
            error = pollster::block_on(scope.pop()).or(error);
        }
        match error {
            None => Ok(out),
            Some(e) => Err(self.explain(op, &e)),
        }
    }

    fn explain(&self, op: &str, e: &wgpu::Error) -> Error {
        if let Err(lost) = self.alive() {
            return lost;
        }
        match e {
            wgpu::Error::OutOfMemory { .. } => self.out_of_memory(op, 0, chain(e)),
            _ => Error::Failed { device: self.id.clone(), op: op.to_string(), why: chain(e) },
        }
    }

    pub fn out_of_memory(&self, what: &str, bytes: u64, why: String) -> Error {
        Error::OutOfMemory { device: self.id.clone(), what: what.to_string(), bytes, why }
    }

    /// An error when the driver has lost the device.
    pub fn alive(&self) -> Result<()> {
        match self.faults.lost.get() {
            None => Ok(()),
            Some(why) => Err(Error::Lost { device: self.id.clone(), why: why.clone() }),
        }
    }

    /// The error that no scope caught since the last call, if any.
    pub fn check(&self) -> Result<()> {
        self.alive()?;
        let stray = self.faults.stray.lock().unwrap_or_else(PoisonError::into_inner).take();
        match stray {
            None => Ok(()),
            Some(why) => Err(Error::Failed { device: self.id.clone(), op: String::new(), why }),
        }
    }

    /// Hand commands to the queue; waits while too many submissions are in flight.
    pub fn submit(&self, op: &str, commands: wgpu::CommandBuffer) -> Result<wgpu::SubmissionIndex> {
        let index = self.guarded(op, || self.queue.submit([commands]))?;
        let oldest = {
            let mut queue = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
            queue.push_back(index.clone());
            if queue.len() > MAX_IN_FLIGHT { queue.pop_front() } else { None }
        };
        if let Some(oldest) = oldest {
            self.wait(Some(oldest))?;
        }
        Ok(index)
    }

    /// Wait for a submission, or for all of them.
    pub fn wait(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        self.alive()?;
        let polled = self.device.poll(wgpu::PollType::Wait { submission_index, timeout: None });
        self.alive()?;
        polled.map(|_| ()).map_err(|e| Error::Failed {
            device: self.id.clone(),
            op: String::new(),
            why: format!("waiting for the queue: {e}"),
        })
    }

    /// Give the device up, as a driver that resets would: all memory on it is gone.
    pub fn destroy(&self) {
        self.device.destroy();
        // The loss may only be reported by a poll; without one it is recorded here.
        let _ = self.device.poll(wgpu::PollType::Poll);
        let _ = self.faults.lost.set("closed".into());
    }
}

/// An error with its causes, less the heading that says nothing.
fn chain(e: &dyn std::error::Error) -> String {
    let full = e.to_string();
    let mut text = full.trim_start_matches("Validation Error").replace("Caused by:", "").trim().to_string();
    let mut cause = e.source();
    while let Some(inner) = cause {
        let line = inner.to_string();
        if !text.contains(&line) {
            text = format!("{text}: {line}");
        }
        cause = inner.source();
    }
    text
}
