//! Batches: dispatches with their pipelines, parameters and bind groups made once, encoded into one compute
//! pass per run.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use percept_hal::{Dispatch, Error, Result};

use crate::connection::Connection;
use crate::memory::Memory;
use crate::pipeline::{PARAMS_BYTES, Pipeline};

/// Dispatches ready to be encoded. After the device was lost they are made ready again on the new connection.
pub struct Batch {
    dispatches: Vec<Dispatch>,
    recorded: Mutex<Recorded>,
}

/// What a connection needs to encode a batch.
struct Recorded {
    generation: u64,
    params: Option<wgpu::BindGroup>,
    /// For each dispatch its pipeline and the bind group of the last run.
    kernels: Vec<Kernel>,
}

struct Kernel {
    pipeline: Pipeline,
    /// The blocks bound, by id, and the group that binds them.
    bound: Option<(Vec<u64>, wgpu::BindGroup)>,
}

impl Batch {
    pub(crate) fn record(connection: &Connection, dispatches: Vec<Dispatch>) -> Result<Self> {
        let recorded = Mutex::new(Recorded::new(connection, &dispatches)?);
        Ok(Self { dispatches, recorded })
    }

    /// Encode everything into one compute pass and submit it.
    pub(crate) fn submit(&self, connection: &Connection, memories: &[&Memory]) -> Result<()> {
        memories.iter().try_for_each(|m| m.check(connection))?;
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.refresh(connection, &self.dispatches)?;
        recorded.bind(connection, &self.dispatches, memories)?;
        let encoded = connection.guarded("encoding", || {
            let mut encoder = connection.device.create_command_encoder(&Default::default());
            recorded.encode(&mut encoder, &self.dispatches);
            encoder.finish()
        });
        match encoded.and_then(|commands| connection.submit("submission", commands)) {
            Ok(_) => Ok(()),
            Err(Error::Failed { why, .. }) => Err(self.blame(connection, &recorded, why)),
            Err(e) => Err(e),
        }
    }

    /// Find the operation behind a failed submission by encoding the dispatches one by one.
    fn blame(&self, connection: &Connection, recorded: &Recorded, why: String) -> Error {
        for (at, (d, kernel)) in self.dispatches.iter().zip(&recorded.kernels).enumerate() {
            let tried = connection.guarded(&d.op, || {
                let mut encoder = connection.device.create_command_encoder(&Default::default());
                let mut pass = encoder.begin_compute_pass(&Default::default());
                pass.set_pipeline(&kernel.pipeline.pipeline);
                bind_and_dispatch(&mut pass, d, kernel, recorded.params.as_ref(), at);
                drop(pass);
                encoder.finish()
            });
            if let Err(e) = tried {
                return e;
            }
        }
        Error::Failed { device: connection.id.clone(), op: String::new(), why }
    }

    /// Submit with each dispatch in a pass of its own: timestamps exist at the boundaries of passes only.
    pub(crate) fn submit_timed(
        &self,
        connection: &Connection,
        memories: &[&Memory],
    ) -> Result<Vec<(f64, f64)>> {
        memories.iter().try_for_each(|m| m.check(connection))?;
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.refresh(connection, &self.dispatches)?;
        recorded.bind(connection, &self.dispatches, memories)?;
        connection.wait(None)?;
        let begin = Instant::now();
        let timed = connection.features.contains(wgpu::Features::TIMESTAMP_QUERY);
        let mut times = Vec::new();
        for (at, (d, kernel)) in self.dispatches.iter().zip(&recorded.kernels).enumerate() {
            let clock = if timed { Some(Clock::new(connection, &d.op)?) } else { None };
            let encoded = connection.guarded(&d.op, || {
                let mut encoder = connection.device.create_command_encoder(&Default::default());
                let timestamp_writes = clock.as_ref().map(Clock::around_pass);
                let desc = wgpu::ComputePassDescriptor { label: Some(&d.op), timestamp_writes };
                let mut pass = encoder.begin_compute_pass(&desc);
                pass.set_pipeline(&kernel.pipeline.pipeline);
                bind_and_dispatch(&mut pass, d, kernel, recorded.params.as_ref(), at);
                drop(pass);
                if let Some(clock) = &clock {
                    clock.resolve(&mut encoder);
                }
                encoder.finish()
            })?;
            let start = begin.elapsed().as_secs_f64() * 1e6;
            let index = connection.submit(&d.op, encoded)?;
            connection.wait(Some(index))?;
            let host = begin.elapsed().as_secs_f64() * 1e6 - start;
            let duration = match clock {
                Some(clock) => clock.microseconds(connection)?.min(host),
                None => host,
            };
            times.push((start, duration));
        }
        connection.check()?;
        Ok(times)
    }
}

impl Recorded {
    fn new(connection: &Connection, dispatches: &[Dispatch]) -> Result<Self> {
        compile(connection, dispatches)?;
        let mut kernels = Vec::new();
        let mut params = Vec::new();
        for d in dispatches {
            let pipeline =
                connection.pipelines.load(connection, &d.module, d.bindings.len(), d.checked, &d.op)?;
            kernels.push(Kernel { pipeline, bound: None });
            let start = params.len();
            params.extend(d.params.iter().flat_map(|w| w.to_le_bytes()));
            params.resize(start + PARAMS_BYTES as usize, 0);
        }
        let params = if params.is_empty() { None } else { Some(params_group(connection, &params)?) };
        connection.pipelines.save();
        Ok(Self { generation: connection.generation, params, kernels })
    }

    /// Make everything again if it belongs to a connection that was lost.
    fn refresh(&mut self, connection: &Connection, dispatches: &[Dispatch]) -> Result<()> {
        if self.generation != connection.generation {
            *self = Self::new(connection, dispatches)?;
        }
        Ok(())
    }

    /// Make the bind groups of the dispatches whose memory is not that of the last run.
    fn bind(&mut self, connection: &Connection, dispatches: &[Dispatch], memories: &[&Memory]) -> Result<()> {
        for (d, kernel) in dispatches.iter().zip(&mut self.kernels) {
            let same =
                |ids: &Vec<u64>| d.bindings.iter().map(|w| memories[w.memory].id()).eq(ids.iter().copied());
            if kernel.bound.as_ref().is_some_and(|(ids, _)| same(ids)) {
                continue;
            }
            let entries: Vec<_> = d
                .bindings
                .iter()
                .enumerate()
                .map(|(i, w)| wgpu::BindGroupEntry {
                    binding: i as u32,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer: memories[w.memory].buffer(),
                        offset: w.offset,
                        size: wgpu::BufferSize::new(w.bytes),
                    }),
                })
                .collect();
            let group = connection.guarded(&d.op, || {
                connection.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(&d.op),
                    layout: &kernel.pipeline.buffers,
                    entries: &entries,
                })
            })?;
            kernel.bound = Some((d.bindings.iter().map(|w| memories[w.memory].id()).collect(), group));
        }
        Ok(())
    }

    fn encode(&self, encoder: &mut wgpu::CommandEncoder, dispatches: &[Dispatch]) {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        let mut set: Option<&wgpu::ComputePipeline> = None;
        for (at, (d, kernel)) in dispatches.iter().zip(&self.kernels).enumerate() {
            if set != Some(&kernel.pipeline.pipeline) {
                pass.set_pipeline(&kernel.pipeline.pipeline);
                set = Some(&kernel.pipeline.pipeline);
            }
            bind_and_dispatch(&mut pass, d, kernel, self.params.as_ref(), at);
        }
    }
}

/// Compile the modules that are not compiled yet, side by side.
fn compile(connection: &Connection, dispatches: &[Dispatch]) -> Result<()> {
    let mut keys = HashSet::new();
    let missing: Vec<&Dispatch> = dispatches
        .iter()
        .filter(|d| keys.insert(d.module.key.as_str()) && connection.pipelines.get(&d.module.key).is_none())
        .collect();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(missing.len());
    if threads < 2 {
        return Ok(());
    }
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(d) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
            connection.pipelines.load(connection, &d.module, d.bindings.len(), d.checked, &d.op)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let first = work();
        // A worker cannot panic; if it did, the load below would compile what it left.
        others.into_iter().filter_map(|t| t.join().ok()).fold(first, Result::and)
    })
}

fn bind_and_dispatch(
    pass: &mut wgpu::ComputePass<'_>,
    d: &Dispatch,
    kernel: &Kernel,
    params: Option<&wgpu::BindGroup>,
    at: usize,
) {
    pass.set_bind_group(0, kernel.bound.as_ref().map(|(_, group)| group), &[]);
    pass.set_bind_group(1, params, &[(at as u64 * PARAMS_BYTES) as u32]);
    pass.dispatch_workgroups(d.groups[0], d.groups[1], d.groups[2]);
}

/// One uniform buffer with the parameters of every dispatch.
fn params_group(connection: &Connection, bytes: &[u8]) -> Result<wgpu::BindGroup> {
    connection.guarded("parameters", || {
        let buffer = connection.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: bytes.len() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        connection.queue.write_buffer(&buffer, 0, bytes);
        connection.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("params"),
            layout: &connection.pipelines.params,
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &buffer,
                    offset: 0,
                    size: wgpu::BufferSize::new(PARAMS_BYTES),
                }),
            }],
        })
    })
}

/// Two timestamps around a pass.
struct Clock {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    read: wgpu::Buffer,
}

impl Clock {
    fn new(connection: &Connection, op: &str) -> Result<Self> {
        let buffer = |usage| {
            let desc = wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: false };
            connection.device.create_buffer(&desc)
        };
        connection.guarded(op, || Self {
            queries: connection.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            read: buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
        })
    }

    fn around_pass(&self) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        }
    }

    fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.queries, 0..2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.read, 0, 16);
    }

    /// The time between the two, after the submission has finished.
    fn microseconds(&self, connection: &Connection) -> Result<f64> {
        connection
            .guarded("reading timestamps", || self.read.slice(..).map_async(wgpu::MapMode::Read, |_| ()))?;
        connection.wait(None)?;
        let view = self.read.slice(..).get_mapped_range().map_err(|e| Error::Failed {
            device: connection.id.clone(),
            op: "reading timestamps".into(),
            why: e.to_string(),
        })?;
        let ticks: Vec<u64> =
            view.chunks_exact(8).map(|c| c.iter().rev().fold(0, |a, &b| a << 8 | b as u64)).collect();
        let elapsed = ticks.last().unwrap_or(&0).saturating_sub(*ticks.first().unwrap_or(&0));
        Ok(elapsed as f64 * connection.queue.get_timestamp_period() as f64 / 1e3)
    }
}
