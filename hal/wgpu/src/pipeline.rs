//! Compute pipelines by module key, compiled once per connection, and the driver's pipeline cache on disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use percept_hal::Result;
use percept_kernels::Module;

use crate::connection::Connection;
use crate::disk;

/// Bytes of a parameter window, and the distance between two: adapters align dynamic offsets to at most 256
/// bytes.
pub(crate) const PARAMS_BYTES: u64 = 256;

/// A compiled kernel.
#[derive(Clone)]
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    /// Layout of group 0: as many read-write storage buffers as the kernel binds.
    pub buffers: wgpu::BindGroupLayout,
}

/// Every pipeline of a connection.
pub(crate) struct Pipelines {
    loaded: Mutex<HashMap<String, Pipeline>>,
    layouts: Mutex<HashMap<usize, (wgpu::BindGroupLayout, wgpu::PipelineLayout)>>,
    /// Layout of group 1: the parameters, at a dynamic offset.
    pub params: wgpu::BindGroupLayout,
    cache: Option<(wgpu::PipelineCache, PathBuf)>,
    unsaved: AtomicUsize,
}

impl Pipelines {
    pub fn new(device: &wgpu::Device, info: &wgpu::AdapterInfo, features: wgpu::Features) -> Self {
        let params = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("params"),
            entries: &[wgpu::BindGroupLayoutEntry {
                binding: 0,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Uniform,
                    has_dynamic_offset: true,
                    min_binding_size: None,
                },
                count: None,
            }],
        });
        let folder = features.contains(wgpu::Features::PIPELINE_CACHE).then(|| disk::folder(info)).flatten();
        let cache = folder.map(|folder| {
            let path = folder.join("pipelines.bin");
            (open_cache(device, &path), path)
        });
        Self {
            loaded: Mutex::default(),
            layouts: Mutex::default(),
            params,
            cache,
            unsaved: AtomicUsize::new(0),
        }
    }

    /// How many pipelines exist.
    pub fn count(&self) -> usize {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn get(&self, key: &str) -> Option<Pipeline> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// The pipeline of a module, compiled on first use. A `checked` one is for WGSL that is not ours:
    /// accesses out of bounds and endless loops are kept from harm, at a cost.
    pub fn load(
        &self,
        connection: &Connection,
        module: &Module,
        bindings: usize,
        checked: bool,
        op: &str,
    ) -> Result<Pipeline> {
        if let Some(found) = self.get(&module.key) {
            return Ok(found);
        }
        let what = format!("{op} (kernel {})", module.key);
        let pipeline = connection.guarded(&what, || {
            let (buffers, layout) = self.layout(&connection.device, bindings);
            let desc = wgpu::ShaderModuleDescriptor {
                label: Some(&module.key),
                source: wgpu::ShaderSource::Wgsl(module.source.as_ref().into()),
            };
            let shader = if checked {
                connection.device.create_shader_module(desc)
            } else {
                // SAFETY: our own kernels, validated by naga in the tests of their crate, index inside their
                // tensors (each compares its ids with the extents in its parameters), end their loops, and
                // guard divisions.
                unsafe {
                    connection
                        .device
                        .create_shader_module_trusted(desc, wgpu::ShaderRuntimeChecks::unchecked())
                }
            };
            let pipeline = connection.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&module.key),
                layout: Some(&layout),
                module: &shader,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: checked,
                    ..Default::default()
                },
                cache: self.cache.as_ref().map(|(c, _)| c),
            });
            Pipeline { pipeline, buffers }
        })?;
        self.unsaved.fetch_add(1, Ordering::Relaxed);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(loaded.entry(module.key.clone()).or_insert(pipeline).clone())
    }

    fn layout(
        &self,
        device: &wgpu::Device,
        bindings: usize,
    ) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        let made = layouts.entry(bindings).or_insert_with(|| {
            let entries: Vec<_> = (0..bindings as u32)
                .map(|binding| wgpu::BindGroupLayoutEntry {
                    binding,
                    visibility: wgpu::ShaderStages::COMPUTE,
                    ty: wgpu::BindingType::Buffer {
                        ty: wgpu::BufferBindingType::Storage { read_only: false },
                        has_dynamic_offset: false,
                        min_binding_size: None,
                    },
                    count: None,
                })
                .collect();
            let buffers = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: None,
                entries: &entries,
            });
            let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&buffers), Some(&self.params)],
                immediate_size: 0,
            });
            (buffers, layout)
        });
        made.clone()
    }

    /// Write the driver's cache to disk if pipelines were compiled since the last time. A cache that cannot
    /// be written costs time at the next start and nothing else.
    pub fn save(&self) {
        if self.unsaved.swap(0, Ordering::Relaxed) == 0 {
            return;
        }
        let Some((cache, path)) = &self.cache else { return };
        let Some(data) = cache.get_data() else { return };
        if let Err(e) = disk::store(path, &data) {
            tracing::warn!("the pipeline cache {} was not written: {e}", path.display());
        }
    }
}

/// The driver's cache with what the file at `path` holds; with nothing when wgpu finds that it is another
/// adapter's or otherwise unfit, in which case the file is removed. Without this, every pipeline made with
/// the cache would fail.
fn open_cache(device: &wgpu::Device, path: &Path) -> wgpu::PipelineCache {
    let create = |data: Option<&[u8]>| {
        let desc = wgpu::PipelineCacheDescriptor { label: None, data, fallback: true };
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        // SAFETY: the data is what `get_data` gave when a run of this program stored it: the checksum of the
        // file held, so it is whole, and wgpu compares the adapter, the driver's own key and the length in it
        // with this device's before the driver sees it. What is left is trust in the user's own cache folder:
        // whoever can write there on purpose can hand the driver other data, as they could replace this
        // program.
        let cache = unsafe { device.create_pipeline_cache(&desc) };
        (cache, pollster::block_on(scope.pop()))
    };
    let data = disk::load(path);
    let (cache, error) = create(data.as_deref());
    let Some(error) = error else { return cache };
    tracing::warn!("the pipeline cache {} is left aside: {error}", path.display());
    // A file that stays is left aside again at the next start, which costs time and nothing else.
    let _ = std::fs::remove_file(path);
    create(None).0
}
